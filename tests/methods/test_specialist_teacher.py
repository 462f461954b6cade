"""Distillation from a specialist: its divergence against numpy, and its stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.specialist_teacher import SpecialistTeacher, SpecialistTeacherHyperparameters
from robustbench_spur.parameters import Training
from tests.methods.toy import batch_of, linear, partition, task_of, view_of


def kl(teacher: np.ndarray, student: np.ndarray, heat: float) -> float:
    target = softmax(teacher / heat, axis=1)
    logs = log_softmax(teacher / heat, axis=1) - log_softmax(student / heat, axis=1)
    return heat**2 * float((target * logs).sum(axis=1).mean())


def method_of(**hyper: float) -> SpecialistTeacher:
    return SpecialistTeacher(SpecialistTeacherHyperparameters(teacher_epochs=1, **hyper))


def test_divergence_against_numpy() -> None:
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 5, 3))
    for heat in (1.0, 2.5):
        found = method_of(temperature=heat).divergence(torch.from_numpy(teacher), torch.from_numpy(student))
        assert float(found) == pytest.approx(kl(teacher, student, heat))
    assert float(method_of().divergence(torch.from_numpy(teacher), torch.from_numpy(teacher))) == pytest.approx(0)


def test_the_students_loss_by_hand() -> None:
    method = method_of(share=0.7, depth=0.3, temperature=2.0)
    view, model = view_of(method, partition([0, 1, 1], [0, 0, 0])), linear(2)
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(model.head.weight, generator=generator)
    probe = torch.nn.Linear(4, 2)
    torch.nn.init.normal_(probe.weight, generator=generator)
    method.beside = {"probe": probe}
    teacher = np.array([[2.0, -1], [0, 3], [1, 1]], np.float32)
    method.tensors = {"logits": torch.from_numpy(teacher)}
    images = torch.rand(2, 1, 2, 2, generator=generator)
    features = (images.numpy().reshape(2, 4) - 0.3) / 0.25
    logits = features @ model.head.weight.detach().numpy().T
    inner = features @ probe.weight.detach().numpy().T + probe.bias.detach().numpy()
    rows = [2, 0]
    hard = -log_softmax(logits, axis=1)[[0, 1], [1, 0]].mean()
    expected = 0.3 * hard + 0.7 * kl(teacher[rows], logits, 2.0) + 0.3 * kl(teacher[rows], inner, 2.0)
    assert float(method.loss(model, batch_of(view, rows, images)).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_teacher_learns_by_cross_entropy() -> None:
    method = method_of()
    method.phase = "teacher"
    view, model = view_of(method, partition([0, 1], [0, 0])), linear(2)
    batch = batch_of(view, [0, 1], torch.rand(2, 1, 2, 2))
    assert float(method.loss(model, batch).detach()) == float(ERM().loss(model, batch).detach())
    assert method.modules(model, view) == {}


def test_teacher_on_adapt_from_erm_and_student_from_scratch() -> None:
    method = SpecialistTeacher(SpecialistTeacherHyperparameters().resolved(Training(epochs=6)))
    student = method.fit(task_of(method, training=Training(epochs=6)))
    teacher = student.parents[2].parents[0]
    assert (teacher.spec["trajectory"]["on"], teacher.spec["epochs"]) == (["adapt"], 6)
    assert teacher.spec["trajectory"]["start"] == ERM().fit(task_of(ERM(), training=Training(epochs=6))).key
    assert "start" not in student.spec["trajectory"] and "on" not in student.spec["trajectory"]
    assert student.parents[2].spec["partition"] == "train"
