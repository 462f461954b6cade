"""The method does what the project asks of every method, and its loss is what its paper says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustbench_spur import Batch, Groups, Partition, View
from robustbench_spur.registry import Registry

DRAFT = Path(__file__).with_name("my_idea.py")
FILES = (DRAFT,) if DRAFT.is_file() else ()
"""The draft beside this file; none where the method is installed or has been moved into the project."""


def batch_of(labels: list[int]) -> Batch:
    """Examples with these labels, the attribute at its first value, and images without content."""
    codes = np.array(labels)
    names = np.array([f"x{i}" for i in range(len(labels))])
    rows = Partition(names, codes, np.zeros_like(codes), names)
    view = View(rows, Groups(("clear", "tumour"), "site", ("a", "b")), False, "the test")
    images, positions = torch.zeros(len(labels), 1, 2, 2), torch.arange(len(labels))
    return Batch(images, torch.from_numpy(codes), positions, torch.from_numpy(rows.attributes), view)


def test_it_conforms() -> None:
    """The conformance kit finds nothing wrong."""
    from robustbench_spur.conformance import check

    report = check(DRAFT if FILES else "my_idea")
    assert report.passed, report


def test_the_loss_is_the_one_computed_by_hand() -> None:
    """TODO: another value that you worked out on paper, without the code under test.

    Logits (0, log 3) are the probabilities 1/4 and 3/4, and (0, 0) are 1/2 and 1/2. With the labels 1 and 0 the cross-entropies
    are log(4/3) = 0.28768 and log 2 = 0.69315, their mean 0.49041; the entropies are 0.56234 and 0.69315, their mean 0.62774.
    The loss is 0.49041 - 0.1 * 0.62774 = 0.42764.
    """
    method: Any = Registry(FILES).find("method", "my_idea").load()()
    logits = torch.tensor([[0.0, np.log(3)], [0.0, 0.0]])
    loss = method.loss(lambda images: logits, batch_of([1, 0]))
    assert float(loss) == pytest.approx(0.42764, abs=1e-5)
