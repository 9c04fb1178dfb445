"""Scoring a space: the challenge's figures from files, temperatures, maps, and nothing left out silently."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deflow_cli.data.images.resize import downsample
from deflow_cli.data.samples.matching import SampleSource
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.space import run as workflow
from deflow_cli.workflows.space.document import SPACE_COLUMNS, space_csv, space_document
from deflow_cli.workflows.space.run import SpaceReport, SpaceRequest, score_space
from tests.golden.tolerances import tolerance
from tests.metrics.space import challenge


@pytest.fixture(scope="session")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AlexNet's stand-in as a file."""
    path = tmp_path_factory.mktemp("weights") / "alex.pth"
    torch.save(challenge.alexnet(), path)
    return path


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing pulled on this machine may change a test."""

    def locate(name: str, given: Path | None = None, option: str = "") -> Path:
        if given is None:
            raise CheckpointError(f"{name}: not here", next_step=f"pull {name}, or {option} FILE")
        return given

    monkeypatch.setattr(workflow, "locate", locate)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def space(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The challenge's samples, truth and input; the truth has a rim that the challenge crops."""
    samples, gt, lq = (tmp_path / name for name in ("samples", "gt", "lq"))
    rim = ((0, 4), (0, 4), (0, 0))
    _save(gt / "0801.png", np.pad(challenge.truth(), rim, mode="edge"))
    _save(lq / "0801x4.png", downsample(np.pad(challenge.truth(), rim, mode="edge"), 4))
    for k in range(challenge.SAMPLES):
        _save(samples / f"000000_sample{k:05d}.png", np.pad(challenge.sample(k), rim, mode="edge"))
    return samples, gt, lq


def _score(samples: Path, gt: Path, low: Path | None = None, **more: object) -> SpaceReport:
    request = SpaceRequest((SampleSource(samples),), gt, low, device="cpu", **more)  # type: ignore[arg-type]
    return score_space(request, Silent())


def _means(report: SpaceReport, temperature: float | None = None) -> dict[str, float]:
    return {row.measure: row.summary.mean for row in report.summaries if row.temperature == temperature}


def test_files_give_the_figures_of_the_challenge(space, alexnet):
    report = _score(*space, lpips_weights=alexnet)
    means = _means(report)
    assert report.scale == 4
    assert means["diversity"] == pytest.approx(challenge.LPIPS_SCORE, abs=tolerance("space.score"))
    assert means["diversity-error"] == pytest.approx(challenge.ERROR_SCORE, abs=tolerance("space.score"))
    assert means["lpips-mean"] == pytest.approx(challenge.LPIPS_MEAN, rel=tolerance("space.lpips"))
    assert means["lpips-best"] == pytest.approx(challenge.LPIPS_GLOBAL, rel=tolerance("space.lpips"))
    assert means["lr-psnr-mean"] == pytest.approx(challenge.LR_PSNR_MEAN, abs=tolerance("space.psnr"))
    assert means["lr-psnr-worst"] == pytest.approx(challenge.LR_PSNR_WORST, abs=tolerance("space.psnr"))
    assert means["psnr-mean"] == pytest.approx(np.mean(challenge.PSNR), abs=tolerance("space.psnr"))
    assert 40 < means["input-psnr"] < 50
    mean = np.mean([challenge.sample(k) for k in range(4)], axis=0)
    of_mean = 10 * math.log10(255**2 / np.mean((mean - challenge.truth()) ** 2))
    assert means["psnr-of-mean"] == pytest.approx(of_mean, abs=1e-9)
    (score,) = report.scores
    assert [one.plain_lpips for one in score.figures.samples] == pytest.approx(
        challenge.PLAIN_LPIPS, rel=tolerance("space.lpips")
    )
    assert [one.lr_psnr for one in score.figures.samples] == pytest.approx(
        challenge.LR_PSNR, abs=tolerance("space.psnr")
    )
    assert score.figures.growth[0] == 0
    assert score.figures.growth[-1] == means["diversity"]


def test_without_weights_the_squared_error_is_the_score_and_that_is_said(space):
    report = _score(*space)
    means = _means(report)
    assert "diversity" not in means
    assert means["diversity-error"] == pytest.approx(challenge.ERROR_SCORE, abs=tolerance("space.score"))
    assert report.missing is not None
    assert "--lpips-weights FILE" in report.missing.next_step
    assert not report.missing.asked
    assert any("squared error alone" in note for note in report.notes)
    assert report.distance == "squared error"
    assert report.scores[0].figures.growth[-1] == means["diversity-error"]


def test_weights_that_were_asked_for_and_do_not_load(space, tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"no")
    report = _score(*space, lpips_weights=tmp_path / "broken.pth")
    assert report.missing is not None
    assert report.missing.asked


def test_the_scale_comes_from_the_input_or_is_given(space):
    samples, gt, low = space
    assert _score(samples, gt, scale=4).scale == 4
    assert "input-psnr" not in _means(_score(samples, gt, scale=4))
    blind = _score(samples, gt)
    assert "lr-psnr-mean" not in _means(blind)
    assert any("--lq" in note for note in blind.notes)
    with pytest.raises(ConfigError, match=r"--scale is 2, but .*lq is 4 times smaller"):
        _score(samples, gt, low, scale=2)
    with pytest.raises(ConfigError, match="--scale is 0"):
        _score(samples, gt, scale=0)
    same = _score(samples, gt, gt)
    assert any("as large as the inputs" in note for note in same.notes)


