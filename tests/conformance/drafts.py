"""Faulty drafts: each is sound but for one thing."""

from __future__ import annotations

from textwrap import dedent, indent

from robustbench_spur.conformance import behaviour as asked

TOP = '''"""A draft for the tests of the kit.

Source: made up.
Deviations: none known.
Needs: labels only.
"""

import numpy as np
import torch
from pydantic import field_validator
from torch.nn.functional import cross_entropy

from robustbench_spur import Hyperparameters, LogUniform, Sampling, parameter
from robustbench_spur.methods.erm import ERM
from robustbench_spur.types import HiddenError


class DraftHyperparameters(Hyperparameters):
    """Settings."""

    strength: float = parameter(0.1, "weight of something that is added", above=0, search=LogUniform(1e-2, 1.0))


class Draft(ERM):
    """A draft."""

    name = "draft"
    version = 1
    summary = "a draft for tests"
    source = "made up"
    needs = ()
    Hyperparameters = DraftHyperparameters
'''


def with_body(body: str) -> str:
    """The draft with methods of its own."""
    return f"{TOP}\n{indent(dedent(body).strip(), '    ')}\n"


def validated(function: str) -> str:
    """What replaces the begin of the draft's class, so that a function is applied to its setting before all else."""
    return f"\n    _mend = field_validator('strength', mode='before')({function})\n\n\nclass Draft("


CLASS = "\n\n\nclass Draft("
IDENTITY = "summary, source, version and needs"
VALUES = "bad values of settings"

STATED = [
    ("Source: made up.\n", "", "docstring", "found no Source"),
    ("Deviations: none known.\n", "", "docstring", "found no Deviations"),
    ("Needs: labels only.\n", "", "docstring", "found no Needs"),
    ("for the tests of the kit.", "for the tests of the kit", "docstring", "full stop"),
    ('summary = "a draft for tests"', 'summary = ""', IDENTITY, "Expected summary"),
    ('    source = "made up"\n', "", IDENTITY, "Expected source"),
    ("version = 1", "version = 0", IDENTITY, "at least 1, found 0"),
    ("needs = ()", 'needs = ()\n    every_group_in = ("test",)', IDENTITY, "every_group_in among"),
    ('"weight of something that is added"', '"weight"', "settings", "doc line for the setting strength"),
    ("parameter(0.1,", "parameter(-0.1,", "settings", "strength=-0.1"),
    ("LogUniform(1e-2, 1.0)", "LogUniform(0.0, 1.0)", "settings", "strength=0.0"),
    ("needs = ()", 'needs = ()\n    presets = {"paper": {"strength": -1.0}}', "settings", "strength=-1.0"),
    (
        "Hyperparameters = DraftHyperparameters",
        "Hyperparameters = type('Made', (DraftHyperparameters,), {'__module__': __name__})",
        "settings",
        "annotated in the method's file",
    ),
    (CLASS, validated("lambda value: 0.5"), VALUES, "Expected strength=0.0 to be refused, found it accepted"),
    (CLASS, validated("lambda value: {0.1: 0.1, 0.01: 0.01, 1.0: 1.0}[value]"), VALUES, "found KeyError"),
]
"""What is replaced in the draft, by what, the check that fails, and what it says."""

BODIES = {
    "undeclared attributes": (
        """
        def loss(self, model, batch):
            return super().loss(model, batch) + 0 * batch.attributes.sum()
        """,
        asked.REACH,
        "draft read group labels that it did not declare",
    ),
    "undeclared attributes, if they can be had": (
        """
        def start(self, train):
            try:
                train.groups
            except HiddenError:
                pass
        """,
        asked.REACH,
        "found those of train asked for",
    ),
    "the test partition": (
        """
        def fit(self, task):
            model = task.train(self)
            task.outputs(model, "test")
            return model
        """,
        asked.REACH,
        "asked for partition 'test'",
    ),
    "numpy's global generator": (
        """
        def sampling(self, train):
            return Sampling(weights=np.random.random(len(train)))
        """,
        asked.GLOBAL,
        "whatever the state of the global generators, found others",
    ),
    "a global generator that is drawn from in vain": (
        """
        def start(self, train):
            np.random.random()
        """,
        asked.GLOBAL,
        "found them moved",
    ),
    "a generator without a seed": (
        """
        def sampling(self, train):
            return Sampling(weights=np.random.default_rng().random(len(train)))
        """,
        asked.SAME,
        "Draw from view.generator()",
    ),
    "a counter outside the state": (
        """
        def loss(self, model, batch):
            self.count = getattr(self, "count", 0) + 1
            return cross_entropy(model(batch.images), batch.labels) * self.count
        """,
        asked.RESUMED,
        "self.state",
    ),
    "an error after a resumption": (
        """
        def loss(self, model, batch):
            self.count = getattr(self, "count", 0) + 1
            if batch.epoch >= 1 and self.count < 4:
                raise RuntimeError("too early")
            return super().loss(model, batch)
        """,
        asked.RESUMED,
        "found an error: train draft, 2 epochs, seed 0: RuntimeError: too early",
    ),
    "one class in a batch": (
        """
        def loss(self, model, batch):
            losses = cross_entropy(model(batch.images), batch.labels, reduction="none")
            return losses[batch.labels == 0].mean() + losses[batch.labels > 0].mean()
        """,
        asked.HARD,
        "DivergedError: the training loss of draft became nan in epoch 1",
    ),
    "two classes only": (
        """
        def loss(self, model, batch):
            return cross_entropy(model(batch.images)[:, :2], batch.labels)
        """,
        asked.WIDE,
        "Target 2 is out of bounds",
    ),
    "an empty group": (
        """
        def start(self, train):
            if train.classes == 2 and len(np.unique(train.clusters)) < len(train):
                1 / 0
        """,
        asked.EMPTY,
        "ZeroDivisionError: division by zero",
    ),
    "nothing follows from the seed": (
        """
        def loss(self, model, batch):
            return 0 * cross_entropy(model(batch.images), batch.labels)

        def prepare(self, model):
            torch.nn.init.zeros_(model.head.weight)
            torch.nn.init.zeros_(model.head.bias)
        """,
        asked.SEEDS,
        "found the same",
    ),
    "a last layer for other classes": (
        """
        def prepare(self, model):
            model.head = torch.nn.Linear(model.width, 5)
        """,
        asked.RUNS,
        "Expected logits of 2 classes on train, found shape (64, 5)",
    ),
    "a last layer that is not finite": (
        """
        def fit(self, task):
            model = task.train(ERM())
            return task.replace_head(model, task.compute(self.spoil, task.head(model), on="train"))

        def spoil(self, train, head):
            return {"weight": head["weight"] * np.nan, "bias": head["bias"]}, {}
        """,
        asked.RUNS,
        "Expected finite logits on train, found 128 that are not",
    ),
    "what is learnt is not saved": (
        """
        def prepare(self, model):
            model.front = torch.nn.Identity()
            model.front.register_forward_hook(lambda module, inputs, output: output * getattr(model, "gain", 1.0))

        def loss(self, model, batch):
            model.gain = 1 - batch.epoch / 4
            return super().loss(model, batch)
        """,
        asked.SAVED,
        "Keep what it learns in parameters or buffers",
    ),
}
"""What the draft does, the check that fails, and what it says."""
