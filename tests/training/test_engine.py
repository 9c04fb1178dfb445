"""The engine: a bad step changes nothing, and reading late gives the run that reading at once gives."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from deflow_cli.config.fit import FitConfig
from deflow_cli.errors import TrainingError
from deflow_cli.models.esrgan.discriminators import build_discriminator
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.progress import Silent
from deflow_cli.runtime.seeding import generator as seeded
from deflow_cli.training.deferred_metrics import DeferredMetrics, Outcome
from deflow_cli.training.engine import Engine, Turn
from deflow_cli.training.network import Network, move_together
from deflow_cli.workflows.fit.step import LossStep
from deflow_cli.workflows.restorer import run as sr
from deflow_cli.workflows.restorer.step import Moment, RestorerStep
from tests.workflows.restorer.test_sr_train import rows_of, small, train, write_pairs

NEVER = 10**9  # of its own accord, that is: only where something depends on it
Poison = Callable[[int, float], float]  # (step, rate factor) to what the loss is multiplied by


def pace(**settings: object) -> FitConfig:
    own: dict[str, object] = {
        "iterations": 40,
        "ema": 0.9,
        "log_every": 6,
        "checkpoint_every": 10,
        "max_bad_steps": 3,
        "schedule": "cosine",
        "learning_rate": 0.01,
    }
    return dataclasses.replace(FIT.load("tiny").fit, **{**own, **settings})  # type: ignore[arg-type]


class Recorder(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Run:
    """A small network trained by the engine to the end, and all that is known of the run."""

    def __init__(
        self,
        out: Path,
        fit: FitConfig,
        poison: Poison,
        read_every: int | None,
        turn: Turn | None = None,
    ) -> None:
        out.mkdir(exist_ok=True)
        self.out, self.heard, self.poison = out, Recorder(), poison
        self.events: list[tuple[str, int, float]] = []
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
        step = LossStep(self.model, fit, self.inputs_of, self.loss_of)
        self.engine = Engine(
            [step.network],
            step,
            fit,
            out,
            self.heard,
            time.monotonic(),
            read_every=read_every,
            on_row=lambda step, row: self.events.append(("row", step, row["loss"])),
            turn=turn,
        )

    def inputs_of(self, step: int) -> tuple[Tensor, ...]:
        factor = self.poison(step, self.engine.progress.rate_factor)
        return torch.randn(8, 5, generator=seeded(1, step)), torch.tensor(factor), torch.empty(step % 2)

    def loss_of(self, x: Tensor, factor: Tensor, odd: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.model(x) - x[:, :3].square()).square().mean() * factor
        return loss, {"loss": loss} if len(odd) else {"loss": loss, "twice": 2 * loss}

    def hook(self, step: int) -> None:
        average = self.engine.state.averaged()["0.weight"]
        self.events.append(("hook", step, float(average.double().sum())))
        self.engine.progress.facts["hooked"] = step

    def go(self, resumes: bool = False) -> Run:
        self.engine.restore() if resumes else self.engine.begin()
        self.engine.run({"hook": (7, self.hook)})
        return self

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        path = self.out / "state.safetensors"
        with safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()["deflow.progress"])
        del progress["seconds"]
        return load_file(path), progress

    def rows(self) -> list[dict[str, object]]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(self.out)]


def assert_bitwise(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.contiguous().numpy().tobytes() == second[key].contiguous().numpy().tobytes(), key


def at(*steps: int, factor: float = float("nan"), rates: Sequence[float] = (1.0,)) -> Poison:
    """Steps that fail while the rate is one of these."""
    return lambda step, rate: factor if step in steps and rate in rates else 1.0


RUNS: dict[str, Poison] = {
    "all good": at(),
    "some bad": at(0, 3, 4, 9, 17, 23, 39),
    "all bad between two lines": at(12, 14, 16, factor=float("inf")),
    "a restore": at(1, 13, 14, 15),
    "a restore at once": at(0, 1, 2),
    "a restore where a state is due": at(17, 18, 19),
    "a restore where a hook is due": at(18, 19, 20),
    "a state in the middle of a row": at(8, 9, 20, 21, 22),
    "a restore at the end": at(37, 38, 39),
    "two restores": at(5, 24, 25, 26, 27, rates=(1.0, 0.5)),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("read_every", [4, NEVER])
def test_reading_late_is_reading_at_once(tmp_path: Path, name: str, read_every: int) -> None:
    now = Run(tmp_path / "now", pace(), RUNS[name], 1).go()
    late = Run(tmp_path / "late", pace(), RUNS[name], read_every).go()
    ours, theirs = now.state(), late.state()
    assert_bitwise(ours[0], theirs[0])
    assert ours[1] == theirs[1]
    assert now.rows() == late.rows()
    assert now.events == late.events
    assert now.heard.warnings == late.heard.warnings
    assert len(now.heard.warnings) == {"a": 1, "t": 2}.get(name[0] if "restore" in name else "", 0) or (
        name == "a state in the middle of a row"
    )
    assert ours[1]["step"] == 40
    assert all(torch.isfinite(value).all() for value in ours[0].values())
    assert all(value == value for row in now.rows() for value in row.values())  # no NaN in a mean


def test_a_cpu_is_read_at_once_and_late_means_late(tmp_path: Path) -> None:
    """What the comparison rests on: the two runs read differently."""
    lengths: dict[int | None, list[int]] = {}
    for read_every in (None, 4, NEVER):
        run = Run(tmp_path / str(read_every), pace(), at(), read_every)
        read, found = run.engine._deferred.read, lengths.setdefault(read_every, [])

        def counted(read=read, found=found):
            result = read()
            found.append(len(result))
            return result

        run.engine._deferred.read = counted  # type: ignore[method-assign]
        run.go()
    assert max(lengths[None]) == 1
    assert max(lengths[4]) == 4
    assert max(lengths[NEVER]) == 6  # steps 1 to 6, to the first line of the log
    assert sum(lengths[None]) == sum(lengths[4]) == sum(lengths[NEVER]) == 40


@pytest.mark.parametrize("read_every", [1, NEVER])
@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
def test_a_bad_step_changes_nothing(tmp_path: Path, kind: str, read_every: int) -> None:
    """Weights, Adam's state and averages after a bad sixth step are those after five."""
    fixed = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.1}
    five = Run(tmp_path / "five", pace(iterations=5, **fixed), at(), read_every).go()
    six = Run(tmp_path / "six", pace(iterations=6, **fixed), at(), read_every)
    plain = six.loss_of

    def loss_of(*inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, figures = plain(*inputs)
        if six.engine.progress.step == 5:
            vanishing = 0.0 * next(six.model.parameters()).sum()
            extra = vanishing.sqrt() if kind == "gradient" else vanishing + float(kind)
            loss = loss + extra  # a square root at 0: a finite loss whose gradient is not
        return loss, figures

    six.engine.take_step.loss_of = loss_of  # type: ignore[attr-defined]
    six.go()
    assert_bitwise(five.state()[0], six.state()[0])
    assert any(key.startswith("optimizer.0.exp_avg") for key in five.state()[0])
    assert six.state()[1]["bad_total"] == six.state()[1]["bad_in_row"] == 1


@pytest.mark.parametrize("read_every", [1, NEVER])
def test_hopeless_divergence_is_an_error(tmp_path: Path, read_every: int) -> None:
    run = Run(tmp_path / "run", pace(), lambda step, rate: float("nan") if step > 11 else 1.0, read_every)
    with pytest.raises(TrainingError, match=r"diverged 6 times, at rates down to 0\.015625"):
        run.go()
    assert len(run.heard.warnings) == 5
    assert "3 non-finite steps in a row at step 15: back to step 10 at 0.5" in run.heard.warnings[0]


@pytest.mark.parametrize("name", ["some bad", "a restore", "a state in the middle of a row"])
@pytest.mark.parametrize("stop", [9, 19])
def test_an_interrupted_run_goes_on_to_the_bit(tmp_path: Path, name: str, stop: int) -> None:
    """Stopped where no run of bad steps is under way, which would then go back to the state of the stop."""
    whole = Run(tmp_path / "whole", pace(), RUNS[name], NEVER).go()
    first = Run(tmp_path / "run", pace(), RUNS[name], NEVER)
    plain, taken = first.engine.take_step, []

    def take_step(step: int, share: float, rate: float) -> Outcome:
        taken.append(step)
        first.engine._stop = len(taken) == stop
        return plain(step, share, rate)

    first.engine.take_step = take_step
    first.go()
    assert first.state()[1]["step"] < 40
    second = Run(tmp_path / "run", pace(), RUNS[name], NEVER).go(resumes=True)
    assert_bitwise(whole.state()[0], second.state()[0])
    assert whole.state()[1] == second.state()[1]
    assert whole.rows() == second.rows()


@pytest.mark.parametrize("read_every", [1, 4, NEVER])
def test_a_turn_knows_all_that_came_before_it(tmp_path: Path, read_every: int) -> None:
    seen: list[tuple[int, int, int]] = []
    turned: list[bool] = []

    def take(step: int, share: float) -> None:
        progress = run.engine.progress
        seen.append((step, progress.bad_total, progress.restores))
        turned.append(True)
        run.engine.save()

    turn = Turn(lambda step, share: step == 16 and not turned, take)
    fit = pace(log_every=100, checkpoint_every=100)
    run = Run(tmp_path / "run", fit, at(1, 13, 14, 15), read_every, turn)
    run.go()
    assert seen == [(16, 4, 1)]  # bad were 1 and 13 to 15; from step 0 on at half the rate, none


# -- parts --------------------------------------------------------------------------------------------


def test_deferred_metrics_give_back_what_was_added() -> None:
    pending = DeferredMetrics()
    yes, no = torch.tensor(True), torch.tensor(False)
    pending.add(1, 0.0, Outcome({"a": torch.tensor(1.5, requires_grad=True)}, 0.5, yes))
    pending.add(2, 0.1, Outcome({"a": torch.tensor(float("nan")), "b": torch.tensor(0.1)}, 0.25, no))
    assert len(pending) == 2
    first, second = pending.read()
    assert (first.step, first.rate, first.finite, first.figures) == (1, 0.5, True, {"a": 1.5})
    assert (second.step, second.share, second.finite) == (2, 0.1, False)
    assert second.figures["b"] == torch.tensor(0.1).item()
    assert not pending
    assert pending.read() == []


def test_averages_move_as_by_lerp() -> None:
    random = torch.Generator().manual_seed(0)
    values, targets = ([torch.randn(3, 4, generator=random) for _ in range(2)] for _ in range(2))
    expected = [torch.lerp(a, b, 0.1) for a, b in zip(values, targets, strict=True)]
    before = [value.clone() for value in values]
    move_together(values, targets, torch.tensor(0.0))
    assert all(torch.equal(a, b) for a, b in zip(values, before, strict=True))
    move_together(values, targets, torch.tensor(0.1))
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-7)


