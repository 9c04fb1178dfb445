"""Trunk: tensors of an ImageNet network that others published, put into a module without losing one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from deflow_cli.errors import CheckpointError


def take(tensors: Mapping[str, Tensor], key: str, like: Tensor, origin: str, expected: str) -> Tensor:
    """One tensor as float32, of the shape of `like`. Raises CheckpointError naming the origin and the key."""
    next_step = f"give {expected}"
    if key not in tensors:
        raise CheckpointError(f"{origin}: has no tensor {key}", next_step=next_step)
    if tensors[key].shape != like.shape:
        found, wanted = tuple(tensors[key].shape), tuple(like.shape)
        raise CheckpointError(f"{origin}: {key} is {found}, not {wanted}", next_step=next_step)
    return tensors[key].to(torch.float32)


def refuse_others(
    tensors: Mapping[str, Tensor], known: Callable[[str], bool], origin: str, expected: str
) -> None:
    """Raise CheckpointError where there is a tensor that would be lost."""
    lost = next((key for key in tensors if not known(key)), None)
    if lost is not None:
        raise CheckpointError(f"{origin}: {lost} has no place in this network", next_step=f"give {expected}")


def full_float32(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """On CUDA: convolutions in float32 proper, since TensorFloat-32 moves a score in its third digit."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def frozen(module: nn.Module, state: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """A module built without memory (on the meta device) with all its tensors, for evaluation on a device."""
    module.load_state_dict(state, strict=True, assign=True)
    return module.to(device).eval().requires_grad_(False)
