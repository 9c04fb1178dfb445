"""`deflow score --space`: what is asked, what is printed and written, what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deflow_cli.data.images.resize import downsample
from deflow_cli.errors import CheckpointError
from deflow_cli.workflows.space import run as workflow


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def locate(name: str, given: Path | None = None, option: str = "") -> Path:
        raise CheckpointError(f"{name}: not here", next_step=f"deflow weights pull {name}")

    monkeypatch.setattr(workflow, "locate", locate)


@pytest.fixture
def space(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two images at two temperatures with two samples each, the truth and the inputs."""
    samples, gt, lq = (tmp_path / name for name in ("samples", "gt", "lq"))
    rng = np.random.default_rng(0)
    for name in ("a", "[b]"):
        truth = rng.integers(60, 200, (32, 40, 3)).astype(np.uint8)
        pictures = {gt / f"{name}.png": truth, lq / f"{name}.png": downsample(truth, 4)}
        for folder, strength in (("t0.00", 3), ("t0.80", 12)):
            for k in (1, 2):
                noisy = np.clip(truth + rng.normal(0, strength, truth.shape), 0, 255)
                pictures[samples / folder / f"{name}_s{k:02d}.png"] = noisy.astype(np.uint8)
        for path, pixels in pictures.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return samples, gt, lq


def test_temperatures_are_rows_with_the_best_map_below(deflow, space):
    samples, gt, lq = space
    result = deflow("score", "--space", samples, "--ref", gt, "--lq", lq)
    assert result.exit_code == 0, result.output
    lines = [line.split("│") for line in result.stdout.splitlines() if "│" in line]
    assert [cells[1].strip() for cells in lines] == ["temperature 0", "temperature 0.8"] * 2
    for words in (
        "means over 2 images",
        "div. (SE) ↑",
        "LR-PSNR ↑ dB",
        "nearest to the truth by squared error",
    ):
        assert words in result.stdout
    assert "scale 4" in result.stdout
    assert "note: without LPIPS's weights the diversity score is that of the squared error" in result.stdout
    assert "left out: lpips: alexnet: not here\n  next: deflow weights pull alexnet" in result.stderr
    assert "scoring samples" in result.stderr


def test_a_narrow_terminal_gets_a_value_a_line(deflow, space, monkeypatch):
    samples, gt, lq = space
    monkeypatch.setenv("COLUMNS", "80")
    out = deflow("score", "--space", samples, "--ref", gt, "--lq", lq).stdout
    lines = out.splitlines()
    assert lines[:3] == ["means over 2 images", "temperature 0", "  samples: 2"]
    assert any(line.startswith("  div. (SE) ↑: ") for line in lines)
    assert max(len(line) for line in lines if "│" in line) <= 80


def test_one_folder_shows_intervals(deflow, space):
    samples, gt, _ = space
    out = deflow("score", "--space", samples / "t0.80", "--ref", gt).stdout
    assert "2 images with 2 samples each" in out
    assert "2 of 2" in out
    assert "95 % interval" in out
    assert "nearest to the truth" not in out


def test_json_csv_page_and_maps(deflow, space):
    samples, gt, lq = space
    written = ("--csv", "a.csv", "--html", "new/a.html", "--maps", "maps", "--json")
    result = deflow("score", "--space", samples, "--ref", gt, "--lq", lq, *written)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [one["temperature"] for one in document["sets"]] == [0.0, 0.8]
    assert {row["measure"] for row in document["images"]} >= {"diversity-error", "lr-psnr-worst", "pixel-std"}
    assert next(row for row in document["images"] if row["measure"] == "calibration")["value"] is None
    assert len(document["samples"]) == 8
    assert document["best_temperatures"][0]["temperatures"] == [0.0, 0.8]
    rows = list(csv.DictReader(Path("a.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["sample"] for row in rows} == {"", "a_s01.png", "a_s02.png", "[b]_s01.png", "[b]_s02.png"}
    assert Path("new/a.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in Path("maps").iterdir()) == [
        "[b]_best_temperature.png",
        "a_best_temperature.png",
    ]
    assert "written: 2 maps in maps" in result.stderr


def test_temperatures_may_be_given_with_their_folders(deflow, space):
    samples, gt, _ = space
    given = ("--space", f"0.5={samples / 't0.80'}", "--space", f"0={samples / 't0.00'}")
    document = json.loads(deflow("score", *given, "--ref", gt, "--json").stdout)
    assert [(one["temperature"], Path(one["source"]).name) for one in document["sets"]] == [
        (0.0, "t0.00"),
        (0.5, "t0.80"),
    ]


def test_missing_samples_end_before_anything_is_written(deflow, space):
    samples, gt, _ = space
    (samples / "t0.80" / "a_s02.png").unlink()
    result = deflow("score", "--space", samples, "--ref", gt, "--csv", "a.csv")
    assert result.exit_code == 1
    assert "do not have 2 samples as the others do: a (1)" in result.stderr
    assert not Path("a.csv").exists()


def test_a_broken_sample_and_weights_that_were_asked_for_end_in_1(deflow, space, tmp_path):
    samples, gt, _ = space
    asked = deflow("score", "--space", samples, "--ref", gt, "--lpips-weights", tmp_path / "none.pth")
    assert asked.exit_code == 1
    assert "div. (SE)" in asked.stdout
    broken = samples / "t0.00" / "a_s01.png"
    broken.write_bytes(broken.read_bytes()[:100])
    result = deflow("score", "--space", samples, "--ref", gt)
    assert result.exit_code == 1
    assert "failed: " in result.stderr
    assert "a_s01.png" in result.stderr
    assert "div. (SE)" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "samples"], "--space needs the true images"),
        (["--space", "samples", "--ref", "gt", "--metrics", "psnr"], "--metrics does not go with --space"),
        (["--space", "samples", "--ref", "gt", "gt"], "OUT does not go with --space"),
        (["--space", "samples", "--ref", "gt", "--realism", "gt"], "--realism does not go with --space"),
        (["--space", "samples", "--ref", "gt", "--maps", "samples/maps"], "lies in samples"),
        (
            ["--space", "samples", "--ref", "gt", "--lq", "lq", "--scale", "2"],
            "--scale is 2, but lq is 4 times",
        ),
        (["gt", "--lq", "lq"], "--lq goes with --space only"),
        (["gt", "--maps", "maps"], "--maps goes with --space only"),
        ([], "nothing to score"),
    ],
)
def test_options_that_do_not_belong_together(deflow, space, options, message):
    result = deflow("score", *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    "options", [["--space", "none", "--ref", "gt"], ["--space", "samples", "--ref", "none"]]
)
def test_folders_that_are_not_there(deflow, space, options):
    result = deflow("score", *options)
    assert result.exit_code == 1
    assert "none: no such" in result.stderr