def test_optimisers_that_are_not_fused_skip_too() -> None:
    weight = nn.Parameter(torch.ones(2))
    module = nn.ParameterList([weight])
    network = Network(module, torch.optim.SGD([weight], lr=0.5))
    weight.grad = torch.ones(2)
    network.update(torch.tensor(False))
    assert weight.tolist() == [1.0, 1.0]
    network.update(torch.tensor(True))
    assert weight.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("kind", ["vgg", "unet"])
def test_a_bad_gan_step_changes_nothing(kind: str) -> None:
    """Nor the batch statistics and singular vectors that a discriminator's forward passes move."""
    config = small("sr.stage=gan", "restorer.scale=2", f"loss.discriminator={kind}")
    networks = RRDBNet(config.restorer, seeded(1)), build_discriminator(kind, 16, 4, seeded(2))
    good = torch.rand(2, 3, 16, 16, generator=seeded(3)), torch.rand(2, 3, 8, 8, generator=seeded(4))
    batches = [good, (good[0], torch.full((2, 3, 8, 8), float("nan")))]
    step = RestorerStep(*networks, None, config, lambda i: batches[i], lambda i, _: Moment("gan", 1, 0.0))
    assert step(0, 0.0, 1.0).finite
    before = {k: v.clone() for network in step.networks for k, v in network.tensors().items()}
    assert not step(1, 0.0, 1.0).finite
    assert_bitwise({k: v for network in step.networks for k, v in network.tensors().items()}, before)


