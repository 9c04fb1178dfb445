"""Tuning steps: white noise of several stds, each tried by a short training, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from deflow_cli.config.restorer import SrConfig
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.workflows.reproduce.steps.base import Bench, ExperimentStep
from deflow_cli.workflows.reproduce.steps.ledger import Facts
from deflow_cli.workflows.reproduce.steps.restoring import LAST, restored_scores, train_restorer


@dataclass(frozen=True)
class TryNoiseStep(ExperimentStep):
    """A short training of a restorer with white noise of one std, and its scores on the validation images."""

    trains: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True

    sigma: float
    config: SrConfig

    def run(self, bench: Bench) -> Facts:
        folder = bench.ledger.folder(self.name)
        degrader = DegraderChoice("white-noise", sigma=self.sigma)
        result = train_restorer(bench, folder / "run", self.config, degrader=degrader)
        models = {LAST: result.last_path}
        return {"sigma": self.sigma, "scores": restored_scores(bench, models, folder)[LAST]}


@dataclass(frozen=True)
class ChooseNoiseStep(ExperimentStep):
    """The std of white noise whose short training has the best LPIPS, or PSNR where LPIPS cannot be had."""

    def run(self, bench: Bench) -> Facts:
        tried = [bench.ledger.result(need) for need in self.needs if need.startswith("tune/")]
        rows: list[tuple[float, Any]] = [(one["sigma"], one["scores"]) for one in tried]  # type: ignore[misc]
        metric: Literal["lpips", "psnr"] = "lpips" if all("lpips" in scores for _, scores in rows) else "psnr"
        sign = 1 if metric == "lpips" else -1
        sigma = min(rows, key=lambda row: sign * row[1][metric]["mean"])[0]
        tried_text = ", ".join(f"{one:g}: {scores[metric]['mean']:.4g}" for one, scores in rows)
        bench.reporter.note(f"white noise of {sigma:g} grey levels, by {metric} ({tried_text})")
        return {"sigma": sigma, "metric": metric, "tried": tried_text}
