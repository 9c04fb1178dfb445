"""Foreign weights: sizes detected, loading strict, every dialect and container read, pickles refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deflow_cli.checkpoints.foreign import (
    detect_published,
    load_encoder,
    load_published,
    published_key_map,
    published_layout,
    read_state_dict,
    unused_published,
)
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.deflow.model import DeFlow
from tests.golden.recipe import weight

State = dict[str, Tensor]
BLOCKS = EncoderConfig(channels=4, growth_channels=2, blocks=2, stacked_blocks=(0, 1))


def small(**flow: Any) -> DeFlow:
    defaults = {"levels": 3, "steps": 1, "hidden_channels": 4}
    return DeFlow(ModelConfig(FlowConfig(**defaults | flow), BLOCKS)).eval()


def published_state(model: DeFlow, seed: int = 3) -> State:
    """A published state dict of this model's sizes, by the recipe; ActNorm parameters random too."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for key, shape in published_layout(model).items():
        tensor = weight(seed, key, shape)
        state[key] = 0.1 * torch.randn(shape, generator=generator) if tensor is None else tensor
    return state


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads waiting for each other cost more than they give on models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def state() -> State:
    return published_state(small())


def image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def encoded(model: DeFlow) -> Tensor:
    side = model.size_multiple
    h = image(1, 3, side // model.config.flow.downsample, side // model.config.flow.downsample)
    latents, log_det = model.encode_conditioned(image(1, 3, side, side), model.prepare(h))
    return torch.cat([z.flatten() for z in latents] + [log_det, model.prior.log_prob_degraded(latents)])


# -- the published DeFlow layout ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "flow",
    [
        {"levels": 2},
        {"levels": 3},
        {"levels": 3, "splits": "all"},
        {"levels": 4, "steps": 2, "hidden_channels": 6},
        {"levels": 2, "downsample": 2},
        {"levels": 3, "downsample": 8},
        {"levels": 3, "downsample": 16},
        {"levels": 3, "transition_steps": 1},
    ],
    ids=str,
)
def test_round_trip_of_the_published_layout(flow: dict[str, Any]) -> None:
    model = small(**flow)
    state = published_state(model)
    loaded, unused = load_published(state)
    assert loaded.config == model.config
    assert not loaded.training
    assert unused == sorted(unused_published(model))
    ours = loaded.state_dict()
    for key, name in published_key_map(loaded).items():
        assert torch.equal(ours[key].flatten(), state[name].flatten()), name
    # written back under published names and loaded again: the same function
    again = {name: ours[key].reshape(state[name].shape) for key, name in published_key_map(loaded).items()}
    second, unused = load_published(again)
    assert unused == []
    assert torch.equal(encoded(second), encoded(loaded))


def test_every_tensor_of_ours_has_a_published_place() -> None:
    model = small()
    known = set(published_key_map(model))
    statistics = {f"statistics.{name}" for name in ("mean", "std", "saturation")}
    assert set(model.state_dict()) - known == {"prior.weight_logits", *statistics}


@pytest.mark.parametrize("flow", [{"shift": "mixture:2"}, {"condition_channels": 3}, {"shift": "diagonal"}])
def test_models_that_the_layout_cannot_hold(flow: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="published layout"):
        published_key_map(small(**flow))


def test_missing_unexpected_and_misshapen_tensors_are_named(state: State) -> None:
    for key in ("mean_shift", "RRDB.trunk_conv.bias", "flowUpsamplerNet.layers.1.actnorm.logs"):
        with pytest.raises(CheckpointError, match=re.escape(f"missing {key}")):
            load_published({k: v for k, v in state.items() if k != key})
    with pytest.raises(CheckpointError, match=re.escape("unexpected RRDB.extra.weight")):
        load_published(state | {"RRDB.extra.weight": torch.zeros(1)})
    for key in ("cov_shift", "flowUpsamplerNet.f.0.weight", "flowUpsamplerNet.layers.2.invconv.p"):
        with pytest.raises(CheckpointError, match=re.escape(f"{key} is (2, 3), expected")):
            load_published(state | {key: torch.zeros(2, 3)})
    # same number of elements, other shape: must not be reshaped into place
    key = "flowUpsamplerNet.layers.1.invconv.l"
    with pytest.raises(CheckpointError, match=r"\(6, 24\), expected \(12, 12\)"):
        load_published(state | {key: torch.zeros(6, 24)})


