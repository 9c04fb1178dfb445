"""Checks of a fused coupling against the reference: compiled on CUDA, or interpreted on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deflow_cli.kernels import dispatch, reference
from deflow_cli.kernels.reference import ScaleForm

FORMS = (ScaleForm("published", eps=1e-3), ScaleForm("bounded", bound=0.7))
DIRECTIONS = ("coupling_forward", "coupling_inverse")
SHAPES = (
    (1, 3, 1, 1),
    (2, 3, 5, 7),
    (1, 5, 33, 1),
    (2, 5, 1, 9),
    (2, 6, 37, 29),  # several blocks of positions
    (1, 48, 9, 13),  # several blocks of channels
    (2, 1, 3, 5),
)
LAYOUTS = ("dense", "slice", "channels_last", "mixed", "transposed", "shared")


class Results(NamedTuple):
    """Outputs and gradients of one call."""

    y: Tensor
    log_det: Tensor
    grad_z: Tensor
    grad_raw: Tensor


def make_inputs(
    shape: tuple[int, int, int, int], layout: str, raw_dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor]:
    """z and raw in one of the memory layouts the flow produces."""
    generator = torch.Generator().manual_seed(7)
    batch, channels, height, width = shape

    def normal(b: int, c: int) -> Tensor:
        return torch.randn((b, c, height, width), generator=generator).to(device)

    z, raw = normal(batch, channels), 1.5 * normal(batch, 2 * channels)
    if layout == "slice":  # the second half of a latent, and a net's output with spare channels
        z = normal(batch, 2 * channels + 1)[:, channels + 1 :]
        raw = normal(batch, 2 * channels + 3)[:, 2 : 2 * channels + 2]
    elif layout == "channels_last":
        z = normal(batch, channels + 2).to(memory_format=torch.channels_last)[:, 2:]
        raw = raw.contiguous(memory_format=torch.channels_last)
    elif layout == "mixed":
        raw = raw.contiguous(memory_format=torch.channels_last)
    elif layout == "transposed":  # rows and columns do not form one axis
        z = z.transpose(2, 3).contiguous().transpose(2, 3)
        raw = raw.transpose(2, 3).contiguous().transpose(2, 3)
    elif layout == "shared":  # one image's condition, several samples
        raw = raw[:1]
    return z, raw.to(raw_dtype)


def run_with_gradients(
    operations: object, direction: str, z: Tensor, raw: Tensor, form: ScaleForm
) -> Results:
    """One call and the gradients of a loss that weighs every output differently."""
    z, raw = z.detach().requires_grad_(), raw.detach().requires_grad_()
    y, log_det = getattr(operations, direction)(z, raw, form)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype, device=y.device).reshape(y.shape)
    rates = torch.linspace(0.5, 1, log_det.numel(), dtype=y.dtype, device=y.device)
    grad_z, grad_raw = torch.autograd.grad((y * weights).sum() + (log_det * rates).sum(), (z, raw))
    return Results(y.detach(), log_det.detach(), grad_z, grad_raw)


def check_twin(
    direction: str,
    form: ScaleForm,
    shape: tuple[int, int, int, int],
    layout: str = "dense",
    raw_dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> None:
    """Outputs and gradients against the reference in float64; types, shapes and layout as the inputs'."""
    z, raw = make_inputs(shape, layout, raw_dtype, device)
    ours = run_with_gradients(dispatch, direction, z, raw, form)
    exact = run_with_gradients(reference, direction, z.double(), raw.double(), form)
    assert ours.y.dtype == ours.log_det.dtype == ours.grad_z.dtype == torch.float32
    assert ours.grad_raw.dtype == raw_dtype
    assert ours.y.shape == z.shape
    assert ours.log_det.shape == shape[:1]
    close(ours.y, exact.y, 2e-6)
    close(ours.grad_z, exact.grad_z, 2e-6)
    close(ours.grad_raw, exact.grad_raw, 3e-6 if raw_dtype == torch.float32 else 2**-7)
    # Rounding of a sum grows with the number of its terms.
    elements = shape[1] * shape[2] * shape[3]
    torch.testing.assert_close(ours.log_det.double(), exact.log_det, rtol=1e-6, atol=2e-7 * elements + 1e-6)


def close(ours: Tensor, exact: Tensor, rate: float) -> None:
    """Agreement relative to the value, and for values near zero to a unit."""
    torch.testing.assert_close(ours.double(), exact, rtol=rate, atol=rate)


