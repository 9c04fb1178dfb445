"""`deflow compare`: the page it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, write_image
from tests.cli.conftest import Deflow


@pytest.fixture
def images(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_image(tmp_path / folder / "1.png", Image(np.zeros((8, 9, 3), np.uint8)))


def test_a_page(deflow: Deflow, images: None):
    result = deflow("compare", "a", "b", "--labels", "before, after")
    assert result.exit_code == 0, result.output
    assert result.stdout == "compare.html: 1 image, held by the page (0.0 MB)\n"
    assert "<title>before and after</title>" in Path("compare.html").read_text(encoding="utf-8")


def test_as_json(deflow: Deflow, images: None):
    record = json.loads(deflow("compare", "a/1.png", "b/1.png", "-o", "p.html", "--link", "--json").stdout)
    assert (record["page"], record["images"], record["linked"]) == ("p.html", 1, True)
    assert record["labels"] == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["a", "c"], 1, "c: no such file or folder"),
        (["a", "b", "--out", "a"], 2, "--out a: is a folder"),
        (["a", "b", "--labels", "one"], 2, "--labels is 'one'"),
        (["a", "b", "--labels", "one,"], 2, "--labels is 'one,'"),
    ],
)
def test_what_is_refused(deflow: Deflow, images: None, options: list[str], code: int, message: str):
    result = deflow("compare", *options)
    assert result.exit_code == code
    assert message in result.stderr
