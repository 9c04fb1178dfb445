"""`deflow sr-train`: what the workflow is asked for, and what is refused before it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deflow_cli.presets.reader import SR
from tests.cli.conftest import install_workflow


@dataclass
class Result:
    """What a run of the workflow gives."""

    run_dir: Path = Path("runs/p")
    model_path: Path = Path("runs/p/restorer.safetensors")
    last_path: Path = Path("runs/p/restorer-last.safetensors")
    step: int = 9
    best_step: int = 8
    interrupted: bool = False
    select: str = "psnr"
    scores: dict[str, float] = field(default_factory=lambda: {"psnr": 31.25, "ssim": 0.9})
    input_scores: dict[str, float] = field(default_factory=lambda: {"psnr": 28.5, "ssim": 0.8})
    seconds: float = 61.0


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests of a workflow that is done at once; without a preset it takes tiny."""
    found: list[Any] = []

    def sr_train(request: Any, reporter: Any) -> Result:
        found.append(request)
        return Result(interrupted=request.out == Path("runs/stopped"))

    names = ("DegraderChoice", "SrSource", "SrRequest")
    members: dict[str, Any] = {name: SimpleNamespace for name in names}
    members |= {"sr_train": sr_train, "default_preset": lambda device: "tiny"}
    install_workflow(monkeypatch, "restorer.run", **members)
    return found


@pytest.fixture
def pairs(deflow) -> Path:
    Path("p").mkdir()
    return Path("p")


def test_request_has_the_preset_with_its_overrides(deflow, pairs, requests):
    Path("vgg.pth").touch()
    Path("init.pth").touch()
    args = ("--preset", "paper", "--stage", "gan", "--init", "init.pth", "--discriminator", "patch")
    more = ("--perceptual-weights", "vgg.pth", "--arch", "rrdb-small", "--iterations", 500, "--scale", 4)
    result = deflow("sr-train", pairs, "--seed", 3, *args, *more, "--select", "niqe", "--set", "sr.ema=0.9")
    assert result.exit_code == 0, result.output
    (request,) = requests
    assert (request.source.pairs, request.source.hr, request.source.scale) == (pairs, None, 4)
    assert (request.out, request.init, request.arch) == (Path("runs/p"), Path("init.pth"), "rrdb-small")
    config = request.config
    assert (config.sr.stage, config.sr.select, config.sr.seed, config.sr.ema) == ("gan", "niqe", 3, 0.9)
    assert (config.loss.discriminator, config.loss.features) == ("patch", "vgg19")
    assert config.loss.features_file == "vgg.pth"
    assert (config.restorer.channels, config.restorer.blocks) == (64, 6)
    assert (config.gan.iterations, config.psnr.iterations, config.sr.time_budget) == (500, 500, 0)


def test_default_preset_is_the_workflows_choice(deflow, pairs, requests):
    deflow("sr-train", pairs)
    assert requests[0].config == SR.load("tiny")


def test_time_budget_stands_for_both_stages(deflow, pairs, requests):
    deflow("sr-train", pairs, "--preset", "fast", "--time-budget", "90s", "--perceptual", "none")
    config = requests[0].config
    assert (config.psnr.iterations, config.gan.iterations, config.sr.time_budget) == (0, 0, 90.0)
    assert config.loss.features == "none"


def test_options_of_a_stage_that_is_not_run_are_told(deflow, pairs, requests):
    result = deflow("sr-train", pairs, "--preset", "tiny", "--discriminator", "patch")
    assert "--discriminator is of no use to this run, for it has no GAN stage" in result.stderr
    assert "no use" not in deflow("sr-train", pairs, "--stage", "both", "--discriminator", "patch").stderr


def test_options_of_the_other_degraders(deflow, pairs, requests):
    options = ("--degrader", "noise-patches", "--noisy", "p", "--patch-size", 64, "--patch-variance", 300)
    assert deflow("sr-train", "--hr", pairs, *options, "--temperature", "0.6:1.2").exit_code == 0
    source = requests[0].source
    assert (source.degrader.patch_size, source.degrader.patch_variance) == (64, 300)
    assert source.temperature == (0.6, 1.2)


