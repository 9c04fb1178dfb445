"""Fit verdict: what the facts of a training say about its model, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deflow_cli.config.fit import RunConfig
from deflow_cli.metrics.noise.findings import Severity
from deflow_cli.training.engine import TRAINING_SHARE
from deflow_cli.workflows.fit.conditioning import MARGIN

VerdictLine = tuple[Severity, str]
RunLength = tuple[int, float]
"""Steps, and where these are 0 the seconds that a run trains for."""

FALLING = 0.01  # bits per dimension over the last fifth of a run: more is worth training on for
RISING = 0.02  # bits per dimension of held-out noisy images above their lowest
SKIPPED = 0.01  # share of skipped steps that asks for a smaller rate
_FEWEST_ROWS = 4  # of the log in a fifth of a run, below which nothing is said


def share_done(facts: Mapping[str, Any], length: RunLength | None) -> float | None:
    """How much of its run a model has behind it, 0 to 1; None where the file does not tell."""
    if length is None or "step" not in facts:
        return None
    iterations, budget = length
    if iterations:
        return min(1.0, facts["step"] / iterations)
    seconds = facts.get("seconds", 0.0) + 0.05  # recorded to a tenth
    return min(1.0, seconds / (TRAINING_SHARE * budget))


def judge_length(facts: Mapping[str, Any], length: RunLength | None, remedy: str) -> list[VerdictLine]:
    """Whether a run of any method finished, and whether it skipped steps.

    length: that it was asked for; None where it is unknown. remedy: against steps that are not finite.
    """
    return [*_progress(facts, share_done(facts, length)), *_skipped(facts, remedy)]


def judge_training(
    facts: Mapping[str, Any], config: RunConfig | None, log: Sequence[Mapping[str, Any]] | None
) -> list[VerdictLine]:
    """Whether the run finished, skipped steps, saw the domain in h, or had better gone on.

    log: the rows of the run's log; None where there is only a model file.
    """
    length = (config.fit.iterations, config.training_time) if config is not None else None
    remedy = "with a lower fit.learning_rate or flow.scale=bounded"
    found = [*judge_length(facts, length, remedy), *_leak(facts)]
    if log is None:
        return found
    if share_done(facts, length) == 1.0 and facts["step"]:
        found += _falling(log)
    return found + _overfitted(log)


def _progress(facts: Mapping[str, Any], done: float | None) -> list[VerdictLine]:
    if done is None:
        return [("note", "The model file does not tell how it was fitted, so its training is not judged.")]
    step = facts["step"]
    if not step:
        return [("bad", "The model took no training step: its time was over before the first. Train longer.")]
    steps = "one step" if step == 1 else f"{step} steps"
    if done < 1.0:
        text = (
            f"The fit was interrupted after {steps}, at {100 * done:.0f} % of its run. The model can be "
            "used; the same command with --resume goes on."
        )
        return [("warn", text)]
    return [("good", f"The fit finished: {steps} in {time_in_words(facts.get('seconds', math.nan))}.")]


def _skipped(facts: Mapping[str, Any], remedy: str) -> list[VerdictLine]:
    skipped = facts.get("skipped_steps", 0)
    if not skipped:
        return []
    share = skipped / max(1, facts.get("step", 0))
    text = f"{skipped} steps ({100 * share:.1f} %) gave values that are not finite and were skipped"
    if share <= SKIPPED:
        return [("note", f"{text}; so few do no harm.")]
    return [("warn", f"{text}. Fit again {remedy}.")]


def _leak(facts: Mapping[str, Any]) -> list[VerdictLine]:
    """The domain-leak test at fit time: a model that sees the domain in h need not learn the shift."""
    table = facts.get("leak_test")
    if not table:
        return []
    downsample, _, accuracy, error = min(table, key=lambda row: row[2])
    if accuracy <= 0.5 + max(MARGIN, 2 * error):
        return []
    text = (
        f"The small picture that the model looks at (1/{downsample} size) still tells clean from noisy: a "
        f"classifier gets {100 * accuracy:.0f} % right, chance is 50 %. The folders differ in scenes, "
        "colours or sharpness as well as in noise, and some of that may be taken for degradation."
    )
    return [("warn", text)]


def _falling(log: Sequence[Mapping[str, Any]]) -> list[VerdictLine]:
    """Training bits per dimension in the last fifth of the steps against the fifth before it."""
    rows = [row for row in log if _finite(row.get("clean")) and _finite(row.get("noisy"))]
    end = rows[-1]["step"] if rows else 0
    fifths = [
        np.array([(r["clean"] + r["noisy"]) / 2 for r in rows if low * end < r["step"] <= high * end])
        for low, high in ((0.6, 0.8), (0.8, 1.0))
    ]
    if min(map(len, fifths)) < _FEWEST_ROWS:
        text = (
            "The run logged too few steps to tell whether the likelihood had settled. Look at the samples, "
            "and train longer if in doubt."
        )
        return [("note", text)]
    fall = float(fifths[0].mean() - fifths[1].mean())
    error = math.sqrt(sum(float(part.var(ddof=1)) / len(part) for part in fifths))
    if fall > max(FALLING, 2 * error):
        text = (
            f"The likelihood was still improving at the end, by {fall:.3f} bits per dimension over the last "
            "fifth of the steps: train longer."
        )
        return [("warn", text)]
    return [("good", "The likelihood had settled: training for longer would change little.")]


def _overfitted(log: Sequence[Mapping[str, Any]]) -> list[VerdictLine]:
    held = [row["held_out_noisy"] for row in log if _finite(row.get("held_out_noisy"))]
    if len(held) < 3 or held[-1] - min(held) <= RISING:
        return []
    text = (
        f"On held-out noisy images the likelihood got worse again, by {held[-1] - min(held):.3f} bits per "
        "dimension since its best: the training images are learnt by heart. Use more images or fewer steps."
    )
    return [("warn", text)]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def time_in_words(seconds: float) -> str:
    """``56 s``, ``12 min`` or ``2.5 h``."""
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
