"""sr-train --arch srflow: both stages, exact resume, the encoder's rest, the best, what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deflow_cli.checkpoints.restorer import load_restorer, save_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.config.srflow import SRFlowRunConfig
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.presets.reader import SRFLOW
from deflow_cli.training.deferred_metrics import Outcome
from deflow_cli.workflows.restorer.data import SrSource
from deflow_cli.workflows.restorer.request import SrResult
from deflow_cli.workflows.restorer.srflow.run import SRFlowRequest, train_srflow
from deflow_cli.workflows.restorer.srflow.step import SRFlowStep
from tests.listening import Listener
from tests.workflows.restorer.test_sr_train import assert_same, write_pairs

SMALL = [
    "srflow.levels=2",
    "srflow.steps=2",
    "srflow.hidden_channels=8",
    "srflow.condition_channels=8",
    "encoder.channels=8",
    "encoder.growth_channels=4",
    "encoder.blocks=1",
    "encoder.stacked_blocks=[0]",
    "pretrain.iterations=4",
    "flow.iterations=8",
    "sr.time_budget=0",
    "sr.batch_size=4",
    "sr.gt_size=16",
    "sr.held_out=0.25",
    "sr.log_every=2",
    "sr.validate_every=4",
    "sr.preview_every=100",
    "sr.checkpoint_every=3",
    "sr.select=bits",
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "x2", 2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(*settings: str) -> SRFlowRunConfig:
    return SRFLOW.apply_overrides(SRFLOW.load("tiny"), [*SMALL, *settings])


def train(data: Path | SrSource, out: Path, *settings: str, reporter=None, **fields) -> SrResult:
    source = SrSource(data) if isinstance(data, Path) else data
    request = SRFlowRequest(source, out, small(*settings), device="cpu", **fields)
    return train_srflow(request, reporter)


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_both_stages_and_what_they_leave(pairs: Path, tmp_path: Path) -> None:
    heard = Listener()
    result = train(pairs, tmp_path / "run", reporter=heard)
    assert (result.step, result.interrupted, result.select) == (12, False, "bits")
    model, facts = load_restorer(result.model_path)
    assert isinstance(model, SRFlow)
    assert (model.scale, facts["select"], facts["flow_from"][0]) == (2, "bits", 4)
    assert facts["scores"]["bits"] == pytest.approx(result.scores["bits"])
    assert {"bits", "lr_psnr", "psnr", "ssim"} <= set(result.scores)
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows if "pixel" in row] == [2, 4]
    assert [row["step"] for row in rows if "bits" in row] == [6, 8, 10, 12]
    held = [row["held_out_bits"] for row in rows if "held_out_bits" in row]
    assert result.scores["bits"] == pytest.approx(min(held))
    assert (tmp_path / "run" / "previews" / "0000012.png").is_file()
    assert SRFLOW.load(tmp_path / "run" / "config.toml").srflow.scale == 2
    assert any("SRFlow x2, 2 levels of 2 steps" in note for note in heard.notes)
    assert any("bits per dimension on held-out pairs" in note for note in heard.notes)


class Crash(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("at", [2, 4, 10])
def test_resumed_to_the_bit(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Killed in each stage, and between them."""
    train(pairs, tmp_path / "whole")
    step = SRFlowStep.__call__

    def crashing(self: SRFlowStep, number: int, share: float, factor: float) -> Outcome:
        if number == at:
            raise Crash
        return step(self, number, share, factor)

    with monkeypatch.context() as patched:
        patched.setattr(SRFlowStep, "__call__", crashing)
        with pytest.raises(Crash):
            train(pairs, tmp_path / "killed")
    train(pairs, tmp_path / "killed", resume=True)
    for name in ("restorer", "restorer-last", "state"):
        assert_same(*(tmp_path / run / f"{name}.safetensors" for run in ("whole", "killed")))
    whole, killed = rows_of(tmp_path / "whole"), rows_of(tmp_path / "killed")
    assert [row["step"] for row in whole] == [row["step"] for row in killed]


