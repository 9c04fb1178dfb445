"""`deflow sr-train --arch srflow`: which command it is, its settings, and what is refused early."""

from __future__ import annotations

from pathlib import Path

import pytest

from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.presets.reader import SRFLOW
from deflow_cli.workflows.restorer.srflow import run as workflow
from tests.cli.test_sr_train import Result


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    return Path("p")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[workflow.SRFlowRequest]:
    made: list[workflow.SRFlowRequest] = []

    def train(request: workflow.SRFlowRequest, reporter: object) -> Result:
        made.append(request)
        return Result()

    monkeypatch.setattr(workflow, "train_srflow", train)
    monkeypatch.setattr(workflow, "default_srflow_preset", lambda device: "tiny")
    return made


@pytest.mark.parametrize(
    "options", [("--arch", "srflow"), ("--preset", "srflow-tiny"), ("--arch", "srflow", "--preset", "tiny")]
)
def test_arch_or_preset_choose_it(deflow, pairs, requests, options):
    result = deflow("sr-train", pairs, *options)
    assert result.exit_code == 0, result.output
    (request,) = requests
    assert request.config == SRFLOW.load("tiny")
    assert (request.source.pairs, request.out, request.encoder) == (pairs, Path("runs/p"), None)


def test_options_become_settings(deflow, pairs, requests):
    Path("e.pth").touch()
    options = ("--arch", "srflow", "--iterations", 50, "--seed", 3, "--select", "bits", "--init", "e.pth")
    assert deflow("sr-train", pairs, *options, "--set", "flow.iterations=80").exit_code == 0
    config = requests[0].config
    assert (config.pretrain.iterations, config.flow.iterations, config.sr.time_budget) == (50, 80, 0)
    assert (config.sr.seed, config.sr.select, requests[0].encoder) == (3, "bits", Path("e.pth"))
    deflow("sr-train", pairs, "--preset", "srflow-base", "--time-budget", "90s")
    config = requests[1].config
    assert (config.pretrain.iterations, config.flow.iterations, config.sr.time_budget) == (0, 0, 90.0)


def test_pictures_with_a_degrader(deflow, pairs, requests):
    options = ("--degrader", "white-noise", "--sigma", 9, "--temperature", "0.5:1", "--scale", 2)
    assert deflow("sr-train", "--hr", pairs, "--arch", "srflow", *options).exit_code == 0
    source = requests[0].source
    assert (source.hr, source.scale, source.temperature) == (pairs, 2, (0.5, 1.0))
    assert vars(source.degrader) == vars(DegraderChoice("white-noise", sigma=9.0))


def test_a_run_is_resumed_as_what_it_is(deflow, pairs, requests):
    run = Path("runs/p")
    run.mkdir(parents=True)
    (run / "config.toml").write_text(SRFLOW.to_toml(SRFLOW.load("tiny")))
    result = deflow("sr-train", pairs, "--resume", "--set", "sr.batch_size=3")
    assert result.exit_code == 0, result.output
    assert requests[0].resume
    assert "not applied: sr.batch_size" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--arch", "srflow", "--stage", "gan"), "--stage is for ESRGAN, not for SRFlow"),
        (("--arch", "srflow", "--perceptual", "none"), "--perceptual is for ESRGAN"),
        (("--arch", "rrdb-tiny", "--preset", "srflow-tiny"), "--preset srflow-tiny is an SRFlow's"),
        (("--arch", "srflow", "--preset", "fast"), "'fast' is no preset"),
        (("--arch", "srflow", "--set", "gan.iterations=3"), "unknown key 'gan.iterations'"),
        (("--arch", "srflow", "--iterations", 3, "--time-budget", "9s"), "both --iterations and"),
        (("--arch", "resnet"), "or srflow"),
    ],
)
def test_what_is_refused(deflow, pairs, requests, options, message):
    result = deflow("sr-train", pairs, *options)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert not requests
