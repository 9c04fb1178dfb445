"""Device: where tensors live, and which precision the nets may use there."""

from __future__ import annotations

import re

import torch

from deflow_cli.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device, or the CPU without one. Raises DeviceError for a missing device."""
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda:0" if available else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        raise DeviceError(f"device {name!r} is not known", next_step="use auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return torch.device("cpu")
    if not available:
        why = (
            "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        )
        raise DeviceError(f"device {name}: {why}", next_step="use --device cpu, or auto")
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"device {name}: there are {count}", next_step=f"use cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The type the nets compute in; None: as their parameters are.

    ``auto`` is bfloat16 where the device computes it natively, else None. Raises DeviceError for a precision
    that is unknown or that the device lacks.
    """
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "auto":
        return torch.bfloat16 if native else None
    if name == "fp32":
        return None
    if name != "bf16":
        raise DeviceError(f"precision {name!r} is not known", next_step="use auto, fp32 or bf16")
    if device.type == "cuda" and not native:
        raise DeviceError(f"{device}: has no native bfloat16", next_step="use fp32")
    return torch.bfloat16