def test_pictures_with_a_degrader(deflow, pairs, requests):
    Path("m.safetensors").touch()
    options = ("--degrader", "deflow", "--model", "m.safetensors", "--scale", 2, "--temperature", 0.8)
    result = deflow("sr-train", "--hr", pairs, *options)
    assert result.exit_code == 0, result.output
    source = requests[0].source
    assert (source.pairs, source.hr, source.scale, source.temperature) == (None, pairs, 2, (0.8, 0.8))
    assert vars(source.degrader) == {"name": "deflow", "model": Path("m.safetensors")}


def test_results_are_on_stdout(deflow, pairs, requests):
    out = deflow("sr-train", pairs).stdout
    assert "done at step 9" in out
    assert "held-out psnr: 31.25 dB (degraded: 28.50 dB)" in out
    assert "runs/p/restorer.safetensors (step 8, best by psnr)" in out
    record = json.loads(deflow("sr-train", pairs, "--json").stdout)
    assert (record["best_step"], record["scores"]["psnr"]) == (8, 31.25)


def test_interrupted_is_130(deflow, pairs, requests):
    result = deflow("sr-train", pairs, "--name", "stopped")
    assert result.exit_code == 130
    assert "--resume" in result.stderr


def test_changed_data_is_accepted_where_asked_for(deflow, pairs, requests):
    deflow("sr-train", pairs, "--out", "run", "--resume")
    deflow("sr-train", pairs, "--out", "run", "--resume", "--accept-changed-data")
    assert [request.accepts_changed_data for request in requests] == [False, True]


def test_resume_keeps_the_runs_own_configuration(deflow, pairs, requests):
    own = SR.apply_overrides(SR.load("tiny"), ["sr.seed=5"])
    Path("run").mkdir()
    Path("run/config.toml").write_text(SR.to_toml(own))
    assert deflow("sr-train", pairs, "--out", "run").exit_code == 2
    assert requests == []
    result = deflow("sr-train", pairs, "--out", "run", "--resume", "--seed", 5, "--set", "sr.batch_size=2")
    assert (requests[0].config, requests[0].resume) == (own, True)
    assert "not applied: sr.batch_size." in result.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, ["neither PAIRS nor --hr"]),
        (["p", "--hr", "p"], 2, ["both PAIRS and --hr"]),
        (["p", "--degrader", "none"], 2, ["--degrader is for --hr"]),
        (["p", "--patch-size", "3"], 2, ["--patch-size is for --hr"]),
        (["--hr", "p", "--temperature", "2:1"], 2, ["--temperature is '2:1'"]),
        (["p", "--sigma", "3"], 2, ["--sigma is for --hr"]),
        (["p", "--arch", "vdsr"], 2, ["--arch is 'vdsr'", "rrdb-small"]),
        (["p", "--stage", "wgan", "--preset", "tiny"], 2, ["sr.stage is 'wgan'"]),
        (["p", "--discriminator", "big", "--preset", "tiny"], 2, ["loss.discriminator is 'big'", "unet"]),
        (["p", "--preset", "base"], 2, ["'base' is no preset", "paper"]),
        (["p", "--iterations", "5", "--time-budget", "5m"], 2, ["both --iterations and --time-budget"]),
        (["p", "--set", "fit.seed=1"], 2, ["unknown key 'fit.seed'", "sr.seed"]),
        (["p", "--init", "none.pth"], 1, ["none.pth: no such file"]),
        (["nowhere"], 1, ["nowhere: no such folder", "PAIRS"]),
        (["p", "--val", "nowhere"], 1, ["nowhere: no such folder", "--val"]),
        (["p", "--device", "tpu"], 2, ["'tpu'"]),
    ],
)
def test_wrong_options_name_value_and_expectation(deflow, pairs, requests, args, code, words):
    result = deflow("sr-train", *args)
    assert (result.exit_code, requests) == (code, [])
    for word in words:
        assert word in result.stderr