def test_both_stages_of_a_restorer_read_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore is found out only as the GAN stage is about to begin; the run is the same."""
    pairs = write_pairs(tmp_path / "pairs", 2)
    settings = [f"sr.{name}_every=100" for name in ("log", "validate", "checkpoint")]
    plain = sr.RestorerBatches.of_step
    engines: list[Engine] = []

    def batch(batches: sr.RestorerBatches, step: int) -> tuple[Tensor, Tensor]:
        gt, lq = plain(batches, step)
        bad = step in (3, 4, 5, 8) and engines[-1].progress.rate_factor == 1
        return gt, lq * float("nan") if bad or step == 9 else lq

    def engine(read_every: int, *args: Any, **keywords: Any) -> Engine:
        engines.append(Engine(*args, read_every=read_every, **keywords))
        return engines[-1]

    monkeypatch.setattr(sr.RestorerBatches, "of_step", batch)
    for name, read_every in (("now", 1), ("late", NEVER)):
        with monkeypatch.context() as patch:
            patch.setattr(sr, "Engine", partial(engine, read_every))
            result = train(pairs, tmp_path / name, *settings, "sr.max_bad_steps=3", "sr.ema=0.9")
            assert result.step == 12
    for name in ("state", "restorer", "restorer-last", "restorer-psnr"):
        ours, theirs = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("now", "late"))
        assert_bitwise(ours, theirs)
    now, late = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(tmp_path / run)]
        for run in ("now", "late")
    )
    assert now == late
