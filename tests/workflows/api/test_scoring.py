"""The API's scoring: pages that compare, and pairs that are checked, as the commands do it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deflow_cli
from deflow_cli.data.images.files import Image, to_pixels, write_image
from deflow_cli.errors import ConfigError, DataError
from tests.cli.conftest import Deflow
from tests.inference.small import smooth_images
from tests.listening import Listener
from tests.workflows.check.test_run import good, stored


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions of three images, and of one of them a third that has another size."""
    monkeypatch.chdir(tmp_path)
    for folder, side in (("before", 20), ("after", 40), ("other", 30)):
        for index in range(3 if folder != "other" else 1):
            picture = Image(to_pixels(smooth_images(1, side, side, index)))
            write_image(tmp_path / folder / f"{index}.png", picture)
    return tmp_path


def test_a_comparison_is_the_commands(deflow: Deflow, versions: Path) -> None:
    made = deflow_cli.compare_images("before", Path("after"), "ours.html", labels=("low", "high"))
    assert isinstance(made, deflow_cli.CompareRecord)
    assert (made.page, made.labels, made.images) == (Path("ours.html"), ("low", "high"), 3)
    assert not made.linked
    done = deflow("compare", "before", "after", "--out", "theirs.html", "--labels", "low,high")
    assert done.exit_code == 0, done.output
    assert (versions / "ours.html").read_bytes() == (versions / "theirs.html").read_bytes()
    linked = deflow_cli.compare_images("before/0.png", "after/0.png", link=True)
    assert (linked.page, linked.linked) == (Path("compare.html"), True)
    assert linked.bytes < made.bytes
    assert "before/0.png" in linked.page.read_text("utf-8")


def test_what_does_not_fit_together_is_not_compared(versions: Path) -> None:
    with pytest.raises(DataError, match="do not fit on top of each other"):
        deflow_cli.compare_images("before/0.png", "other/0.png")
    with pytest.raises(DataError, match="hold different images"):
        deflow_cli.compare_images("before", "other")
    with pytest.raises(DataError, match="nowhere"):
        deflow_cli.compare_images("before", "nowhere")
    assert not (versions / "compare.html").exists()


def test_a_check_is_the_commands(deflow: Deflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = good()
    stored(tmp_path / "train", pairs)
    stored(tmp_path / "val", dict(list(pairs.items())[:1]))
    hears = Listener()
    alone = deflow_cli.check_pairs("train", reporter=hears)
    assert isinstance(alone, deflow_cli.CheckReport)
    assert (alone.pairs, alone.scale, alone.val_pairs, alone.spoils) == (6, 4, None, False)
    report = deflow_cli.check_pairs("train", val=tmp_path / "val", gt_size=256, sample=2)
    assert report.spoils
    assert {finding.kind for finding in report.findings} >= {"leak", "size"}
    assert alone.alignment is not None
    assert report.alignment is not None
    assert (alone.alignment.measured, report.alignment.measured) == (6, 2)
    asked = deflow("check", "train", "--val", tmp_path / "val", "--gt-size", 256, "--sample", 2, "--json")
    assert asked.exit_code == 1
    assert json.loads(asked.stdout) == json.loads(json.dumps(report.as_dict(), default=str))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"scale": 0}, "scale is 0"), ({"gt_size": -1}, "gt_size is -1"), ({"sample": -2}, "sample is -2")],
)
def test_numbers_that_can_be_none_are_refused(tmp_path: Path, wrong: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        deflow_cli.check_pairs(tmp_path, **wrong)
    with pytest.raises(DataError, match="nowhere"):
        deflow_cli.check_pairs(tmp_path / "nowhere")