def test_many_problems_are_counted(state: State) -> None:
    with pytest.raises(CheckpointError, match="and 3 more"):
        load_published(state | {f"extra.{i}": torch.zeros(1) for i in range(8)})


TELLING = ("RRDB.conv_first.weight", "flowUpsamplerNet.layers.3.affine.fAffine.0.weight")


@pytest.mark.parametrize("key", TELLING)
@pytest.mark.parametrize("value", [torch.zeros(()), torch.zeros(7), torch.zeros(0, 0, 3, 3)], ids=str)
def test_misshapen_telling_tensors(key: str, value: Tensor, state: State) -> None:
    with pytest.raises(CheckpointError):
        load_published(state | {key: value})


@pytest.mark.parametrize(
    "content", [{}, {"a": torch.zeros(1)}, {"RRDB.conv_first.weight": torch.zeros(4, 3, 3, 3)}], ids=len
)
def test_what_is_no_deflow_model(content: State) -> None:
    with pytest.raises(CheckpointError, match="published layout"):
        detect_published(content)


def test_stacked_blocks_of_23_are_the_published_ones() -> None:
    encoder = EncoderConfig(channels=2, growth_channels=2)
    model = DeFlow(ModelConfig(FlowConfig(levels=2, steps=1, hidden_channels=4), encoder))
    layout = {key: torch.zeros(shape) for key, shape in published_layout(model).items()}
    assert detect_published(layout).encoder.stacked_blocks == (1, 8, 15, 22)


def test_unknown_stacking_is_an_error_rather_than_a_guess() -> None:
    encoder = EncoderConfig(channels=2, growth_channels=2, blocks=5, stacked_blocks=(0, 2))
    model = DeFlow(ModelConfig(FlowConfig(levels=2, steps=1, hidden_channels=4), encoder))
    with pytest.raises(CheckpointError, match="5 encoder blocks of which 2"):
        load_published(published_state(model))


# -- files --------------------------------------------------------------------------------------------

CONTAINERS = [None, "params_ema", "params", "state_dict", "model_state_dict", "model", "net"]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("prefix", ["", "module.", "netG."])
def test_containers_and_prefixes_of_pth_files(
    container: str | None, prefix: str, state: State, tmp_path: Path
) -> None:
    content: Any = {prefix + key: value for key, value in state.items()}
    path = tmp_path / "weights.pth"
    torch.save({container: content, "epoch": 3} if container else content, path)
    found = read_state_dict(path)
    assert list(found) == list(state)
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_ema_comes_before_the_raw_weights(state: State, tmp_path: Path) -> None:
    raw = {key: value + 1 for key, value in state.items()}
    torch.save({"params": raw, "params_ema": state}, tmp_path / "both.pth")
    assert torch.equal(read_state_dict(tmp_path / "both.pth")["mean_shift"], state["mean_shift"])


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_half_precision_loads_as_float32(suffix: str, state: State, tmp_path: Path) -> None:
    half = {key: value.half() for key, value in state.items()}
    path = tmp_path / f"half.{suffix}"
    save_file(half, path) if suffix == "safetensors" else torch.save(half, path)
    found = read_state_dict(path)
    assert {value.dtype for value in found.values()} == {torch.float32}
    model, _ = load_published(found)
    full, _ = load_published(state)
    torch.testing.assert_close(encoded(model), encoded(full), rtol=0.05, atol=0.05)
    assert not torch.equal(encoded(model), encoded(full))


