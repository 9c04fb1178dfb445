"""The demo, cut short: packaged photographs in, a model, samples and a contact sheet out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.checkpoints.format import load_model
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.photos import packaged_photos
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.progress import Silent
from deflow_cli.training.engine import Engine
from deflow_cli.workflows import demo as workflow
from deflow_cli.workflows.fit.closed_form import SampleSizes
from tests.small import small_run

FEW = 4  # photographs of each half
STEPS = 8  # in place of as many as the time allows: a slow machine must not change the test
QUICK = [
    "flow.shift=correlated",
    "fit.log_every=1",
]


@pytest.fixture
def cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few photographs, and a few steps."""
    halves = tuple(half[:FEW] for half in packaged_photos())
    monkeypatch.setattr(workflow, "packaged_photos", lambda: halves)
    monkeypatch.setattr(Engine, "share", property(lambda engine: engine.progress.step / STEPS))


@pytest.mark.slow(seconds=9)
@pytest.mark.usefixtures("cut_short")
def test_demo_fits_degrades_and_shows(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    quick = small_run(*QUICK)
    report = workflow.demo(out, 90.0, "cpu", Silent(), quick, SampleSizes(8, 40, 80, 4))

    _, facts = load_model(report.model_path)
    assert facts["clean_images"] == facts["noisy_images"] == FEW
    rows = [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    assert facts["step"] == rows[-1]["step"] == STEPS
    fit = FIT.parse_toml(facts["config"], "the model").fit
    assert (fit.iterations, fit.time_budget) == (0, 90.0)

    clean = list_images(out / "clean")
    assert [path.name for path in clean] == [path.name for path in packaged_photos()[0][:FEW]]
    for path in clean:
        samples = sorted((out / "degraded").glob(f"{path.stem}*"))
        assert len(samples) == 2
        first, second = (read_rgb8(sample).astype(float) for sample in samples)
        assert first.shape == read_rgb8(path).shape
        assert np.abs(first - second).mean() > 0.5, "two samples hold the same noise"
        assert np.abs(first - read_rgb8(path)).mean() < 40, "the picture is lost"

    assert report.contact_sheet == out / "contact_sheet.png"
    height, width, _ = read_rgb8(report.contact_sheet).shape
    crop = 2 * workflow.CROP
    assert height >= FEW * crop
    assert width >= 6 * crop
    for column in ("clean", "model 1, 2", "residual x8", "real noisy", "real x8"):
        assert f"\n  {column} " in report.text


@pytest.mark.usefixtures("cut_short")
def test_noisy_half_is_the_recipe_and_repeats(tmp_path: Path) -> None:
    first, again = (workflow.make_noisy(tmp_path / name) for name in ("a", "b"))
    assert sorted(first) == sorted(path.name for path in packaged_photos()[1][:FEW])
    for name, source in first.items():
        noisy = read_rgb8(tmp_path / "a" / name)
        assert np.array_equal(noisy, read_rgb8(tmp_path / "b" / name))
        assert noisy.shape == read_rgb8(source).shape
        assert not np.array_equal(noisy, read_rgb8(source))
    assert again == first
