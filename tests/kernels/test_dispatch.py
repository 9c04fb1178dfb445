"""Dispatch: what each backend name does, and what it says where it cannot."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from deflow_cli.errors import ConfigError, DeviceError, ShapeError
from deflow_cli.kernels import dispatch, reference
from deflow_cli.kernels.reference import ScaleForm

FORM = ScaleForm()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No backend chosen, nothing logged and nothing tried yet; as it was afterwards."""
    monkeypatch.setattr(dispatch, "_requested", None)
    monkeypatch.delenv("DEFLOW_KERNELS", raising=False)
    dispatch._log_once.cache_clear()
    dispatch._triton_on.cache_clear()
    yield
    dispatch._log_once.cache_clear()
    dispatch._triton_on.cache_clear()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, 4, 5), torch.randn(2, 6, 4, 5)


def without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("deflow_cli.kernels.triton.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)


@pytest.mark.parametrize("name", ["auto", "reference"])
def test_cpu_tensors_get_the_reference(name: str) -> None:
    dispatch.set_backend(name)
    assert dispatch.get_backend() == name
    z, raw = inputs()
    for direction in ("coupling_forward", "coupling_inverse"):
        ours = getattr(dispatch, direction)(z, raw, FORM)
        theirs = getattr(reference, direction)(z, raw, FORM)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_auto_logs_its_choice_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="deflow.kernels")
    for _ in range(3):
        dispatch.coupling_forward(*inputs(), FORM)
    assert [record.getMessage() for record in caplog.records] == [
        "auto takes the reference kernels on cpu: no CUDA device"
    ]


def test_an_explicit_reference_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="deflow.kernels")
    dispatch.set_backend("reference")
    dispatch.coupling_forward(*inputs(), FORM)
    assert not caplog.records


def test_a_missing_triton_raises_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    without_triton(monkeypatch)
    with pytest.raises(DeviceError, match="triton was asked for but it cannot be imported") as caught:
        dispatch.set_backend("triton")
    assert "auto" in caught.value.next_step
    assert dispatch.get_backend() == "auto"
    dispatch.coupling_forward(*inputs(), FORM)


def test_triton_on_the_cpu_raises() -> None:
    pytest.importorskip("triton", reason="Triton is not installed (it has no build for this system)")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 runs Triton on the CPU")
    dispatch.set_backend("triton")
    for operation in (dispatch.coupling_forward, dispatch.coupling_inverse):
        with pytest.raises(DeviceError, match="needs a CUDA device and these tensors are on cpu") as caught:
            operation(*inputs(), FORM)
        assert caught.value.next_step


def test_triton_in_float64_raises() -> None:
    pytest.importorskip("triton", reason="Triton is not installed (it has no build for this system)")
    dispatch.set_backend("triton")
    z, raw = inputs()
    with pytest.raises(DeviceError, match="float64"):
        dispatch.coupling_forward(z.double(), raw, FORM)


def test_a_kernel_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        INTERPRETED = True

        @staticmethod
        def coupling_forward(*arguments: object) -> None:
            raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(dispatch, "_load_triton", Broken)
    dispatch.set_backend("triton")
    with pytest.raises(
        DeviceError, match=r"first kernel failed on cpu \(RuntimeError: Failed to find C comp"
    ):
        dispatch.coupling_forward(*inputs(), FORM)


def test_an_unknown_backend_raises() -> None:
    with pytest.raises(ConfigError, match="'cuda' is no backend; expected one of auto, reference, triton"):
        dispatch.set_backend("cuda")


def test_the_variable_sets_the_first_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFLOW_KERNELS", "reference")
    assert dispatch.get_backend() == "reference"
    dispatch.set_backend("auto")
    assert dispatch.get_backend() == "auto"


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFLOW_KERNELS", "fast")
    for _ in range(2):
        with pytest.raises(ConfigError, match="DEFLOW_KERNELS: kernels: 'fast' is no backend") as caught:
            dispatch.coupling_forward(*inputs(), FORM)
        assert "unset DEFLOW_KERNELS" in caught.value.next_step


def test_a_variable_that_asks_for_a_missing_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without_triton(monkeypatch)
    monkeypatch.setenv("DEFLOW_KERNELS", "triton")
    with pytest.raises(DeviceError, match="DEFLOW_KERNELS: kernels: triton was asked for"):
        dispatch.coupling_forward(*inputs(), FORM)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 6, 4, 1), (3, 6, 4, 5), (2, 6, 5, 4)])
def test_a_wrong_shape_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected \(2, 6, 4, 5\), or a batch of 1"):
        dispatch.coupling_forward(torch.zeros(2, 3, 4, 5), torch.zeros(shape), FORM)


def test_the_dispatch_imports_no_triton() -> None:
    code = (
        "import sys, torch; from deflow_cli.kernels import dispatch; "
        "from deflow_cli.kernels.reference import ScaleForm; "
        "dispatch.coupling_forward(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2), ScaleForm());"
        "assert not [m for m in sys.modules if m.startswith('deflow_cli.kernels.triton')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