def test_the_encoder_rests_for_its_share(pairs: Path, tmp_path: Path) -> None:
    settings = ("pretrain.iterations=0", "sr.pretrain_share=0", "sr.ema=0", "flow.iterations=3")
    rest = ("encoder.", "encoder.project.")
    states = {}
    for freeze in (0.0, 1.0):
        for steps in (1, 3):
            out = tmp_path / f"{freeze}-{steps}"
            train(pairs, out, *settings, f"sr.encoder_freeze={freeze}", f"flow.iterations={steps}")
            states[freeze, steps] = load_file(out / "restorer-last.safetensors")

    def moved(freeze: float, prefix: str) -> bool:
        one, three = states[freeze, 1], states[freeze, 3]
        return any(not torch.equal(one[key], three[key]) for key in one if key.startswith(prefix))

    assert moved(0.0, rest[0])
    assert not moved(1.0, rest[0])
    assert moved(1.0, "flow.")


def test_steps_that_are_not_finite_are_skipped(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise, spoiled = SRFlowStep.noise, 6

    def spoiling(self: SRFlowStep, step: int, shape: torch.Size):
        drawn = noise(self, step, shape)
        return drawn._replace(uniform=drawn.uniform * float("nan")) if step == spoiled else drawn

    monkeypatch.setattr(SRFlowStep, "noise", spoiling)
    result = train(pairs, tmp_path / "run")
    model, facts = load_restorer(result.last_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert facts["skipped_steps"] == 1


def test_clean_pictures_with_a_degrader(pairs: Path, tmp_path: Path) -> None:
    source = SrSource(hr=pairs / "gt", scale=2, degrader=DegraderChoice("white-noise", sigma=8.0))
    result = train(source, tmp_path / "run", "sr.memory=low", "flow.l1=0.1")
    assert load_restorer(result.model_path)[1]["degrader"]["name"] == "white-noise"
    assert any("l1" in row for row in rows_of(tmp_path / "run"))


def test_without_noise_a_warning_is_given(pairs: Path, tmp_path: Path) -> None:
    heard = Listener()
    train(pairs, tmp_path / "run", "srflow.noise=none", "flow.iterations=2", reporter=heard)
    assert any("no upper bound" in text for text in heard.warnings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["srflow.form=direct"], r"sr\.start=regression needs srflow\.form=inverted"),
        (["srflow.scale=3"], r"srflow\.scale is 3"),
        (["srflow.levels=1", "srflow.scale=4"], r"srflow\.levels is 1, fewer than the 2 doublings"),
        (["flow.iterations=0"], r"neither flow\.iterations nor sr\.time_budget"),
        (["sr.time_budget=60"], r"both pretrain\.iterations .* and sr\.time_budget"),
        (["srflow.noise=poisson"], r"srflow\.noise is 'poisson'"),
        (["srflow.coupling_bound=0.1", "srflow.affine=published"], r"srflow\.coupling_bound is 0\.1"),
    ],
)
def test_what_cannot_be_trained_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(*settings)


def test_the_encoder_starts_from_a_restorer_of_others(pairs: Path, tmp_path: Path) -> None:
    """What its first convolution sees beyond colours has no effect at first."""
    torch.manual_seed(1)
    donor = RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1, growth_channels=4, unshuffle=1))
    save_restorer(tmp_path / "esrgan.safetensors", donor, {})
    heard = Listener()
    settings = ("pretrain.iterations=0", "sr.pretrain_share=0", "flow.iterations=1", "sr.encoder_freeze=1")
    run = train(pairs, tmp_path / "run", *settings, reporter=heard, encoder=tmp_path / "esrgan.safetensors")
    tensors = load_file(run.last_path)
    first = tensors["encoder.conv_first.weight"]
    assert torch.equal(first[:, :3], donor.conv_first.weight)
    assert first.shape[1] == 5
    assert not first[:, 3:].any()
    assert torch.equal(tensors["encoder.body.0.rdb1.conv1.weight"], donor.body[0].rdb1.conv1.weight)
    assert any(note.startswith("the encoder starts from") for note in heard.notes)
