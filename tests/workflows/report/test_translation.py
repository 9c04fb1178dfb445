"""The page of DSGAN, DASR and CycleGAN: what a run writes at its end and `deflow report` writes anew."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from deflow_cli.checkpoints.translation.files import load_translator, save_translator
from deflow_cli.config.translation import ResidualGeneratorConfig
from deflow_cli.errors import DataError
from deflow_cli.models.translation.generators import ResidualGenerator
from deflow_cli.workflows.report import translation as page_workflow
from deflow_cli.workflows.report.request import ReportRequest
from deflow_cli.workflows.report.run import report
from tests.listening import Listener
from tests.workflows.translation.folders import FAST, translate

Folders = tuple[Path, Path]
IN_HASTE = {"images": page_workflow.FIT_IMAGES, "seconds": 0.0, "device": "cpu"}  # as at a run's end


@pytest.fixture(scope="module")
def runs(unpaired_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each method with its page; small pictures of 80 px."""
    root = tmp_path_factory.mktemp("runs")
    for name in FAST:
        settings = (f"{name}.scale=2", "fit.report=true", "fit.validate_every=3", "fit.held_out=0.2")
        translate(name, unpaired_folders, root / name, *settings)
    return {name: root / name for name in FAST}


def headings(text: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)", text)


@pytest.mark.parametrize("name", FAST)
def test_the_page_of_a_run_is_made_anew(runs: dict[str, Path], name: str, tmp_path: Path) -> None:
    text = (runs[name] / "report.html").read_text("utf-8")
    result = report(ReportRequest(runs[name], tmp_path / "again.html", **IN_HASTE))
    assert result.report_path == tmp_path / "again.html"
    assert result.report_path.read_text("utf-8") == text
    assert headings(text) == [
        "Verdict", "The model", "What it does", "How real it is", "Training", "Configuration"
    ]  # fmt: skip
    assert f"“{name}”, by {name}" in text
    assert "“clean”: 5 images, 1 held out" in text
    assert "held_out_low_pass_psnr" in text
    assert text.count("<img") == 3 * 4
    sentences = [sentence for _, sentence in result.verdict]
    assert any(sentence.startswith("The fit finished: 6 steps") for sentence in sentences)
    assert any("No randomness" in sentence for sentence in sentences)
    assert (result.clean_images, result.noisy_images, result.notes) == (5, 5, [])
    assert {row["which is"] for row in result.figures} >= {"bound"}
    assert str(runs[name].parent) not in text


@pytest.mark.slow(seconds=18)
def test_without_haste_more_is_measured(runs: dict[str, Path], tmp_path: Path) -> None:
    result = report(ReportRequest(runs["dsgan"], tmp_path / "page.html", device="cpu"))
    hasty = report(ReportRequest(runs["dsgan"], tmp_path / "hasty.html", **IN_HASTE))
    measured, in_haste = ({row["figure"] for row in each.figures} for each in (result, hasty))
    assert in_haste < measured


def test_a_bare_model_is_shown_on_packaged_photographs(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copyfile(runs["cyclegan"] / "model.safetensors", tmp_path / "gan.safetensors")
    result = report(ReportRequest(tmp_path / "gan.safetensors", images=4, seconds=0.0, device="cpu"))
    assert result.report_path == tmp_path / "gan.report.html"
    text = result.report_path.read_text("utf-8")
    assert "photographs that come with deflow" in text
    assert "“gan”, by cyclegan" in text
    assert "Training" not in headings(text)
    assert "no real noisy images" in text
    assert text.count("<img") == 3 * 3
    assert result.noisy_images == 0


def test_an_imported_model_says_what_it_does_not_know(tmp_path: Path) -> None:
    generator = ResidualGenerator(ResidualGeneratorConfig(4, 1, 4), torch.Generator().manual_seed(1))
    facts = {"imported_from": "down.pth", "assumed": ["the order", "RGB"]}
    save_translator(tmp_path / "m.safetensors", generator, "dasr", facts)
    result = report(ReportRequest(tmp_path / "m.safetensors", images=1, device="cpu"))
    text = result.report_path.read_text("utf-8")
    assert "does not tell how it was fitted" in text
    assert "down.pth" in text
    assert "the order; RGB" in text
    assert "its results are 4 times smaller" in text
    assert any("How real the noise is was not measured" in note for note in result.notes)


def test_folders_given_gone_and_changed(
    runs: dict[str, Path], unpaired_folders: Folders, tmp_path: Path
) -> None:
    shutil.copytree(runs["dsgan"], tmp_path / "run")
    record = tmp_path / "run/run.json"
    record.write_text(record.read_text().replace(str(unpaired_folders[0]), str(tmp_path / "lost/clean")))
    asked = ReportRequest(tmp_path / "run", images=1, device="cpu")
    (gone, *_) = report(asked).notes
    assert "The clean training folder “clean” is gone" in gone
    shutil.copytree(unpaired_folders[0], tmp_path / "moved")
    moved = ReportRequest(tmp_path / "run", clean=tmp_path / "moved", images=1, device="cpu")
    assert not any("gone" in note or "fingerprint" in note for note in report(moved).notes)
    next((tmp_path / "moved").iterdir()).unlink()
    assert any("not those of the training" in note for note in report(moved).notes)
    with pytest.raises(DataError, match="nowhere"):
        report(ReportRequest(tmp_path / "run", clean=tmp_path / "nowhere", device="cpu"))


def test_a_run_cut_short_says_so(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["dasr"], tmp_path / "run")
    model = load_translator(tmp_path / "run/model.safetensors")
    facts = {**model.facts, "step": 3, "skipped_steps": 1}
    save_translator(tmp_path / "run/model.safetensors", model.generator, "dasr", facts)
    verdict = report(ReportRequest(tmp_path / "run", images=1, device="cpu")).verdict
    assert any(kind == "warn" and "after 3 steps, at 50 % of its run" in text for kind, text in verdict)
    assert any("1 steps (33.3 %)" in text and "lower fit.learning_rate." in text for _, text in verdict)


@pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyboardInterrupt()])
def test_a_page_that_fails_does_not_lose_the_run(
    unpaired_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(page: object) -> str:
        raise error

    monkeypatch.setattr(page_workflow, "render_translation", fails)
    hears = Listener()
    run = tmp_path / "run"
    result = translate("dsgan", unpaired_folders, run, "fit.report=true", iterations=2, reporter=hears)
    assert result.report_path is None
    assert load_translator(result.model_path).facts["step"] == 2
    told = str(error) or "KeyboardInterrupt"
    assert any(f"no report was written ({told})" in warning for warning in hears.warnings)
    assert not (run / "report.html").exists()
