"""Reference operations: values of the two scale forms, and the affine map's two directions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from deflow_cli.errors import ShapeError
from deflow_cli.kernels import dispatch, reference
from deflow_cli.kernels.reference import ScaleForm
from tests.kernels.twin_checks import WEIGHT_SHAPES, check_weight_gradients

RAW = torch.tensor([-1e4, -30.0, -2.0, 0.0, 1.5, 30.0, 1e4], dtype=torch.float64)


def test_published_scale_values() -> None:
    scale, log_scale = reference.published_scale(RAW, 1e-3)
    expected = [1 / (1 + math.exp(-(v + 2))) + 1e-3 if v > -500 else 1e-3 for v in RAW.tolist()]
    assert scale.tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(log_scale, scale.log())
    assert scale.min() >= 1e-3  # the inverse is never larger than 1000
    assert float(scale[3]) == pytest.approx(0.8817970779778823)  # sigmoid(2) + 1e-3


def test_bounded_scale_values() -> None:
    scale, log_scale = reference.bounded_scale(RAW, 0.5)
    expected = [0.5 * math.atan(v / 0.5) for v in RAW.tolist()]
    assert log_scale.tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(scale, log_scale.exp())
    assert log_scale.abs().max() <= 0.5 * math.pi / 2
    near = torch.tensor([1e-6], dtype=torch.float64)
    torch.testing.assert_close(reference.bounded_scale(near, 0.5)[1], near)  # identity around zero


def test_extreme_inputs_stay_finite_in_float32() -> None:
    raw = RAW.float().requires_grad_()
    for scale, log_scale in (reference.published_scale(raw, 1e-3), reference.bounded_scale(raw, 1.0)):
        assert torch.isfinite(scale).all()
        assert torch.isfinite(log_scale).all()
        (gradient,) = torch.autograd.grad(log_scale.sum(), raw, retain_graph=True)
        assert torch.isfinite(gradient).all()


def test_affine_directions() -> None:
    generator = torch.Generator().manual_seed(1)
    z, shift = torch.randn((2, 2, 3, 4, 5), generator=generator, dtype=torch.float64).unbind()
    log_scale = torch.randn((2, 3, 4, 5), generator=generator, dtype=torch.float64)
    scale = log_scale.exp()
    y, log_det = reference.affine_forward(z, scale, log_scale, shift)
    torch.testing.assert_close(y, z / scale - shift)
    torch.testing.assert_close(log_det, -log_scale.sum((1, 2, 3)))
    back, log_det_back = reference.affine_inverse(y, scale, log_scale, shift)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(log_det_back, -log_det)


FORMS = (ScaleForm("published", eps=1e-3), ScaleForm("bounded", bound=0.7))


def coupling_inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    z = torch.randn((2, 7, 3, 5), generator=generator, dtype=dtype)[:, 4:]
    return z, torch.randn((2, 6, 3, 5), generator=generator, dtype=dtype)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
def test_coupling_is_the_affine_map_of_the_net_output(form: ScaleForm) -> None:
    z, raw = coupling_inputs()
    scale, log_scale = form(raw[:, 1::2])
    y, log_det = reference.coupling_forward(z, raw, form)
    torch.testing.assert_close(y, z / scale - raw[:, 0::2])
    torch.testing.assert_close(log_det, -log_scale.sum((1, 2, 3)))
    back, log_det_back = reference.coupling_inverse(y, raw, form)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(log_det_back, -log_det)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
@pytest.mark.parametrize("operation", [reference.coupling_forward, reference.coupling_inverse])
def test_coupling_gradients(operation: Callable[..., tuple[torch.Tensor, ...]], form: ScaleForm) -> None:
    z, raw = (tensor.requires_grad_() for tensor in coupling_inputs())
    assert torch.autograd.gradcheck(lambda *tensors: operation(*tensors, form), (z, raw))
    assert torch.autograd.gradgradcheck(lambda *tensors: operation(*tensors, form), (z, raw))


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_coupling_computes_narrow_types_in_float32(narrow: torch.dtype) -> None:
    z, raw = coupling_inputs(torch.float32)
    raw = raw.to(narrow)
    for operation in (reference.coupling_forward, reference.coupling_inverse):
        y, log_det = operation(z, raw, FORMS[0])
        assert y.dtype == log_det.dtype == torch.float32
        exact_y, exact_log_det = operation(z, raw.float(), FORMS[0])
        assert torch.equal(y, exact_y)
        assert torch.equal(log_det, exact_log_det)


def test_coupling_of_a_batch_that_shares_the_net_output() -> None:
    z, raw = coupling_inputs()
    for operation in (reference.coupling_forward, reference.coupling_inverse):
        y, log_det = operation(z, raw[:1], FORMS[0])
        expected_y, expected_log_det = operation(z, raw[:1].repeat(2, 1, 1, 1), FORMS[0])
        assert torch.equal(y, expected_y)
        assert torch.equal(log_det, expected_log_det)


@pytest.mark.parametrize("shape", WEIGHT_SHAPES, ids=str)
def test_weight_gradients(shape: tuple[int, int, int, int, int, int, int]) -> None:
    check_weight_gradients(shape, torch.float32)


def test_weight_gradients_of_other_positions_are_refused() -> None:
    with pytest.raises(ShapeError, match="differ in more than their channels"):
        dispatch.weight_gradients(torch.zeros(1, 2, 3, 4, 5), torch.zeros(1, 2, 4, 3, 5), 3)
