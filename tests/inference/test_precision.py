"""Precision: TensorFloat-32 is allowed for conditions alone, and the settings of others come back."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.inference.precision import coarse_conditions, exact_convolutions

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def allowed() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("matmul", [False, True])
def test_conditions_are_coarse_within_exact_work(matmul: bool) -> None:
    found = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = matmul
    try:
        check_nesting()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = found


def check_nesting() -> None:
    before = allowed()
    with exact_convolutions(CUDA):
        assert allowed() == (False, False)
        with coarse_conditions(CUDA):
            assert allowed() == (True, True)
            assert torch.backends.cudnn.deterministic
        assert allowed() == (False, False)
    assert allowed() == before


def test_errors_bring_the_settings_back() -> None:
    before = allowed()
    with pytest.raises(ValueError, match="stop"), exact_convolutions(CUDA), coarse_conditions(CUDA):
        raise ValueError("stop")
    assert allowed() == before


def test_a_cpu_is_left_alone() -> None:
    before = allowed()
    with exact_convolutions(CPU), coarse_conditions(CPU):
        assert allowed() == before
