"""Triton twins: values and gradients under the interpreter, and machine code for GPUs, all without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed (it has no build for this system)")

HERE = Path(__file__).resolve().parent
PTX_TARGETS = (80, 90)


@pytest.mark.slow(seconds=50)
def test_kernels_agree_with_the_reference_under_the_interpreter() -> None:
    # Triton reads the variable when it is first imported, so the suite's own process must not set it.
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "DEFLOW_KERNELS": "auto"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        str(HERE / "interpreted.py"),
    ]
    done = subprocess.run(
        command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("capability", PTX_TARGETS)
@pytest.mark.parametrize("kernel_name", ["coupling_kernel", "coupling_backward_kernel"])
def test_kernels_compile_for_a_gpu(
    kernel_name: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 leaves nothing to compile")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for published, decode, channels_last, raw in (
        (True, False, False, "*fp32"),
        (False, False, True, "*bf16"),
        (False, True, False, "*bf16"),
    ):
        constants = {"PUBLISHED": published, "DECODE": decode, "CHANNELS_LAST": channels_last}
        constants |= {"BLOCK_C": 64, "BLOCK_P": 16}
        assert compile_kernel(kernel_name, capability, raw, constants).startswith(b"\x7fELF")


@pytest.mark.parametrize("capability", PTX_TARGETS)
@pytest.mark.parametrize("normal", [True, False])
def test_noise_compiles_for_a_gpu(
    normal: bool, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 leaves nothing to compile")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from deflow_cli.kernels.triton.noise import noise_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"NORMAL": normal, "BAND": 4, "BLOCK": 128}
    types = {"field_ptr": "*fp32", "key_low": "i64", "key_high": "i64"}
    types |= dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in noise_kernel.arg_names}
    values = {(noise_kernel.arg_names.index(key),): value for key, value in constants.items()}
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(ASTSource(noise_kernel, signature, values), target, {"enable_fp_fusion": False})
    assert compiled.asm["cubin"].startswith(b"\x7fELF")


@pytest.mark.parametrize("capability", PTX_TARGETS)
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_weight_gradients_compile_for_a_gpu(
    dtype: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 leaves nothing to compile")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from deflow_cli.kernels.triton.weight_gradient_kernels import weight_gradient_kernel as kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"SIDE": 3, "BLOCK_I": 64, "BLOCK_O": 32, "BLOCK_P": 64, "WIDEN": False}
    pointers = {"x_ptr": f"*{dtype}", "grad_ptr": f"*{dtype}", "out_ptr": "*fp32"}
    signature = {
        name: "constexpr" if name in constants else pointers.get(name, "i32") for name in kernel.arg_names
    }
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    built = triton.compile(ASTSource(kernel, signature, values), target=GPUTarget("cuda", capability, 32))
    assert built.asm["cubin"].startswith(b"\x7fELF")
    assert ("mma" in built.asm["ptx"]) == (dtype == "bf16")  # tensor cores multiply bfloat16


def compile_kernel(name: str, capability: int, raw: str, constants: dict[str, Any]) -> bytes:
    """Machine code of one kernel for an NVIDIA GPU that need not be here."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from deflow_cli.kernels.triton import affine_kernels

    kernel = getattr(affine_kernels, name)
    signature = {}
    for argument in kernel.arg_names:
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument.endswith("_ptr"):
            signature[argument] = raw if "raw" in argument else "*fp32"
        else:
            signature[argument] = "fp32" if argument == "parameter" else "i32"
    values = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
    source = ASTSource(kernel, signature, values)
    options = {"enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm["cubin"]
