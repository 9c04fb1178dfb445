"""Compiling: whether `torch.compile` works on this machine, asked before a run depends on it."""

from __future__ import annotations

import functools

import torch

from deflow_cli.runtime.progress import Reporter


def can_compile(device: torch.device, reporter: Reporter) -> bool:
    """Whether steps that are to be compiled can be; where not, the reporter is told why."""
    reason = why_not_compiled(device)
    if reason:
        reporter.note(f"steps are not compiled: {reason}")
    return not reason


@functools.cache
def why_not_compiled(device: torch.device) -> str:
    """Why a small function cannot be compiled on a device; empty where it can."""
    try:
        compiled = torch.compile(lambda x: torch.relu(x) + 1, dynamic=False)
        compiled(torch.zeros(4, device=device))
    except Exception as error:  # compilers fail in as many ways as there are machines
        reason = str(error).strip().splitlines()
        return f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}"
    return ""
