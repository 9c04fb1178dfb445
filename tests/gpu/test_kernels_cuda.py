"""On a GPU the Triton kernels have the reference's values and gradients, and `auto` takes them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from deflow_cli.errors import DeviceError
from deflow_cli.kernels import dispatch, reference
from deflow_cli.kernels.reference import ScaleForm
from tests.kernels import twin_checks
from tests.kernels.twin_checks import DIRECTIONS, FORMS, LAYOUTS, SHAPES, WEIGHT_SHAPES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
directions = pytest.mark.parametrize("direction", DIRECTIONS)


@pytest.fixture(autouse=True)
def _triton() -> Iterator[None]:
    pytest.importorskip("triton", reason="Triton is not installed")
    before = dispatch.get_backend()
    dispatch.set_backend("triton")
    yield
    dispatch.set_backend(before)


@forms
@directions
@pytest.mark.parametrize("shape", [*SHAPES, (8, 12, 80, 80), (3, 192, 20, 20)], ids=str)
def test_agrees_with_the_reference(direction: str, form: ScaleForm, shape: tuple[int, int, int, int]) -> None:
    twin_checks.check_twin(direction, form, shape, device="cuda")


@directions
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 6, 37, 29), (2, 48, 9, 13)], ids=str)
def test_agrees_in_every_layout(
    direction: str, layout: str, dtype: torch.dtype, shape: tuple[int, int, int, int]
) -> None:
    for form in FORMS:
        twin_checks.check_twin(direction, form, shape, layout, dtype, "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", WEIGHT_SHAPES, ids=str)
def test_weight_gradients(shape: tuple[int, int, int, int, int, int, int], dtype: torch.dtype) -> None:
    twin_checks.check_weight_gradients(shape, dtype, "cuda")


@forms
def test_round_trip(form: ScaleForm) -> None:
    twin_checks.check_round_trip(form, "cuda")


@forms
def test_extremes(form: ScaleForm) -> None:
    twin_checks.check_extremes(form, "cuda")


@directions
def test_gradients_of_one_output(direction: str) -> None:
    twin_checks.check_partial_gradients(direction, "cuda")


@forms
@directions
def test_second_gradient(direction: str, form: ScaleForm) -> None:
    twin_checks.check_second_gradient(direction, form, "cuda")


def test_same_bits_twice() -> None:
    twin_checks.check_same_bits_twice("cuda")


def test_a_tensor_of_over_2_31_elements() -> None:
    rows, columns = 2**15 + 1, 2**15
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GB of free GPU memory")
    z = torch.ones((1, 1, rows, columns), device="cuda")
    raw = torch.zeros((1, 2, rows, columns), dtype=torch.bfloat16, device="cuda")
    raw[..., -3:, :] = 0.5
    y, log_det = dispatch.coupling_forward(z, raw, FORMS[0])
    tail, _ = reference.coupling_forward(z[..., -5:, :], raw[..., -5:, :], FORMS[0])
    torch.testing.assert_close(y[..., -5:, :], tail, rtol=2e-6, atol=2e-6)
    assert torch.isfinite(log_det).all()


def test_captured_in_a_graph_it_computes_the_same() -> None:
    z, raw = twin_checks.make_inputs((2, 6, 37, 29), "slice", torch.bfloat16, "cuda")
    expected = dispatch.coupling_forward(z, raw, FORMS[0])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = dispatch.coupling_forward(z, raw, FORMS[0])
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


def test_auto_takes_triton_and_leaves_float64(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dispatch.set_backend("auto")
    dispatch._log_once.cache_clear()
    caplog.set_level(logging.INFO, logger="deflow.kernels")
    z, raw = twin_checks.make_inputs((2, 3, 5, 7), "dense", torch.float32, "cuda")
    monkeypatch.setattr(reference, "coupling_forward", lambda *arguments: "reference")
    for _ in range(2):
        assert dispatch.coupling_forward(z, raw, FORMS[0]) != "reference"
    assert dispatch.coupling_forward(z.double(), raw.double(), FORMS[0]) == "reference"
    assert [record.getMessage() for record in caplog.records] == [
        f"auto takes the triton kernels on {z.device}: it runs there"
    ]


def test_triton_still_refuses_the_cpu() -> None:
    from deflow_cli.kernels.triton import affine

    if affine.INTERPRETED:
        pytest.skip("TRITON_INTERPRET=1 runs Triton on the CPU")
    with pytest.raises(DeviceError, match="needs a CUDA device"):
        dispatch.coupling_forward(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2), FORMS[0])
