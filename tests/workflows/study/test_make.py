"""Making a study: what the page holds, that the key fits it, and folders that do not fit together."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.images.resize import rescale
from deflow_cli.data.pairs.records import decode_rgb8
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.study.make import MakeStudyRecord, MakeStudyRequest, make_study
from deflow_cli.workflows.study.records import CATCH, read_key
from tests.workflows.study.participants import METHODS, lay_out

FOLDERS = tuple(Path(name) for name in METHODS)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)


def make(target: str = "out", **options) -> MakeStudyRecord:
    anchors = {} if "low" in options else {"reference": Path("gt")}
    request = MakeStudyRequest(FOLDERS, Path(target), **{"trials": 6, "crop": 32, **anchors, **options})
    return make_study(request, Silent())


def page_data(record: MakeStudyRecord) -> dict:
    text = record.page.read_text(encoding="utf-8")
    return json.loads(text.split('id="study">')[1].split("</script>")[0])


def picture(data: dict, token: str) -> np.ndarray:
    return decode_rgb8(base64.b64decode(data["images"][token].partition(",")[2]), token)


def test_the_crops_are_those_of_the_key():
    record = make()
    key, data = read_key(record.key), page_data(record)
    assert key.study == data["study"] == record.study
    assert (record.trials, record.catch_trials, record.images) == (6, 6, 3)
    for trial, shown in zip(key.trials, data["trials"], strict=True):
        assert trial.id == shown["id"]
        assert sorted(trial.candidates) == sorted(shown["candidates"])
        rows, columns = slice(trial.top, trial.top + 32), slice(trial.left, trial.left + 32)
        sources = {**{name: name for name in METHODS}, CATCH: "gt"}
        for token, name in trial.candidates.items():
            whole = read_rgb8(Path(sources[name]) / f"{trial.image}.png")
            np.testing.assert_array_equal(picture(data, token), whole[rows, columns])
        np.testing.assert_array_equal(
            picture(data, shown["reference"]), read_rgb8(Path("gt") / f"{trial.image}.png")[rows, columns]
        )


def test_without_references_the_source_is_enlarged_and_aligned():
    record = make(low=Path("lq"))
    key, data = read_key(record.key), page_data(record)
    assert key.kind == "source"
    for trial, shown in zip(key.trials, data["trials"], strict=True):
        assert trial.left % 4 == trial.top % 4 == 0
        low = read_rgb8(Path("lq") / f"{trial.image}.png")
        enlarged = np.clip(np.floor(rescale(low, 48, 64) + 0.5), 0, 255)
        crop = enlarged[trial.top : trial.top + 32, trial.left : trial.left + 32]
        catch = next(token for token, name in trial.candidates.items() if name == CATCH)
        for token in (catch, shown["reference"]):
            np.testing.assert_array_equal(picture(data, token), crop)


def test_same_seed_same_bytes_and_another_seed_another_study():
    first, second, third = make("a"), make("b"), make("c", seed=1)
    assert first.page.read_bytes() == second.page.read_bytes()
    assert first.key.read_bytes() == second.key.read_bytes()
    assert third.study != first.study


def test_orders_of_the_page_name_each_candidate_once():
    data = page_data(make(mode="best"))
    for form in data["forms"]:
        for number, shown in zip(form["order"], form["shown"], strict=True):
            assert sorted(shown) == list(range(len(data["trials"][number]["candidates"])))


def test_texts_of_the_request_are_text():
    record = make(title="<b>Which?</b>", contact='"><script>1</script>')
    text = record.page.read_text(encoding="utf-8")
    assert "<b>" not in text
    assert text.count("<script") == 2  # the data and the page's program


def test_sources_named_by_their_scale():
    for path in Path("lq").iterdir():
        path.rename(path.with_name(f"{path.stem}x4.png"))
    assert make(low=Path("lq")).images == 3


def test_a_target_that_holds_something_is_refused():
    make()
    with pytest.raises(ConfigError, match="out: is there already") as raised:
        make()
    assert "OUT" in raised.value.next_step


def test_missing_and_differing_files_are_named():
    with pytest.raises(ConfigError, match="references or low-resolution"):
        make_study(MakeStudyRequest(FOLDERS, Path("out")), Silent())
    Path(METHODS[1], "i1.png").unlink()
    with pytest.raises(DataError, match=rf"{METHODS[1]}.*1 of 3 references have no output: i1"):
        make()
    with pytest.raises(DataError, match=rf"{METHODS[1]} lacks 1 of 3 images: i1"):
        make(low=Path("lq"))
    write_image(Path(METHODS[1], "i1.png"), Image(np.zeros((40, 40, 3), np.uint8)))
    with pytest.raises(DataError, match=r"i1.png \(40x40, not 64x48\)"):
        make()
    with pytest.raises(DataError, match=rf"{METHODS[1]}/i1.png \(40x40, not 64x48\)"):
        make(low=Path("lq"))


def test_sources_that_do_not_fit_are_named():
    write_image(Path("lq/i2.png"), Image(np.zeros((13, 16, 3), np.uint8)))
    with pytest.raises(DataError, match=r"lq/i2.png is 16x13, its output in .* 64x48: no whole scale"):
        make(low=Path("lq"))
    write_image(Path("lq/i2.png"), Image(np.zeros((24, 32, 3), np.uint8)))
    with pytest.raises(DataError, match="outputs of several scales: 2 of i2, 4 of i0"):
        make(low=Path("lq"))
    Path("lq/i2.png").unlink()
    with pytest.raises(DataError, match="lq: 1 of 3 images have no source there: i2"):
        make(low=Path("lq"))
