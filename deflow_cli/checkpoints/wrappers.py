"""Wrappers: what training programs put around the tensors of a network, stripped by one table.

A checkpoint may hold its network under a name beside optimisers and counters (a container), and the names of
its tensors may all begin with the attribute that the program kept the network in (a prefix). Containers and
prefixes are stripped in any order and nesting until only the network's own names are left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

# Names under which a network is kept, averaged weights first: where several are there, the first counts.
CONTAINERS = (
    "params_ema",  # BasicSR
    "model_ema",
    "generator_ema",
    "netG_ema",
    "g_ema",  # StyleGAN's programs
    "ema",
    "params",  # BasicSR
    "state_dict",  # Lightning
    "model_state_dict",
    "generator",
    "netG",
    "net_g",
    "model",
    "net",
)

# Beginnings of names, averaged weights first. Where other names are beside them, they belong to another
# network (a discriminator, the weights that are not averaged), and only those with the prefix are taken.
PREFIXES = (
    "params_ema.",
    "generator_ema.",
    "net_g_ema.",
    "model_ema.",
    "ema_model.",
    "params.",
    "generator.",
    "netG.",
    "net_g.",
    "state_dict.",
    "model.",  # Lightning; not before a number, for so the first ESRGAN's own names begin
    "net.",
    "module.",  # DataParallel, and torch.optim.swa_utils.AveragedModel
)

# Parts of names that torch inserts, anywhere: compiled modules, sharded and recomputed ones.
INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")

COUNTERS = ("n_averaged",)  # single numbers beside the tensors: of AveragedModel


@dataclass(frozen=True)
class Unwrapped:
    """A state dict without its wrappers. stripped: these, from the outside in. left_out: what lay beside."""

    state: dict[str, Tensor]
    stripped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was stripped, in words; empty where nothing was."""
        beside = f"; left out beside it: {', '.join(self.left_out)}" if self.left_out else ""
        if not self.stripped:
            return beside.removeprefix("; ")
        return f"taken out of {', '.join(self.stripped)}{beside}"


def unwrap(content: object) -> Unwrapped | None:
    """The innermost state dict of what a file holds; None where there is none.

    >>> import torch
    >>> inner = {"generator._orig_mod.conv.weight": torch.zeros(1), "discriminator.bias": torch.zeros(1)}
    >>> found = unwrap({"state_dict": inner, "epoch": 3})
    >>> list(found.state), found.text
    (['conv.weight'], 'taken out of state_dict, _orig_mod., generator.; left out beside it: discriminator.')
    """
    stripped: list[str] = []
    left_out: list[str] = []
    while (container := _container(content)) is not None:
        name, inner = container
        stripped.append(name)
        left_out += [other for other in CONTAINERS if other != name and holds_tensors(_get(content, other))]
        content = inner
    if not isinstance(content, Mapping):
        return None
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        return None
    state: dict[str, Tensor] = dict(content)
    while (step := _without_one_wrapper(state)) is not None:
        name, state, others = step
        stripped.append(name)
        left_out += others
    return Unwrapped(state, stripped, left_out)


def _get(content: object, name: str) -> object:
    return content.get(name) if isinstance(content, Mapping) else None


def holds_tensors(content: object, depth: int = 4) -> bool:
    """Whether there are tensors in nested mappings."""
    if not isinstance(content, Mapping) or not depth:
        return False
    return any(isinstance(value, Tensor) or holds_tensors(value, depth - 1) for value in content.values())


def _container(content: object) -> tuple[str, object] | None:
    """The first container of a mapping that is no state dict itself."""
    for name in CONTAINERS:
        if holds_tensors(inner := _get(content, name)):
            return name, inner
    return None


def _without_one_wrapper(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor], list[str]] | None:
    """The name of a wrapper, the state dict without it, and the first parts of the names left out."""
    for counter in COUNTERS:
        if counter in state and state[counter].numel() == 1 and len(state) > 1:
            return counter, {key: value for key, value in state.items() if key != counter}, []
    for infix in INFIXES:
        if any(infix in key for key in state):
            return infix, {key.replace(infix, ""): value for key, value in state.items()}, []
    for prefix in PREFIXES:
        inner = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        if not inner or any(re.match(r"\d", key) for key in inner):
            continue
        others = [key for key in state if not key.startswith(prefix)]
        return prefix, inner, list(dict.fromkeys(re.sub(r"\..*", ".", key) for key in others))
    return None
