"""The page of a study in a browser: from the first click to the saved file, by mouse, keyboard and touch."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.pairs.records import decode_rgb8
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.study.make import MakeStudyRecord, MakeStudyRequest, make_study
from deflow_cli.workflows.study.plan import Mode
from deflow_cli.workflows.study.records import AnswerSet, StudyKey, read_answers, read_key
from tests.browser import Browser, Page, running_browser
from tests.workflows.study.participants import METHODS, lay_out

TRIALS = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    lay_out(root)
    return root


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def made(root: Path, name: str, mode: Mode = "rank", crop: int = 32) -> MakeStudyRecord:
    """A study of its own: another seed, so that the browser remembers nothing of it."""
    folders = tuple(root / method for method in METHODS)
    seed = zlib.crc32(name.encode())
    request = MakeStudyRequest(folders, root / name, root / "gt", None, mode, TRIALS, crop, seed=seed)
    return make_study(request, Silent())


def begin(page: Page) -> None:
    """Consent and start."""
    assert page.js("document.getElementById('start').disabled")
    page.click("#consent")
    page.click("#start")
    page.until("!document.getElementById('trial').hidden")


def seen(page: Page) -> str:
    return str(page.js("document.getElementById('progress').textContent"))


def saved(browser: Browser, page: Page, record: MakeStudyRecord) -> tuple[StudyKey, AnswerSet, dict]:
    """Save by the button that is in view, and read the file back with the key."""
    page.click("main:not([hidden]) .save")
    participant = json.loads(page.js(f"localStorage.getItem('deflow-study-{record.study}')"))["participant"]
    path = browser.downloads / f"answers-{record.study[:8]}-{participant}.json"
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, "no file was saved"
        time.sleep(0.01)
    key = read_key(record.key)
    answers = read_answers([path], key)
    document = json.loads(path.read_text())
    path.unlink()
    return key, answers, document


def test_a_ranking_by_mouse_and_keyboard(browser: Browser, root: Path):
    record = made(root, "desk")
    page = browser.open(record.page, 1200, 900)
    begin(page)
    assert seen(page) == "Practice"
    page.press("b")
    page.press("Enter")  # incomplete
    assert seen(page) == "Practice"
    for letter in "adc":
        page.press(letter)
    page.press("Enter")
    page.until("document.getElementById('progress').textContent.startsWith('Set 1 ')")
    for place in (3, 1, 4, 2):  # by mouse; Next is open only once all are ranked
        assert page.js("document.getElementById('next').disabled")
        page.click(f".candidate:nth-child({place})")
    assert page.js("[...document.querySelectorAll('.rank')].map(e => e.textContent)") == ["2", "4", "1", "3"]
    page.click(".candidate:nth-child(1)")  # taken back: those after it move up
    assert page.js("[...document.querySelectorAll('.rank')].map(e => e.textContent)") == ["", "3", "1", "2"]
    page.click("#undo")
    page.press("Backspace")
    assert page.js("[...document.querySelectorAll('.rank')].map(e => e.textContent)") == ["", "", "1", ""]
    assert seen(page) == f"Set 1 of {TRIALS}"
    for letter in "bda":
        page.press(letter)
    page.click("#next")
    page.until("document.getElementById('progress').textContent.startsWith('Set 2 ')")
    key, answers, document = saved(browser, page, record)  # in the middle
    assert len(answers.answers) == 1
    assert answers.practice == 1
    row = document["answers"][1]
    assert [group[0] for group in row["ranking"]] == [row["shown"][place] for place in (2, 1, 3, 0)]
    assert row["seconds"] > 0
    assert (row["width"], row["pixel_ratio"], row["screen_pixels_per_pixel"]) == (1200, 1, 2)
    page.go(record.page)  # closed and opened again: it goes on where it was
    assert "1 of 5" in page.js("document.getElementById('welcome').textContent")
    begin(page)
    for number in range(2, TRIALS + 1):
        page.until(f"document.getElementById('progress').textContent.startsWith('Set {number} ')")
        for letter in "abcd":
            page.press(letter)
        page.press("Enter")
    page.until("!document.getElementById('done').hidden")
    key, answers, document = saved(browser, page, record)
    assert len(answers.answers) == TRIALS
    assert sorted({answer.trial.id for answer in answers.answers}) == sorted(
        trial.id for trial in key.trials if not trial.practice
    )
    assert json.loads(page.js("document.getElementById('text').value")) == document
    page.click("#again")  # confirmed by the helper: nothing is left of the first person
    page.until("!document.getElementById('intro').hidden && document.getElementById('welcome').hidden")
    stored = json.loads(page.js(f"localStorage.getItem('deflow-study-{record.study}')"))
    assert stored["participant"] != document["participant"]


@pytest.mark.parametrize("mode", ["rank", "2afc", "best"])
def test_a_study_by_touch_on_a_phone(browser: Browser, root: Path, mode: Mode):
    record = made(root, f"phone-{mode}", mode)
    page = browser.open(record.page, 360, 740, ratio=2.625, touch=True)
    begin(page)
    for _ in range(record.trials + 1):
        before = seen(page)
        count = page.js("document.querySelectorAll('.candidate').length")
        assert page.js("document.documentElement.scrollWidth") <= 360
        for place in range(count, 0, -1) if mode == "rank" else (count,):
            page.click(f".candidate:nth-child({place})")
        page.click("#next")
        page.until(
            f"document.getElementById('progress').textContent !== {json.dumps(before)}"
            " || !document.getElementById('done').hidden"
        )
    page.until("!document.getElementById('done').hidden")
    _, answers, document = saved(browser, page, record)
    assert len(answers.answers) == record.trials
    for row in document["answers"]:
        last_first = row["shown"][::-1]
        assert row["ranking"][0] == last_first[:1]
        if mode == "rank":
            assert [group[0] for group in row["ranking"]] == last_first


@pytest.mark.parametrize(("ratio", "width"), [(1, 1200), (1.5, 1200), (2.625, 412)])
def test_pixels_are_whole_screen_pixels(tmp_path: Path, root: Path, ratio: float, width: int):
    """On a screenshot each pixel of a picture is a square of equal screen pixels, whatever the scale."""
    record = made(root, f"scale-{ratio}", crop=40)
    with running_browser(tmp_path, f"--force-device-scale-factor={ratio}") as browser:
        page = browser.open(record.page, width, 900, ratio=0)
        assert page.js("devicePixelRatio") == ratio
        begin(page)
        assert page.js("document.getElementById('scaling').textContent === ''") == (ratio == 1)
        page.screenshot(tmp_path / "shot.png")
        places = page.js(
            "[...document.querySelectorAll('.exact')].map(e => { const r = e.getBoundingClientRect();"
            " return [r.x, r.y, r.width, e.src]; })"
        )
    screen = read_rgb8(tmp_path / "shot.png")
    assert len(places) == len(METHODS) + 2  # and the catch item, and the reference
    for left, top, side, source in places:
        picture = decode_rgb8(base64.b64decode(source.partition(",")[2]), "picture")
        times = round(side * ratio / 40)
        assert times == round(2 * ratio)
        squares = picture.repeat(times, 0).repeat(times, 1)
        x, y = round(left * ratio), round(top * ratio)
        np.testing.assert_array_equal(screen[y : y + len(squares), x : x + len(squares)], squares)


def test_the_page_names_no_method_and_loads_nothing(browser: Browser, root: Path):
    record = made(root, "closed")
    text = record.page.read_text(encoding="utf-8")
    assert not any(name in text for name in METHODS)
    assert "i0" not in {
        trial["id"] for trial in json.loads(text.split('id="study">')[1].split("</script>")[0])["trials"]
    }
    page = browser.open(record.page, 800, 600)
    begin(page)
    assert (
        page.js("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
        == 0
    )
