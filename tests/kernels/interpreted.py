"""The Triton kernels interpreted on the CPU; ``test_triton.py`` runs this in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from deflow_cli.kernels import dispatch, reference
from deflow_cli.kernels.noise import NoiseKind, Place
from deflow_cli.kernels.reference import ScaleForm
from tests.kernels import noise_checks, twin_checks
from tests.kernels.twin_checks import DIRECTIONS, FORMS, LAYOUTS, SHAPES, WEIGHT_SHAPES

forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
directions = pytest.mark.parametrize("direction", DIRECTIONS)


@pytest.fixture(autouse=True)
def _triton() -> Iterator[None]:
    dispatch.set_backend("triton")
    yield
    dispatch.set_backend("auto")


@forms
@directions
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_the_reference(direction: str, form: ScaleForm, shape: tuple[int, int, int, int]) -> None:
    twin_checks.check_twin(direction, form, shape)


@directions
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 6, 11, 7), (2, 48, 3, 5)], ids=str)
def test_agrees_in_every_layout(
    direction: str, layout: str, dtype: torch.dtype, shape: tuple[int, int, int, int]
) -> None:
    for form in FORMS:
        twin_checks.check_twin(direction, form, shape, layout, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", WEIGHT_SHAPES, ids=str)
def test_weight_gradients(shape: tuple[int, int, int, int, int, int, int], dtype: torch.dtype) -> None:
    twin_checks.check_weight_gradients(shape, dtype)


@forms
def test_round_trip(form: ScaleForm) -> None:
    twin_checks.check_round_trip(form)


@forms
def test_extremes(form: ScaleForm) -> None:
    twin_checks.check_extremes(form)


@directions
def test_gradients_of_one_output(direction: str) -> None:
    twin_checks.check_partial_gradients(direction)


@forms
@directions
def test_second_gradient(direction: str, form: ScaleForm) -> None:
    twin_checks.check_second_gradient(direction, form)


def test_same_bits_twice() -> None:
    twin_checks.check_same_bits_twice()


def test_empty_batch() -> None:
    y, log_det = dispatch.coupling_forward(torch.empty(0, 3, 5, 5), torch.empty(0, 6, 5, 5), FORMS[0])
    assert y.shape == (0, 3, 5, 5)
    assert log_det.shape == (0,)


def test_auto_leaves_the_cpu_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch.set_backend("auto")
    monkeypatch.setattr(reference, "coupling_forward", lambda *arguments: "reference")
    z, raw = torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2, 2)
    assert dispatch.coupling_forward(z, raw, FORMS[0]) == "reference"


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("key", noise_checks.KEYS, ids=hex)
@pytest.mark.parametrize(("channels", "place"), noise_checks.PLACES, ids=str)
def test_noise_is_the_reference_noise(kind: NoiseKind, key: int, channels: int, place: Place) -> None:
    noise_checks.check_field(kind, channels, place, key)
