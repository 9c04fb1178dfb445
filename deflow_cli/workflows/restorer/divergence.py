"""Divergence: signs that a restorer's training collapses, reported with the weights to go back to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.restorer.validation import Measured

SATURATED_LOSS = 0.01  # of the discriminator; ln 2 = 0.69 where it cannot tell
SATURATED_ROWS = 10  # lines of the log in a row
DRIFT = 0.02  # of a channel's mean, [0, 1] scale: five grey levels


class DivergenceMonitor:
    """Looks at the log's rows and the validations; warns when something begins, and again if it comes back.

    memory: JSON-ready, of the run, so that a resumed run warns as one that was never interrupted.
    weights_to_go_back_to(step): which they are, and how. input_drift: of the degraded pictures themselves, as
    Measured has it: what a restorer has yet to learn is no drift of its own.
    """

    def __init__(
        self,
        memory: Callable[[], dict[str, Any]],
        psnr_drop: float,
        reporter: Reporter,
        weights_to_go_back_to: Callable[[int], str],
        input_drift: Callable[[], Sequence[float]] = tuple,
    ) -> None:
        self._memory, self._psnr_drop = memory, psnr_drop
        self._reporter, self._weights_to_go_back_to, self._input_drift = (
            reporter,
            weights_to_go_back_to,
            input_drift,
        )

    def begin_stage(self, psnr: float | None = None) -> None:
        """What a stage before this one reached does not count against it; psnr: of the weights it starts at.

        A GAN stage costs PSNR by its nature, so twice the usual fall below its start is a collapse.
        """
        memory = self._memory()
        memory.clear()
        if psnr is not None:
            memory["start"] = psnr

    def is_fallen(self, psnr: float, best: float) -> bool:
        """Whether a held-out PSNR is a collapse, given the stage's best."""
        start = self._memory().get("start")
        lost = start is not None and psnr < start - 2 * self._psnr_drop
        return lost or psnr < best - self._psnr_drop

    def on_row(self, step: int, row: Mapping[str, float]) -> None:
        """A line of the log: means since the last one."""
        if "discriminator" not in row:
            return
        memory = self._memory()
        rows = memory.get("saturated_rows", 0) + 1 if row["discriminator"] < SATURATED_LOSS else 0
        memory["saturated_rows"] = rows
        if rows == SATURATED_ROWS:
            self._warn(
                step,
                f"the discriminator is saturated: its loss is {row['discriminator']:.2g}, and has been below "
                f"{SATURATED_LOSS:g} for {rows} lines of the log; the generator learns nothing from it",
            )

    def on_validation(self, step: int, measured: Measured) -> None:
        """Held-out scores; call it once the best is known and kept."""
        memory, psnr = self._memory(), measured.scores["psnr"]
        best = max(memory.get("psnr", psnr), psnr)
        memory["psnr"] = best
        if self._begins("fallen", self.is_fallen(psnr, best)):
            start = memory.get("start", best)
            than = "what this stage began with" if start > best else "this stage's best"
            fall = max(start, best) - psnr
            self._warn(step, f"the held-out PSNR fell to {psnr:.2f} dB, {fall:.1f} dB below {than}")
        allowed = DRIFT + max((abs(value) for value in self._input_drift()), default=0.0)
        if self._begins("drifted", max(abs(value) for value in measured.drift) > allowed):
            shown = ", ".join(f"{255 * value:+.1f}" for value in measured.drift)
            self._warn(step, f"colours drift: restored images are off by {shown} grey levels (R, G, B)")

    def _begins(self, name: str, now: bool) -> bool:
        memory = self._memory()
        before, memory[name] = memory.get(name, False), now
        return now and not before

    def _warn(self, step: int, text: str) -> None:
        self._reporter.warn(f"step {step}: {text}. {self._weights_to_go_back_to(step)}")