def check_round_trip(form: ScaleForm, device: str = "cpu") -> None:
    """Decoding undoes encoding, and the log-dets cancel to the last bit: both sum the same numbers."""
    z, raw = make_inputs((2, 6, 37, 29), "slice", torch.bfloat16, device)
    y, log_det = dispatch.coupling_forward(z, raw, form)
    back, log_det_back = dispatch.coupling_inverse(y, raw, form)
    close(back, z.double(), 4e-6)
    assert torch.equal(log_det_back, -log_det)


def check_extremes(form: ScaleForm, device: str = "cpu") -> None:
    """Saturated scales are the reference's, with finite gradients; NaN is not hidden."""
    values = torch.tensor([-1e30, -1e4, -90.0, -3e-4, -0.0, 1e-12, 0.41, 0.42, 2.41, 2.42, 90.0, 1e4, 1e30])
    raw = torch.stack((torch.zeros_like(values), values)).reshape(1, 2, 1, -1).to(device)
    z = torch.ones(1, 1, 1, values.numel(), device=device)
    for direction in DIRECTIONS:
        ours = run_with_gradients(dispatch, direction, z, raw, form)
        exact = run_with_gradients(reference, direction, z.double(), raw.double(), form)
        for a, b in zip(ours, exact, strict=True):
            assert torch.isfinite(a).all()
            torch.testing.assert_close(a.double(), b, rtol=5e-6, atol=1e-6)
        y, log_det = getattr(dispatch, direction)(z, raw * float("nan"), form)
        assert torch.isnan(y).all()
        assert torch.isnan(log_det).all()


def check_partial_gradients(direction: str, device: str = "cpu") -> None:
    """The log-det alone, y alone, and a z that needs no gradient."""
    form = FORMS[0]
    z, raw = make_inputs((2, 3, 5, 7), "dense", torch.float32, device)
    raw.requires_grad_()
    for output in (0, 1):
        (ours,) = torch.autograd.grad(getattr(dispatch, direction)(z, raw, form)[output].sum(), raw)
        (theirs,) = torch.autograd.grad(getattr(reference, direction)(z, raw, form)[output].sum(), raw)
        torch.testing.assert_close(ours, theirs, rtol=3e-6, atol=3e-6)


def check_second_gradient(direction: str, form: ScaleForm, device: str = "cpu") -> None:
    """A gradient of a gradient, where raw itself is computed from z as a net does."""
    z, raw = make_inputs((2, 3, 5, 7), "dense", torch.float32, device)

    def second(operations: object) -> tuple[Tensor, ...]:
        leaf = z.detach().requires_grad_()
        net = (raw * leaf.repeat(1, 2, 1, 1)).tanh()
        y, log_det = getattr(operations, direction)(leaf, net, form)
        (first,) = torch.autograd.grad(y.square().sum() + log_det.sum(), leaf, create_graph=True)
        return first.detach(), *torch.autograd.grad(first.square().sum(), leaf)

    for ours, theirs in zip(second(dispatch), second(reference), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def check_same_bits_twice(device: str = "cpu") -> None:
    """Two runs give the same bits: the log-det has no atomics."""
    z, raw = make_inputs((2, 6, 37, 29), "slice", torch.bfloat16, device)
    for direction in DIRECTIONS:
        first, second = (run_with_gradients(dispatch, direction, z, raw, FORMS[0]) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


WEIGHT_SHAPES = (  # N, B, H, W, input channels, output channels, side
    (2, 2, 5, 7, 6, 20, 3),
    (1, 2, 9, 6, 70, 33, 1),
    (3, 1, 4, 4, 16, 16, 3),
    (1, 3, 40, 30, 8, 12, 3),  # several splits of the positions
)


def check_weight_gradients(
    shape: tuple[int, int, int, int, int, int, int], dtype: torch.dtype, device: str = "cpu"
) -> None:
    """Against the gradient that autograd finds in float64, for inputs that are a slice of wider tensors."""
    count, batch, height, width, inputs, outputs, side = shape
    generator = torch.Generator().manual_seed(5)
    wide = torch.randn((count, batch, height, width, inputs + 3), generator=generator).to(device, dtype)
    grad = torch.randn((count, batch, height, width, outputs), generator=generator).to(device, dtype)
    x = wide[..., 2 : inputs + 2]
    found = dispatch.weight_gradients(x, grad, side)
    assert found.dtype == torch.float32
    for n in range(count):
        weight = torch.zeros(
            (outputs, inputs, side, side), dtype=torch.float64, device=device, requires_grad=True
        )
        y = torch.nn.functional.conv2d(x[n].double().permute(0, 3, 1, 2), weight, padding=side // 2)
        (exact,) = torch.autograd.grad(y, weight, grad[n].double().permute(0, 3, 1, 2))
        torch.testing.assert_close(found[n].double(), exact, rtol=1e-5, atol=2e-4)
