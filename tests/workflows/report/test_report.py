"""The report: a page from a run, a bare model, a run cut short, folders gone; and it never costs the fit."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
import shutil
import signal
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.checkpoints.format import load_model, save_model
from deflow_cli.config.fit import RunConfig
from deflow_cli.data.images.files import Image, write_image
from deflow_cli.errors import CheckpointError, DataError
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.progress import Silent
from deflow_cli.training.run_folder import read_log, recorded_folders
from deflow_cli.workflows.fit import run as fit_workflow
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.run import FitResult, fit
from deflow_cli.workflows.fit.verdict import judge_training
from deflow_cli.workflows.report import run as workflow
from deflow_cli.workflows.report.content import public
from deflow_cli.workflows.report.request import ReportRequest
from deflow_cli.workflows.report.run import report
from deflow_cli.workflows.report.samples import flattest_window
from tests.small import small_run

SETTINGS = [
    "flow.steps=1",
    "flow.shift=mixture:2",
    "fit.iterations=60",
    "fit.batch_size=2",
    "fit.channel_statistics=no",
    "fit.log_every=2",
    "fit.validate_every=20",
    "fit.preview_every=100",
    "fit.moments_every=50",
]


def small(*settings: str) -> RunConfig:
    return small_run(*SETTINGS, *settings)


class Listens(Silent):
    """Keeps warnings, and presses Ctrl-C at a step."""

    def __init__(self, stop_at: int = -1) -> None:
        self.warnings: list[str] = []
        self.stop_at = stop_at

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def update(self, done: int, **fields: float | int | str) -> None:
        if done == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)


class Parser(HTMLParser):
    """Collects what a page holds and what it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[str] = []
        self.references: list[str] = []
        self.headings: list[str] = []
        self.plots = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in ("meta", "link", "img", "br", "hr", "input"):
            self.open.append(tag)
        self.plots += tag == "svg"
        if tag == "img":
            self.pictures.append(found["src"] or "")
        self.references += [found[name] or "" for name in ("src", "href") if name in found]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


def parsed(path: Path) -> tuple[Parser, str]:
    text = path.read_text(encoding="utf-8")
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser, text


FitRequest = partial(fit_workflow.FitRequest, samples=SampleSizes(8, 40, 40, 4))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Smooth pictures, and other smooth pictures with noise."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for name, sigma in (("tidy", 0), ("grainy", 12)):
        (root / name).mkdir()
        for index in range(8):
            y, x = np.mgrid[:96, :112] / 20
            waves = [np.sin(x * rng.uniform(0.3, 2) + y * rng.uniform(0.3, 2) + k) for k in range(3)]
            picture = 128 + 60 * np.stack(waves, -1) + sigma * rng.standard_normal((96, 112, 3))
            write_image(root / name / f"{name}{index}.png", Image(picture.clip(0, 255).astype(np.uint8)))
    return root / "tidy", root / "grainy"


