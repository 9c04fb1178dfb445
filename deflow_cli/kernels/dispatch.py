"""Dispatch: which backend computes the fused operations, the reference in PyTorch or its Triton twin."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from types import ModuleType
from typing import Protocol, cast

import torch
from torch import Tensor

from deflow_cli.errors import ConfigError, DeviceError, ShapeError
from deflow_cli.kernels import reference
from deflow_cli.kernels.reference import ScaleForm

BACKENDS = ("auto", "reference", "triton")
ENVIRONMENT_VARIABLE = "DEFLOW_KERNELS"

_log = logging.getLogger("deflow.kernels")
_requested: str | None = None  # None until set or read from the environment, at the first use


class Operations(Protocol):
    """What a backend offers; ``reference`` says what each operation means."""

    def coupling_forward(
        self, z_bchw: Tensor, raw_bchw: Tensor, form: ScaleForm
    ) -> tuple[Tensor, Tensor]: ...

    def coupling_inverse(
        self, z_bchw: Tensor, raw_bchw: Tensor, form: ScaleForm
    ) -> tuple[Tensor, Tensor]: ...

    def weight_gradients(self, x_nbhwc: Tensor, grad_nbhwc: Tensor, side: int) -> Tensor: ...


def set_backend(name: str) -> None:
    """Choose the backend of this process: auto | reference | triton.

    ``auto`` takes Triton for CUDA tensors where it runs, and the reference everywhere else. Raises
    ConfigError for another name, and DeviceError if ``triton`` is asked for and not installed.
    """
    global _requested
    if name not in BACKENDS:
        raise ConfigError(
            f"kernels: {name!r} is no backend; expected one of {', '.join(BACKENDS)}",
            next_step="leave it at auto, which takes the fastest that runs",
        )
    if name == "triton" and isinstance(reason := _load_triton(), str):
        raise _unavailable(reason)
    _requested = name


def get_backend() -> str:
    """The backend asked for: by ``set_backend``, else by the variable DEFLOW_KERNELS, else ``auto``."""
    if _requested is None:
        try:
            set_backend(os.environ.get(ENVIRONMENT_VARIABLE) or "auto")
        except (ConfigError, DeviceError) as error:
            message = f"{ENVIRONMENT_VARIABLE}: {error}"
            raise type(error)(
                message, next_step=f"unset {ENVIRONMENT_VARIABLE}, or {error.next_step}"
            ) from error
    return cast(str, _requested)


def coupling_forward(z_bchw: Tensor, raw_bchw: Tensor, form: ScaleForm) -> tuple[Tensor, Tensor]:
    """``reference.coupling_forward`` on the chosen backend. Raises ShapeError, DeviceError."""
    _check_shapes(z_bchw, raw_bchw)
    return _operations(z_bchw, raw_bchw).coupling_forward(z_bchw, raw_bchw, form)


def coupling_inverse(z_bchw: Tensor, raw_bchw: Tensor, form: ScaleForm) -> tuple[Tensor, Tensor]:
    """``reference.coupling_inverse`` on the chosen backend. Raises ShapeError, DeviceError."""
    _check_shapes(z_bchw, raw_bchw)
    return _operations(z_bchw, raw_bchw).coupling_inverse(z_bchw, raw_bchw, form)


def weight_gradients(x_nbhwc: Tensor, grad_nbhwc: Tensor, side: int) -> Tensor:
    """``reference.weight_gradients`` on the chosen backend. Raises ShapeError, DeviceError."""
    if x_nbhwc.shape[:-1] != grad_nbhwc.shape[:-1]:
        raise ShapeError(
            f"weight gradients: inputs {tuple(x_nbhwc.shape)} and gradients {tuple(grad_nbhwc.shape)} "
            "differ in more than their channels"
        )
    return _operations(x_nbhwc, grad_nbhwc).weight_gradients(x_nbhwc, grad_nbhwc, side)


def _operations(z: Tensor, raw: Tensor) -> Operations:
    name = get_backend()
    if name == "auto":
        return _choose(z, raw)
    if name == "reference":
        return reference
    if torch.float64 in (z.dtype, raw.dtype):
        raise _unavailable("its kernels compute in float32 and these tensors are float64")
    found = _triton_on(z.device)
    if isinstance(found, str):
        raise _unavailable(found)
    return found


def _choose(z: Tensor, raw: Tensor) -> Operations:
    if torch.compiler.is_compiling():
        return reference  # the compiler fuses it with its neighbours, which a finished kernel would prevent
    if not z.is_cuda:
        _log_once("reference", str(z.device.type), "no CUDA device")
        return reference
    if torch.float64 in (z.dtype, raw.dtype):
        return reference
    found = _triton_on(z.device)
    if isinstance(found, str):
        _log_once("reference", str(z.device), found)
        return reference
    _log_once("triton", str(z.device), "it runs there")
    return found


@functools.cache
def _log_once(choice: str, device: str, reason: str) -> None:
    _log.info("auto takes the %s kernels on %s: %s", choice, device, reason)


def _check_shapes(z: Tensor, raw: Tensor) -> None:
    batch, channels, height, width = z.shape
    if tuple(raw.shape) not in ((batch, 2 * channels, height, width), (1, 2 * channels, height, width)):
        raise ShapeError(
            f"coupling: the net's output is {tuple(raw.shape)} for a latent of {tuple(z.shape)}; expected "
            f"{(batch, 2 * channels, height, width)}, or a batch of 1"
        )


def _load_triton() -> ModuleType | str:
    """The Triton twins, or why they cannot be loaded."""
    try:
        return importlib.import_module(".triton.operations", __package__)
    except ImportError as error:
        return f"it cannot be imported ({error})"


@functools.cache
def _triton_on(device: torch.device) -> Operations | str:
    """The Triton twins if they run on a device, else why not. Runs a tiny kernel once per device."""
    module = _load_triton()
    if isinstance(module, str):
        return module
    if device.type != "cuda" and not module.INTERPRETED:
        return f"it needs a CUDA device and these tensors are on {device} (TRITON_INTERPRET=1 emulates one)"
    if device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than compute capability 8.0"
    operations = cast(Operations, module)
    try:
        operations.coupling_forward(
            torch.zeros(1, 1, 1, 1, device=device), torch.zeros(1, 2, 1, 1, device=device), ScaleForm()
        )
    # Triton builds its launcher with the system's C compiler and fails in as many ways as compilers do.
    except Exception as error:
        return f"its first kernel failed on {device} ({type(error).__name__}: {error})"
    return operations


def _unavailable(reason: str) -> DeviceError:
    return DeviceError(
        f"kernels: triton was asked for but {reason}",
        next_step="choose auto or reference; on a Linux machine with an NVIDIA GPU, `pip install triton`",
    )
