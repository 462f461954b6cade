"""Specialist teacher: a teacher that learned on a small clean set guides a student that learns on all of the biased one.

1. A model is trained by ERM; the teacher is that model trained on for ``teacher_epochs`` on ``adapt``, which is
   unbiased.
2. A student is trained from scratch on the training set. It minimises (1 - ``share``) times the cross-entropy of the
   labels plus ``share`` times T^2 KL(teacher || student) of the outputs at temperature T, plus ``depth`` times the same
   divergence between the teacher and a linear probe of the student's features, which is trained along.

Source: Boland et al. 2025 (MELBA 2025:020, arXiv 2511.17421), "Preventing shortcut learning through intermediate layer
    knowledge distillation from specialist teachers", section 3 as summarised; temperature: Hinton et al. 2015, section
    2.
Deviations: one intermediate layer, the input of the last one, where the paper takes several; an epoch on ``adapt`` has
    as many steps as that set allows; the teacher starts from ERM on the training set, not from published weights.
Needs: images and labels of the ``adapt`` partition; no attributes.
"""

import torch
from torch.nn.functional import cross_entropy, kl_div

from robustbench_spur import (
    Batch,
    Classifier,
    Hyperparameters,
    LogUniform,
    Share,
    Stage,
    Task,
    Uniform,
    View,
    parameter,
)
from robustbench_spur.methods.erm import ERM


class SpecialistTeacherHyperparameters(Hyperparameters):
    """Settings of the distillation."""

    teacher_epochs: int = parameter(
        Share(1.0, "epochs"), "epochs of the teacher on the clean set", at_least=1, search=Uniform(4, 24)
    )
    share: float = parameter(
        0.9, "weight of the teacher against the labels", at_least=0, at_most=1, search=Uniform(0.5, 1.0)
    )
    depth: float = parameter(0.5, "weight of the divergence at the features", at_least=0, search=LogUniform(1e-2, 1e1))
    temperature: float = parameter(2.0, "temperature T of both outputs", above=0, search=LogUniform(1.0, 8.0))


class SpecialistTeacher(ERM):
    """Distillation from a teacher that was trained on unbiased images."""

    name = "specialist_teacher"
    version = 1
    summary = "distils a teacher that learned on a small clean set"
    source = (
        "Boland et al. 2025, Preventing shortcut learning through intermediate layer knowledge distillation, section 3"
    )
    needs = ("adapt",)
    every_group_in = ("adapt",)
    Hyperparameters = SpecialistTeacherHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train the teacher on the clean set, then the student on its outputs."""
        teacher = task.train(
            self, phase="teacher", epochs=self.hyper.teacher_epochs, start=task.train(ERM()), on=("adapt",)
        )
        return task.train(self, given=task.outputs(teacher, "train"))

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """A probe of the student's features."""
        return {} if self.phase == "teacher" else {"probe": torch.nn.Linear(model.width, train.classes)}

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The teacher's: cross-entropy. The student's: that, and the divergences from the teacher."""
        if self.phase == "teacher":
            return cross_entropy(model(batch.images), batch.labels)
        features = model.features(batch.images)
        logits, teacher = model.head(features), self.tensors["logits"][batch.rows]
        final = self.divergence(teacher, logits)
        inner = self.divergence(teacher, self.beside["probe"](features))
        share: float = self.hyper.share
        depth: float = self.hyper.depth
        return (1 - share) * cross_entropy(logits, batch.labels) + share * final + depth * inner

    def divergence(self, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        """T^2 KL(teacher || student) at temperature T, mean over the batch."""
        heat: float = self.hyper.temperature
        soft, target = (student / heat).log_softmax(1), (teacher / heat).log_softmax(1)
        return heat**2 * kl_div(soft, target, reduction="batchmean", log_target=True)