@pytest.fixture
def temperatures(tmp_path: Path) -> tuple[Path, Path]:
    """Two images at two temperatures; on the left the low one is near the truth, on the right the other."""
    samples, gt = tmp_path / "samples", tmp_path / "gt"
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        truth = rng.integers(60, 200, (48, 64, 3)).astype(np.uint8)
        _save(gt / f"{name}.png", truth)
        for folder, columns in (("t0.00", slice(32, 64)), ("t0.90", slice(0, 32))):
            for k in range(2):
                noisy = truth.astype(int)
                noisy[:, columns] += rng.integers(-40, 41, noisy[:, columns].shape)
                _save(samples / folder / f"{name}_s{k + 1:02d}.png", np.clip(noisy, 0, 255).astype(np.uint8))
    return samples, gt


def test_every_pixel_finds_its_best_temperature(temperatures):
    report = _score(*temperatures)
    assert [one.temperature for one in report.sets] == [0.0, 0.9]
    assert [one.image for one in report.maps] == ["a", "b"]
    found = Image.open(io.BytesIO(report.maps[0].png))
    assert found.mode == "P"
    assert found.text["temperatures"] == "0 0.9"
    index = np.asarray(found)
    assert index.shape == (48, 64)
    assert index[:, :24].max() == 0
    assert index[:, 40:].min() == 1
    assert report.maps[0].shares.sum() == pytest.approx(1)
    assert 0.3 < report.maps[0].gain <= 1
    assert report.maps[0].picture().shape == (48, 64, 3)
    document = space_document(report)
    assert document["best_temperatures"][1]["image"] == "b"
    assert document["best_temperatures"][1]["temperatures"] == [0.0, 0.9]


def test_spread_and_calibration_say_why_they_are_not_defined(temperatures):
    samples, gt = temperatures
    report = _score(samples, gt)
    means = _means(report, 0.9)
    assert means["pixel-std"] > 5
    assert math.isnan(means["calibration"])
    assert any("2 samples; the central 80 % need at least 9" in note for note in report.notes)
    for path in samples.rglob("*_s02.png"):
        path.unlink()
    single = _score(samples, gt)
    assert math.isnan(_means(single, 0.0)["pixel-std"])
    assert _means(single, 0.0)["diversity-error"] == 0
    assert any("without variety" in note for note in single.notes)


def test_a_broken_sample_leaves_its_image_out_and_says_so(temperatures):
    samples, gt = temperatures
    broken = samples / "t0.90" / "b_s02.png"
    broken.write_bytes(broken.read_bytes()[:200])
    report = _score(samples, gt)
    assert len(report.unreadable) == 1
    assert "b_s02.png" in report.unreadable[0]
    counts = {row.temperature: row.summary.n for row in report.summaries if row.measure == "psnr-mean"}
    assert counts == {0.0: 2, 0.9: 1}
    assert [one.image for one in report.maps] == ["a"]
    assert any("1 of 4 could not be read" in note for note in report.notes)


def test_an_image_too_large_for_the_memory_leaves_the_others(temperatures, monkeypatch):
    from deflow_cli.workflows.space import measure

    whole = measure.windowed_squared_error
    calls = iter(range(100))

    def scarce(sample: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if next(calls) == 0:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return whole(sample, truth)

    monkeypatch.setattr(measure, "windowed_squared_error", scarce)
    report = _score(*temperatures)
    assert len(report.unreadable) == 1
    assert "a.png: too large for the memory of cpu" in report.unreadable[0]
    counts = {row.temperature: row.summary.n for row in report.summaries if row.measure == "psnr-mean"}
    assert counts == {0.0: 1, 0.9: 2}


def test_small_images_have_no_lpips(tmp_path, alexnet):
    for name in ("gt/a.png", "out/a_s01.png", "out/a_s02.png"):
        _save(tmp_path / name, np.full((24, 24, 3), len(name), np.uint8))
    report = _score(tmp_path / "out", tmp_path / "gt", lpips_weights=alexnet)
    assert math.isnan(_means(report)["diversity"])
    assert "at least 31 px" in report.scores[0].figures.reasons["diversity"]
    _save(tmp_path / "gt" / "a.png", np.zeros((7, 24, 3), np.uint8))
    for k in (1, 2):
        _save(tmp_path / f"out/a_s0{k}.png", np.zeros((7, 24, 3), np.uint8))
    assert "smaller than 8x8" in _score(tmp_path / "out", tmp_path / "gt").unreadable[0]


def test_csv_and_document_hold_every_value(space, alexnet):
    report = _score(*space, lpips_weights=alexnet)
    rows = list(csv.DictReader(io.StringIO(space_csv(report))))
    assert tuple(rows[0]) == SPACE_COLUMNS
    of_image = {row["measure"]: row for row in rows if not row["sample"]}
    assert float(of_image["diversity"]["value"]) == _means(report)["diversity"]
    assert "spatial LPIPS" in of_image["diversity"]["variant"]
    assert of_image["calibration"]["value"] == ""
    assert "at least 9" in of_image["calibration"]["reason"]
    of_samples = [row for row in rows if row["sample"] == "000000_sample00002.png"]
    assert {row["measure"] for row in of_samples} == {
        "lpips",
        "plain_lpips",
        "squared_error",
        "psnr",
        "lr_psnr",
        "input_psnr",
    }
    document = space_document(report)
    assert document["sets"][0]["samples"] == 4
    assert sum(document["sets"][0]["ranks"]) == pytest.approx(1)
    assert len(document["sets"][0]["growth"]) == 4
    assert document["unavailable"] is None