@pytest.fixture(scope="module")
def fitted(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """A short fit with its page."""
    with pytest.MonkeyPatch.context() as patch:
        cut_short(patch)
        return fit(FitRequest(*folders, tmp_path_factory.mktemp("runs") / "mine", small(), device="cpu"))


def cut_short(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(workflow, "FIT_LEAST", 60.0)  # a slow machine must not change the test


@pytest.fixture
def run(fitted: FitResult, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    shutil.copytree(fitted.run_dir, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    return tmp_path / "run"


def test_fit_ends_with_a_whole_page(fitted: FitResult) -> None:
    assert fitted.report_path == fitted.run_dir / "report.html"
    page, text = parsed(fitted.report_path)
    for heading in ("Verdict", "The model", "What it does", "Training", "The learnt shift", "Mixture"):
        assert heading in page.headings
    for part in ("How real it is", "Configuration", "Two samples of one picture"):
        assert part in page.headings
    assert "The fit finished: 60 steps" in text
    assert "How real the noise is" not in text
    for curve in ("Clean images", "Noisy images", "held out", "learning rate", "gradient norm", "smoothed"):
        assert curve in text
    assert "“tidy”: 8 images, 1 held out" in text
    assert "nearest to tiny, with" in text
    # four rows of clean, five temperatures and a real one; as many residuals but one; grain, pair, mixture
    assert len(page.pictures) >= 4 * (7 + 6) + 8 + 3 + 2
    crop = Pillow.open(io.BytesIO(base64.b64decode(page.pictures[0].partition(",")[2])))
    assert crop.size == (112, 96)


def test_page_needs_nothing_else_and_tells_no_path(fitted: FitResult, folders: tuple[Path, Path]) -> None:
    assert fitted.report_path is not None
    page, text = parsed(fitted.report_path)
    assert page.references
    assert all(one.startswith(("data:", "#")) for one in page.references)
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    for folder in (fitted.run_dir.parent, folders[0].parent, Path.home(), Path.cwd()):
        assert str(folder) not in text


def test_model_file_tells_no_path(fitted: FitResult, folders: tuple[Path, Path]) -> None:
    assert str(folders[0].parent).encode() not in fitted.model_path.read_bytes()
    weights = dataclasses.replace(small().fit, encoder_weights="/home/someone/esrgan.pth")
    told = public(dataclasses.replace(small(), fit=weights))
    assert told.fit.encoder_weights == "esrgan.pth"


def test_clean_column_is_the_crop_and_zero_temperature_is_not_random(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(workflow, "render_fit", lambda page: seen.append(page) or "")
    result = report(ReportRequest(run, device="cpu", images=2))
    page = seen[0]
    assert (result.clean_images, result.noisy_images) == (2, 2)
    assert page.realism is None
    assert any("not measured" in note for note in result.notes)
    rows = {row[0]: row[1] for row in page.strength}
    assert rows[0.0] < rows[0.5] < rows[1.0] < rows[1.2]
    first, second = page.previews[0].pair
    assert np.abs(first.astype(float) - second).mean() > 1
    report(ReportRequest(run, device="cpu", images=2, seed=5))
    zero = [dict(one.previews[0].pictures)["at 0"] for one in seen]
    one = [dict(one.previews[0].pictures)["at 1"] for one in seen]
    assert np.array_equal(*zero)
    assert not np.array_equal(*one)


@pytest.mark.slow(seconds=15)
def test_report_is_the_same_twice_and_finds_the_folders_from_elsewhere(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = report(ReportRequest(run, tmp_path / "a.html", device="cpu", images=5))
    monkeypatch.chdir(tmp_path)
    report(ReportRequest(run, tmp_path / "b.html", device="cpu", images=5))
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()
    assert first.notes == []
    assert {row["which is"] for row in first.figures} >= {"real halves", "bound"}
    assert not (run / "report.html").exists()


def test_relative_folders_are_found_again(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((run / "run.json").read_text())
    record |= {"clean": "tidy", "noisy": "grainy", "working_folder": str(folders[0].parent)}
    (run / "run.json").write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path)
    assert recorded_folders(run).clean == folders[0]
    assert report(ReportRequest(run, device="cpu", images=1)).clean_images == 1


def test_interrupted_run_has_its_page(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(monkeypatch)
    listener = Listens(stop_at=20)
    result = fit(FitRequest(*folders, tmp_path / "run", small(), device="cpu"), listener)
    assert result.interrupted
    assert result.report_path is not None
    text = result.report_path.read_text()
    assert "interrupted after 20 steps, at 33 % of its run" in text
    assert "--resume goes on" in text


def test_bare_model_shows_packaged_photographs(run: Path, tmp_path: Path) -> None:
    shutil.copyfile(run / "model.safetensors", tmp_path / "other.safetensors")
    result = report(ReportRequest(tmp_path / "other.safetensors", device="cpu", images=1))
    assert result.report_path == tmp_path / "other.report.html"
    page, text = parsed(result.report_path)
    assert "photographs that come with deflow" in text
    assert "pass --noisy DIR" in text
    assert "Training" not in page.headings
    assert "settled" not in text
    assert result.noisy_images == 0


@pytest.mark.parametrize("setting", ["flow.conditioning=none", "flow.shift=diagonal", "flow.splits=all"])
def test_model_that_tells_nothing_of_its_fit(tmp_path: Path, setting: str) -> None:
    """An unfitted one: no facts, no shift, hence the same picture again and again."""
    settings = ["flow.condition_channels=0"] if "none" in setting else []
    model = DeFlow(small(setting, *settings).model, seed=1)
    save_model(tmp_path / "plain.safetensors", model, {})
    result = report(ReportRequest(tmp_path / "plain.safetensors", device="cpu", images=4))
    page, text = parsed(result.report_path)
    assert "does not tell how it was fitted" in text
    assert "“plain”" in page.headings[0]
    assert any(kind == "bad" for kind, _ in result.verdict), result.verdict


def test_folders_that_are_gone_are_named_and_can_be_given(
    run: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    record = json.loads((run / "run.json").read_text())
    record |= {"clean": str(tmp_path / "lost" / "tidy"), "noisy": str(tmp_path / "lost" / "grainy")}
    (run / "run.json").write_text(json.dumps(record))
    result = report(ReportRequest(run, device="cpu", images=1))
    assert "The clean training folder “tidy” is gone" in result.notes[0]
    assert any("Pass --noisy DIR" in note for note in result.notes)
    assert str(tmp_path) not in result.report_path.read_text()
    shutil.copytree(folders[0], tmp_path / "moved")
    again = report(ReportRequest(run, clean=tmp_path / "moved", noisy=folders[1], device="cpu", images=1))
    assert not any("gone" in note or "fingerprint" in note for note in again.notes)
    assert "held out" in again.report_path.read_text()


def test_changed_folder_is_told_by_its_fingerprint(
    run: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders[1], tmp_path / "fewer")
    next((tmp_path / "fewer").iterdir()).unlink()
    result = report(ReportRequest(run, noisy=tmp_path / "fewer", device="cpu", images=1))
    assert any("not those of the training" in note and "“fewer”" in note for note in result.notes)
    # whether the training saw these is not known
    assert re.search(r"the real one is grainy\d\.png</", result.report_path.read_text())


def test_a_given_folder_that_is_missing_is_an_error(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        report(ReportRequest(run, clean=tmp_path / "nowhere", device="cpu"))
    with pytest.raises(CheckpointError, match=r"without model\.safetensors"):
        report(ReportRequest(tmp_path, device="cpu"))


@pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyboardInterrupt()])
def test_report_that_fails_does_not_lose_the_fit(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    cut_short(monkeypatch)

    def fails(page: object) -> str:
        raise error

    monkeypatch.setattr(workflow, "render_fit", fails)
    listener = Listens()
    config = small("fit.iterations=4")
    result = fit(FitRequest(*folders, tmp_path / "run", config, device="cpu"), listener)
    assert not result.interrupted
    assert result.report_path is None
    assert load_model(result.model_path)[1]["step"] == 4
    told = str(error) or "KeyboardInterrupt"
    assert any("no report was written" in text and told in text for text in listener.warnings)


def test_no_report_where_none_is_wanted(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(monkeypatch)
    config = small("fit.iterations=2", "fit.report=false")
    result = fit(FitRequest(*folders, tmp_path / "run", config, device="cpu"))
    assert result.report_path is None
    assert not (tmp_path / "run" / "report.html").exists()


def test_time_limit_leaves_out_what_takes_long(run: Path) -> None:
    result = report(ReportRequest(run, device="cpu", seconds=1e-6))
    page, text = parsed(result.report_path)
    assert "there was little time" in text
    assert "How real it is" not in page.headings
    assert len(page.pictures) == 7 + 6 + 2 + 3 + 2 + _examples(run)  # one row, grain, pair, mixture


def _examples(run: Path) -> int:
    return sum(map(len, load_model(run / "model.safetensors")[1].get("components", [])))


def test_log_with_a_cut_last_line_is_read(run: Path) -> None:
    whole = read_log(run)
    with open(run / "log.jsonl", "a") as file:
        file.write('{"step": 62, "cle')
    assert read_log(run) == whole
    assert "Noisy images" in report(ReportRequest(run, device="cpu", images=1)).report_path.read_text()


def rows(values: list[float]) -> list[dict[str, float]]:
    return [{"step": 10 * (k + 1), "clean": v, "noisy": v + 1} for k, v in enumerate(values)]


FACTS = {"step": 400, "seconds": 50.0, "skipped_steps": 0}
RUN = FIT.apply_overrides(RunConfig(), ["fit.iterations=400"])


def said(facts: dict[str, object], log: list[dict[str, float]] | None) -> list[tuple[str, str]]:
    return list(judge_training({**FACTS, **facts}, RUN, log))


def test_verdict_on_the_likelihood() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 40)
    falling = rows(list(3 - 0.02 * np.arange(40) + noise))
    settled = rows(list(2 + np.exp(-np.arange(40) / 3.0) + noise))
    assert any(kind == "warn" and "train longer" in text for kind, text in said({}, falling))
    assert any(kind == "good" and "settled" in text for kind, text in said({}, settled))
    assert any(kind == "note" and "too few" in text for kind, text in said({}, settled[:5]))
    assert not any("settled" in text or "longer" in text for _, text in said({}, None))
    held = [{"step": k, "held_out_noisy": v} for k, v in enumerate((3.0, 2.5, 2.6))]
    assert any("by heart" in text for _, text in said({}, [*settled, *held]))


@pytest.mark.parametrize(
    ("facts", "kind", "words"),
    [
        ({"step": 100}, "warn", "at 25 % of its run"),
        ({"step": 0}, "bad", "no training step"),
        ({"skipped_steps": 2}, "note", "2 steps"),
        ({"skipped_steps": 40}, "warn", "lower fit.learning_rate"),
        ({"leak_test": [[4, 0.03, 0.9, 0.05], [8, 0.03, 0.7, 0.05]]}, "warn", "1/8 size"),
    ],
)
def test_verdict_on_the_facts(facts: dict[str, object], kind: str, words: str) -> None:
    assert any(found == kind and words in text for found, text in said(facts, None))


def test_leak_within_chance_is_not_told() -> None:
    assert not any("1/4" in text for _, text in said({"leak_test": [[4, 0.03, 0.46, 0.07]]}, None))


def test_flattest_window_finds_the_calm_spot() -> None:
    rng = np.random.default_rng(0)
    picture = (rng.integers(0, 2, (20, 20, 3)).repeat(8, 0).repeat(8, 1) * 120 + 60).astype(np.uint8)
    busy, _ = flattest_window(picture, 40)
    picture[64:128, 32:96] = 100
    calm, window = flattest_window(picture, 40)
    assert picture[window].shape == (40, 40, 3)
    assert (picture[window] == 100).mean() > 0.95
    assert calm < busy / 5
    assert picture[flattest_window(picture[:30, :50], 40)[1]].shape == (30, 40, 3)
