"""Hostile names: what stands in the name of a file or folder is text on a page, never markup or a script."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.reports.pages.rendering import POLICY
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.compare import CompareRequest, compare_images
from deflow_cli.workflows.realism.run import RealismRequest, measure_realism
from deflow_cli.workflows.report.request import ReportRequest
from deflow_cli.workflows.report.run import report
from deflow_cli.workflows.score.examples import html_text
from deflow_cli.workflows.score.run import ScoreRequest, score
from deflow_cli.workflows.study.make import MakeStudyRequest, make_study
from tests.inference.small import small_model

NAMES = [
    "<script>document.title='changed'<script>",
    "<img src=x onerror=document.title='changed'>",
    "'\"><svg onload=document.title='changed'>",
    "&lt;b&gt; <!-- {{ 7 * 7 }} ${7*7}",
]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Elements(HTMLParser):
    """The elements of a page, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.policies: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.policies += [value for name, value in attrs if tag == "meta" and name == "content"]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of hostile names in folders of hostile names."""
    root = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for folder, strength in ((NAMES[0], 5), (NAMES[1], 6), ("gt", 0)):
        (root / folder).mkdir()
        for number, name in enumerate(NAMES):
            clean = np.full((128, 128, 3), 60.0 + 30 * number)
            noisy = clean + rng.normal(0, strength, clean.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / folder / f"{name}.png")
    return root


def page_of_score(folders: Path, target: Path) -> None:
    outputs = (folders / NAMES[0], folders / NAMES[1])
    target.write_text(html_text(score(ScoreRequest(outputs, folders / "gt", ("psnr",)), Silent())), "utf-8")


def page_of_realism(folders: Path, target: Path) -> None:
    request = RealismRequest(folders / NAMES[0], (folders / NAMES[1],), (), quick=True, html=target)
    measure_realism(request, Silent())


def page_of_model(folders: Path, target: Path) -> None:
    model = folders / f"{NAMES[0]}.safetensors"
    save_model(model, small_model(), {"step": 1, "description": NAMES[1]}, title=NAMES[2])
    report(ReportRequest(model, target, device="cpu", images=1))


def page_of_comparison(folders: Path, target: Path) -> None:
    compare_images(CompareRequest(folders / NAMES[0], folders / NAMES[1], target), Silent())


def page_of_study(folders: Path, target: Path) -> None:
    methods = (folders / NAMES[0], folders / NAMES[1])
    asked = MakeStudyRequest(
        methods, target.parent / "study", folders / "gt", title=NAMES[0], contact=NAMES[1]
    )
    target.write_bytes(make_study(asked, Silent()).page.read_bytes())


PAGES = {"score": page_of_score, "realism": page_of_realism, "report": page_of_model}
PAGES |= {"compare": page_of_comparison, "study": page_of_study}
SCRIPTS = {"compare": 3, "study": 2}  # their data, which are no program, and programs of their own


@pytest.mark.parametrize(
    "kind",
    ["score", pytest.param("realism", marks=pytest.mark.slow(seconds=8)), "report", "compare", "study"],
)
def test_names_are_text_on_every_page(folders: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "page.html"
    PAGES[kind](folders, target)
    found = Elements()
    found.feed(target.read_text("utf-8"))
    assert found.tags.count("script") == SCRIPTS.get(kind, 1)  # the page's own
    assert found.handlers == []
    assert "b" not in found.tags
    assert POLICY in found.policies
    assert any(name in found.text for name in NAMES[:3])
    if BROWSER is None:
        return
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", target.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "changed</title>" not in shown
    in_browser = Elements()
    in_browser.feed(shown)
    assert in_browser.tags.count("script") == SCRIPTS.get(kind, 1)
    assert in_browser.handlers == []


def test_the_images_themselves_are_read(folders: Path) -> None:
    assert read_rgb8(folders / "gt" / f"{NAMES[2]}.png").shape == (128, 128, 3)
