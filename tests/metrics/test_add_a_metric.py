"""Add a metric: a class and its builder in one module, and one line of the registry."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from deflow_cli.metrics import registry
from deflow_cli.metrics.base import Metric, Score
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.score.run import ScoreRequest, csv_text, score
from deflow_cli.workflows.score.scorers import choose_metrics


class Brightness:
    """Mean grey level: a toy."""

    @property
    def metric(self) -> Metric:
        return Metric("brightness", "Brightness", True, False, 1, "mean of all channels, no crop")

    def __call__(self, images_bchw: Tensor, references_bchw: Tensor | None = None) -> list[Score]:
        return [Score(float(image.float().mean())) for image in images_bchw]


def build_brightness(options: ScorerOptions, context: registry.ScorerContext) -> Brightness:
    return Brightness()


LINE = registry.MetricEntry("brightness", f"{__name__}:build_brightness")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "QUALITY_METRICS", [*registry.QUALITY_METRICS, LINE])


@pytest.mark.usefixtures("registered")
def test_one_line_registers_it(tmp_path: Path) -> None:
    assert registry.metrics_in_words().endswith("piqe, brightness")
    assert choose_metrics((), False, ScorerOptions())[-1] == "brightness"
    for index, level in enumerate((20, 60)):
        Image.fromarray(np.full((24, 24, 3), level, np.uint8)).save(tmp_path / f"{index}.png")
    report = score(ScoreRequest((tmp_path,), metrics=("brightness",), device="cpu"), Silent())
    document = report.as_dict()
    assert [metric["name"] for metric in document["metrics"]] == ["brightness"]
    rows = list(csv.DictReader(line for line in io.StringIO(csv_text(report)) if line[0] != "#"))
    assert sorted(float(row["value"]) for row in rows if row["metric"] == "brightness") == [20.0, 60.0]