class _Malicious:
    """Pickles into a call, as a hostile weights file would."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(zipped: bool, state: State, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    content = state | {"payload": _Malicious(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=re.escape("evil.pth")) as caught:
        read_state_dict(path)
    assert "tensors" in caught.value.next_step
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"not weights at all", b"PK\x03\x04 cut short"],
    ids=["empty", "text", "cut"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_broken_files_are_named(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        read_state_dict(path)


def test_files_without_a_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    for content in ([torch.zeros(1)], {"epoch": 3}, {0: torch.zeros(1)}, torch.zeros(3)):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="holds no state dict"):
            read_state_dict(path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_state_dict(tmp_path / "absent.pth")


# -- ESRGAN dialects ----------------------------------------------------------------------------------


def esrgan_states(blocks: int = 2, scale: int = 4) -> dict[str, State]:
    """One small generator in its three dialects, tails included."""
    generator = torch.Generator().manual_seed(9)
    shapes: dict[str, tuple[int, int]] = {"conv_first": (4, 3), "conv_body": (4, 4)}
    for block in range(blocks):
        for rdb in (1, 2, 3):
            for conv in range(1, 6):
                shapes[f"body.{block}.rdb{rdb}.conv{conv}"] = (2 if conv < 5 else 4, 4 + 2 * (conv - 1))
    ups = {4: 2, 8: 3}[scale]
    shapes |= {f"conv_up{i}": (4, 4) for i in range(1, ups + 1)}
    shapes |= {"conv_hr": (4, 4), "conv_last": (3, 4)}
    new: State = {}
    for name, (outputs, inputs) in shapes.items():
        new[f"{name}.weight"] = 0.3 * torch.randn((outputs, inputs, 3, 3), generator=generator)
        new[f"{name}.bias"] = 0.3 * torch.randn(outputs, generator=generator)

    def renamed(rules: list[tuple[str, str]]) -> State:
        result = {}
        for key, value in new.items():
            for pattern, replacement in rules:
                if re.match(pattern, key):
                    result[re.sub(pattern, replacement, key)] = value
                    break
            else:
                result[key] = value
        return result

    mid = [
        (r"^body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2"),
        (r"^conv_body", "trunk_conv"),
        (r"^conv_up", "upconv"),
        (r"^conv_hr", "HRconv"),
    ]
    old = [
        (r"^conv_first\.", "model.0."),
        (r"^body\.(\d+)\.rdb(\d)\.conv(\d)\.", r"model.1.sub.\1.RDB\2.conv\3.0."),
        (r"^conv_body\.", f"model.1.sub.{blocks}."),
        (r"^conv_up1\.", "model.3."),
        (r"^conv_up2\.", "model.6."),
        (r"^conv_hr\.", "model.8."),
        (r"^conv_last\.", "model.10."),
    ]
    return {"new": new, "mid": renamed(mid), "old": renamed(old)}


@torch.no_grad()
def test_three_dialects_start_the_same_encoder() -> None:
    h = image(1, 3, 4, 4)
    features: dict[str, list[Tensor]] = {}
    for dialect, state in esrgan_states().items():
        model = DeFlow(small().config, seed=len(features)).eval()
        unused = load_encoder(model, state)
        assert model.encoder is not None
        features[dialect] = model.encoder(h)
        # level 1 of x4 needs one up-convolution; the file's second, its tail and nothing else is left
        assert len(unused) == 6
        assert torch.equal(model.encoder.conv_first.weight, esrgan_states()["new"]["conv_first.weight"])
    for a, b, c in zip(*features.values(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_an_encoder_may_need_more_up_convolutions_than_the_file_has() -> None:
    model = small(downsample=16)
    assert model.encoder is not None
    before = model.encoder.state_dict()["conv_up3.weight"].clone()
    load_encoder(model, esrgan_states()["new"])
    after = model.encoder.state_dict()
    assert torch.equal(after["conv_up3.weight"], before)
    assert torch.equal(after["conv_up2.weight"], esrgan_states()["new"]["conv_up2.weight"])


def test_encoder_weights_that_do_not_fit() -> None:
    states = esrgan_states()
    with pytest.raises(CheckpointError, match="unexpected"):
        load_encoder(small(), esrgan_states(blocks=3)["new"])
    with pytest.raises(CheckpointError, match="missing"):
        load_encoder(small(), {k: v for k, v in states["mid"].items() if k != "trunk_conv.weight"})
    with pytest.raises(CheckpointError, match=r"conv_first.weight is \(4, 12, 3, 3\)"):
        load_encoder(small(), states["new"] | {"conv_first.weight": torch.zeros(4, 12, 3, 3)})
    with pytest.raises(CheckpointError, match="unexpected tensor surprise"):
        load_encoder(small(), states["old"] | {"surprise": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not ESRGAN weights"):
        load_encoder(small(), {"conv.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="no encoder"):
        load_encoder(small(conditioning="none"), states["new"])
