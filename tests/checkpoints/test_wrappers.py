"""Wrappers: every known one alone, and in any nesting and order, leaves the same names."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from deflow_cli.checkpoints.foreign import read_state_dict
from deflow_cli.checkpoints.wrappers import CONTAINERS, INFIXES, PREFIXES, unwrap

STATE = {"body.0.rdb1.conv1.weight": torch.arange(3.0), "conv_last.bias": torch.ones(2)}
OLD = {"model.0.weight": torch.arange(3.0), "model.1.sub.0.RDB1.conv1.0.weight": torch.ones(2)}


def assert_unwrapped(content: Any, state: dict[str, Tensor] = STATE) -> list[str]:
    found = unwrap(content)
    assert found is not None
    assert list(found.state) == list(state)
    assert all(torch.equal(found.state[key], value) for key, value in state.items())
    return found.stripped


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("state", [STATE, OLD], ids=["new", "old"])
def test_each_wrapper_alone_is_stripped_and_named(state: dict[str, Tensor]) -> None:
    assert assert_unwrapped(state, state) == []
    for name in CONTAINERS:
        assert assert_unwrapped({name: state, "epoch": 3, "optimizer": {"lr": 1e-4}}, state) == [name]
    for name in (*PREFIXES, *INFIXES):
        assert assert_unwrapped(prefixed(name, state), state) == [name]


@pytest.mark.parametrize("state", [STATE, OLD], ids=["new", "old"])
def test_any_two_wrappers_in_either_order(state: dict[str, Tensor]) -> None:
    for outer, inner in itertools.permutations((*PREFIXES, *INFIXES), 2):
        stripped = assert_unwrapped(prefixed(outer + inner, state), state)
        assert sorted(stripped) == sorted([outer, inner])
    for outer, inner in itertools.permutations(CONTAINERS, 2):
        assert assert_unwrapped({outer: {inner: state}, "step": 1}, state) == [outer, inner]


def test_deep_nests_of_any_kind() -> None:
    choose = random.Random(0)
    for _ in range(100):
        prefixes = choose.sample((*PREFIXES, *INFIXES), choose.randint(0, 5))
        containers = choose.sample(CONTAINERS, choose.randint(0, 3))
        content: Any = prefixed("".join(prefixes), STATE)
        if choose.random() < 0.5:
            content |= {"n_averaged": torch.tensor(7)}
            prefixes = [*prefixes, "n_averaged"]
        for name in containers:
            content = {name: content, "epoch": 4}
        assert sorted(assert_unwrapped(content)) == sorted([*prefixes, *containers])


def test_averaged_weights_and_generators_come_first() -> None:
    raw = {key: value + 1 for key, value in STATE.items()}
    assert_unwrapped({"params": raw, "params_ema": STATE})
    assert_unwrapped({"state_dict": {"params": raw, "params_ema": STATE}})
    flat = prefixed("params.", raw) | prefixed("params_ema.", STATE)
    found = unwrap(flat)
    assert found is not None
    assert found.text == "taken out of params_ema.; left out beside it: params."
    assert_unwrapped(flat)
    assert_unwrapped(prefixed("generator.", STATE) | prefixed("discriminator.", raw))
    assert_unwrapped({"state_dict": prefixed("model.", STATE) | prefixed("loss.vgg.", raw)})
    found = unwrap({"netG": STATE, "netD": raw, "params": raw})
    assert found is not None
    assert found.text == "taken out of params; left out beside it: netG"


def test_what_torch_itself_wraps() -> None:
    model = nn.Sequential()
    model.add_module("conv", nn.Linear(2, 3))
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    averaged = AveragedModel(model)
    assert assert_unwrapped(averaged.state_dict(), expected) == ["n_averaged", "module."]
    compiled = nn.DataParallel(torch.compile(model))
    assert assert_unwrapped(compiled.state_dict(), expected) == ["_orig_mod.", "module."]
    part = nn.Sequential()
    part.add_module("trunk", torch.compile(model))
    assert assert_unwrapped(part.state_dict(), prefixed("trunk.", expected)) == ["_orig_mod."]


@pytest.mark.parametrize("content", [None, 3, [torch.zeros(1)], {"epoch": 3}, {0: torch.zeros(1)}])
def test_what_holds_no_state_dict(content: Any) -> None:
    assert unwrap(content) is None
    assert unwrap({"state_dict": content}) is None


def test_files_tell_what_was_stripped(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "a.safetensors"
    save_file(prefixed("params_ema._orig_mod.", STATE), path)
    assert list(read_state_dict(path, told.append)) == list(STATE)
    torch.save(STATE, tmp_path / "b.pth")
    read_state_dict(tmp_path / "b.pth", told.append)
    assert told == [f"{path}: taken out of _orig_mod., params_ema."]
