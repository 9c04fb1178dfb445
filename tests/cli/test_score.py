"""`deflow score`: what is asked of which workflow, what is printed and written, what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from deflow_cli.checkpoints import format as format_module
from deflow_cli.errors import CheckpointError, DataError
from deflow_cli.reports.findings import WordedFinding
from deflow_cli.workflows.realism.figures import Figure
from deflow_cli.workflows.score import scorers
from tests.cli.conftest import install_workflow


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path, Path]:
    """References and two methods, three small pictures each."""
    folders = tuple(tmp_path / name for name in ("gt", "mine", "theirs"))
    rng = np.random.default_rng(0)
    for folder in folders:
        folder.mkdir()
    for index in range(3):
        clean = rng.integers(30, 200, (40, 48, 3))
        for folder, strength in zip(folders, (0, 4, 12), strict=True):
            noisy = np.clip(clean + rng.normal(0, strength, clean.shape), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{index}.png")
    return folders  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch):
    def locate(name: str, given: Path | None = None, option: str = "") -> Path:
        raise CheckpointError(f"{name}: not here", next_step=f"deflow weights pull {name}")

    monkeypatch.setattr(scorers, "locate", locate)


def test_one_method_is_a_row_per_metric_with_its_variant_below(deflow, images):
    gt, mine, _ = images
    result = deflow("score", mine, "--ref", gt, "--metrics", "psnr,SSIM", "--crop-border", 2)
    assert result.exit_code == 0, result.output
    assert "PSNR ↑ dB" in result.stdout
    assert "3 of 3" in result.stdout
    assert "2 px of border left out of PSNR and SSIM" in result.stdout
    assert "SSIM: 7x7 uniform window" in result.stdout
    assert "scoring" in result.stderr
    assert "scoring" not in result.stdout


def test_several_methods_are_ranked(deflow, images):
    gt, mine, theirs = images
    out = deflow("score", theirs, mine, "--ref", gt, "--metrics", "psnr").stdout
    lines = {line.split()[1]: line for line in out.splitlines() if "#" in line and "│" in line}
    assert "#2" in lines["theirs"]
    assert "#1" in lines["mine"]
    assert "share a rank" in out


def test_json_is_one_document_of_everything(deflow, images):
    gt, mine, theirs = images
    (mine / "0.png").write_bytes((gt / "0.png").read_bytes())
    result = deflow(
        "score", mine, theirs, "--ref", gt, "--metrics", "psnr,niqe", "--protocol", "sr", "--json"
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["protocol"]["name"] == "sr"
    assert document["protocol"]["crop_border"] == 4
    assert "crop" in document["metrics"][0]["variant"]
    equal = next(row for row in document["images"] if row["infinite"])
    assert (equal["method"], equal["image"], equal["value"]) == ("mine", "0", None)
    assert [(row["n"], row["of"]) for row in document["summaries"]] == [(2, 3), (3, 3), (0, 3), (0, 3)]
    undefined = [row for row in document["images"] if row["metric"] == "niqe"]
    assert all(row["value"] is None and "NIQE needs" in row["reason"] for row in undefined)


def test_csv_and_page_are_written(deflow, images):
    gt, mine, _ = images
    result = deflow("score", mine, "--ref", gt, "--metrics", "psnr", "--csv", "new/a.csv", "--html", "a.html")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(Path("new/a.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["0", "1", "2"]
    assert set(rows[0]) == {"method", "image", "metric", "value", "reason", "variant"}
    assert Path("a.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "written: new/a.csv" in result.stderr
    assert sorted(path.name for path in Path("new").iterdir()) == ["a.csv"]


def test_a_file_that_cannot_be_written_costs_neither_the_table_nor_the_other_file(
    deflow, images, monkeypatch
):
    gt, mine, _ = images
    whole = format_module.write_atomically

    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".csv":
            raise DataError(f"{path}: cannot be written (No space left on device)", next_step="make room")
        whole(path, content)

    monkeypatch.setattr(format_module, "write_atomically", full)
    result = deflow("score", mine, "--ref", gt, "--metrics", "psnr", "--csv", "a.csv", "--html", "a.html")
    assert result.exit_code == 1
    assert "PSNR" in result.stdout
    assert "error: a.csv: cannot be written" in result.stderr
    assert Path("a.html").exists()


def test_a_page_that_finds_no_memory_costs_neither_the_table_nor_the_other_file(deflow, images, monkeypatch):
    def short(report):
        raise RuntimeError("CPUAllocator: can't allocate memory: you tried to allocate 73728000 bytes.")

    monkeypatch.setattr("deflow_cli.workflows.score.examples.html_text", short)
    gt, mine, _ = images
    result = deflow("score", mine, "--ref", gt, "--metrics", "psnr", "--csv", "a.csv", "--html", "a.html")
    assert result.exit_code == 1
    assert "PSNR" in result.stdout
    assert "error: a.html: out of memory while it is made (73.7 MB more were asked for)" in result.stderr
    assert Path("a.csv").exists()


def test_missing_weights_are_told_and_end_in_1_only_if_asked_for(deflow, images):
    gt, mine, _ = images
    by_default = deflow("score", mine, "--ref", gt)
    assert by_default.exit_code == 0, by_default.output
    assert "PSNR" in by_default.stdout
    assert "left out: brisque: not here" in by_default.stderr
    assert "error:" not in by_default.stderr
    assert "next: deflow weights pull alexnet" in by_default.stderr
    named = deflow("score", mine, "--metrics", "brisque,piqe")
    assert named.exit_code == 1
    assert "PIQE" in named.stdout
    assert "error: brisque: not here" in named.stderr
    Path("b.txt").touch()
    by_file = deflow("score", mine, "--ref", gt, "--brisque-model", "b.txt")
    assert by_file.exit_code == 1
    assert "error: brisque: " in by_file.stderr
    assert "left out: lpips: alexnet: not here" in by_file.stderr


@pytest.mark.parametrize("width", [10, 20, 40])
def test_values_are_readable_at_any_width(deflow, images, monkeypatch, width):
    gt, mine, theirs = images
    monkeypatch.setenv("COLUMNS", str(width))
    one = deflow("score", mine, "--ref", gt, "--metrics", "psnr,piqe").stdout
    assert "PSNR ↑ dB\n  mean: " in one
    assert "\n  images: 3 of 3\n" in one
    several = deflow("score", mine, theirs, "--ref", gt, "--metrics", "psnr,piqe").stdout
    assert "mine\n  PSNR ↑ dB: " in several


def test_a_broken_image_is_told_and_ends_in_1(deflow, images):
    _, mine, _ = images
    (mine / "1.png").write_bytes(b"no")
    result = deflow("score", mine, "--metrics", "piqe")
    assert result.exit_code == 1
    assert "2 of 3" in result.stdout
    assert "1.png" in result.stderr


def test_a_missing_partner_is_named_before_anything_is_computed(deflow, images):
    gt, mine, _ = images
    (mine / "1.png").unlink()
    result = deflow("score", mine, "--ref", gt, "--csv", "a.csv")
    assert result.exit_code == 1
    assert "1 of 3 references have no output: 1" in result.stderr
    assert "scoring" not in result.stderr
    assert not Path("a.csv").exists()


@pytest.fixture
def realism(monkeypatch) -> list[SimpleNamespace]:
    """A realism workflow that keeps its requests."""
    requests: list[SimpleNamespace] = []

    def request(real, synthetic, clean, seed, device, inception_weights, quick):
        return SimpleNamespace(**locals())

    def measure(asked, reporter):
        requests.append(asked)
        sides = {"images": 5, "of": 5, "with_clean": 0, "samples": 1}
        row = asdict(Figure("flat patches", "std", 4.0, 4.5, "real", digits=2, what="grey levels"))
        finding = asdict(WordedFinding("grain", "bad", "Too white."))
        found = {"findings": [finding], "figures": [row], "left_out": ["Inception KID"]}
        document = {"real": {"name": "real", **sides}, "synthetic": [{"name": "fake", **sides, **found}]}
        return SimpleNamespace(as_dict=lambda: document)

    install_workflow(
        monkeypatch,
        "realism.run",
        RealismRequest=request,
        measure_realism=measure,
        per_image_csv=lambda report: "a table\n",
        realism_html=lambda report: "a page\n",
    )
    return requests


def test_realism_is_the_other_half(deflow, images, realism):
    gt, mine, theirs = images
    args = ["--clean", gt, "--clean", mine, "--quick", "--seed", 3, "--html", "r.html"]
    result = deflow("score", "--realism", gt, mine, theirs, *args)
    assert result.exit_code == 0, result.output
    (request,) = realism
    assert (request.real, request.synthetic, request.clean) == (gt, (mine, theirs), (gt, mine))
    assert (request.seed, request.quick) == (3, True)
    assert Path("r.html").read_text() == "a page\n"
    assert "- bad: Too white." in result.stdout
    assert "4.50 (real)" in result.stdout
    assert "left out: Inception KID" in result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["mine", "--quick"], "--quick goes with --realism only"),
        (["mine", "--clean", "gt"], "--clean goes with --realism only"),
        (["mine", "--realism", "gt", "--ref", "gt"], "--ref does not go with --realism"),
        (["mine", "--realism", "gt", "--crop-border", "0"], "--crop-border does not go with --realism"),
        (["mine", "--realism", "gt", "--y"], "--y does not go with --realism"),
        (["mine", "--metrics", ","], "--metrics is ','"),
        (["mine", "--metrics", "fid"], "'fid' is not a metric"),
        (["mine", "--metrics", "psnr"], "psnr needs references"),
        (["mine", "--protocol", "b"], "protocol is 'b'"),
        (["mine", "--pairing", "size"], "pairing is 'size'"),
        (["mine", "--device", "tpu"], "--device is 'tpu'"),
        (["mine", "--csv", "gt"], "--csv gt: is a folder"),
        (["mine", "--html", "gt/0.png/a.html"], "is a file"),
    ],
)
def test_options_that_do_not_fit_are_refused(deflow, images, realism, args, words):
    result = deflow("score", *args)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert not realism


def test_a_realism_that_was_measured_is_printed_though_its_files_cannot_be_written(
    deflow, images, realism, monkeypatch
):
    gt, mine, _ = images

    def full(path: Path, content: bytes) -> None:
        raise DataError(f"{path}: cannot be written (No space left on device)", next_step="make room")

    monkeypatch.setattr(format_module, "write_atomically", full)
    result = deflow("score", "--realism", gt, mine, "--csv", "r.csv", "--html", "r.html")
    assert result.exit_code == 1
    assert "- bad: Too white." in result.stdout
    assert "error: r.csv: cannot be written" in result.stderr
    assert len(realism) == 1


@pytest.mark.parametrize("args", [["none"], ["mine", "--ref", "none"], ["mine", "--realism", "none"]])
def test_missing_folders_are_named(deflow, images, realism, args):
    result = deflow("score", *args)
    assert result.exit_code == 1
    assert "error: none: no such f" in result.stderr


def test_no_torch_for_help_or_a_refused_option():
    code = (
        "import sys; from typer.testing import CliRunner; from deflow_cli.cli.main import app\n"
        "for args in (['score', '--help'], ['score', 'nowhere'], ['score', '.', '--quick']):\n"
        "    CliRunner().invoke(app, args)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
