"""Tensors on their way to a file and back."""

from __future__ import annotations

from pathlib import Path

import torch

from robustbench_spur.store import replacing


def on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by name, each in one piece on the CPU, without their graphs."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def laid_out(value: torch.Tensor) -> torch.Tensor:
    """As the model's weights lie in memory: a mixture would make every later step slower, and could round otherwise."""
    return value.to(memory_format=torch.channels_last) if value.dim() == 4 else value


def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, str]) -> None:
    """Write a safetensors file with texts beside the tensors; it appears as a whole or not at all."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=about)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and texts of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as archive:
        names = list(archive.keys())
        return {name: archive.get_tensor(name) for name in names}, dict(archive.metadata() or {})
