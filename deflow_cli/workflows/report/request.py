"""Report request: what `deflow report` is asked for, what it gives back, and where its page goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deflow_cli.checkpoints.hub_models import parse_hub_model
from deflow_cli.paths import REPORT_FILE, is_hub_name
from deflow_cli.reports.pages.fit_page import Sentence
from deflow_cli.reports.pages.tables import Cell

IMAGES = 12  # of each folder


@dataclass(frozen=True)
class ReportRequest:
    """What `deflow report` was asked for.

    source: a run folder or a model file. out: the page; None: RUN/report.html, or MODEL.report.html. clean,
    noisy: folders in place of those that the run recorded. images: of each folder, how many are looked at.
    seconds: time to keep to, by looking at fewer and training no classifier; None: no limit.
    """

    source: Path
    out: Path | None = None
    clean: Path | None = None
    noisy: Path | None = None
    images: int = IMAGES
    device: str = "auto"
    seed: int = 0
    seconds: float | None = None

    def place(self, model_path: Path, run_dir: Path | None) -> Path:
        """The page: in the run, beside the model's file, or of a model on the Hub in the working folder."""
        if self.out is not None:
            return self.out
        if is_hub_name(self.source):
            return Path(f"{parse_hub_model(self.source).repo.replace('/', '-')}.report.html")
        return run_dir / REPORT_FILE if run_dir else model_path.with_suffix(".report.html")


@dataclass(frozen=True)
class ReportResult:
    """What was written. verdict: (severity, sentence), worst first. figures: of realism, by column."""

    report_path: Path
    model_path: Path
    verdict: list[Sentence]
    notes: list[str]
    clean_images: int
    noisy_images: int
    figures: list[dict[str, Cell]] = field(default_factory=list)
    seconds: float = 0.0
