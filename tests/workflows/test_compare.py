"""Comparing: what the page holds or names, and the slider in a browser, by mouse, keyboard and touch."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.pairs.records import decode_rgb8
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows import compare as module
from deflow_cli.workflows.compare import CompareRecord, CompareRequest, compare_images
from tests.browser import Browser, Page, running_browser

WIDTH, HEIGHT = 120, 80
RED, BLUE = (200, 30, 20), (20, 40, 190)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """before/ is red and after/ blue; small/ a quarter of the side."""
    monkeypatch.chdir(tmp_path)
    for name in ("one & two", "three"):
        for folder, colour, scale in (("before", RED, 1), ("after", BLUE, 1), ("small", RED, 4)):
            pixels = np.full((HEIGHT // scale, WIDTH // scale, 3), colour, np.uint8)
            pixels[0, 0] = 255
            write_image(Path(folder, f"{name}.png"), Image(pixels))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def made(first: str = "before", second: str = "after", **options) -> CompareRecord:
    return compare_images(CompareRequest(Path(first), Path(second), Path("page.html"), **options), Silent())


def page_data(record: CompareRecord) -> dict:
    text = record.page.read_text(encoding="utf-8")
    return json.loads(text.split('id="pairs">')[1].split("</script>")[0])


def test_the_page_holds_the_pixels(folders):
    record = made(labels=("b<i>", "after"))
    assert (record.images, record.linked) == (2, False)
    data = page_data(record)
    assert data["labels"] == ["b<i>", "after"]
    assert "<i>" not in record.page.read_text(encoding="utf-8")
    for pair in data["pairs"]:
        for side, folder in (("first", "before"), ("second", "after")):
            pixels = decode_rgb8(base64.b64decode(pair[side].partition(",")[2]), side)
            np.testing.assert_array_equal(pixels, read_rgb8(Path(folder, f"{pair['name']}.png")))


def test_two_images(folders):
    record = made("before/three.png", "after/three.png")
    assert (record.images, record.labels) == (1, ("before/three.png", "after/three.png"))


def test_what_cannot_be_compared_is_named(folders, monkeypatch: pytest.MonkeyPatch):
    write_image(Path("after/three.png"), Image(np.zeros((HEIGHT + 1, WIDTH, 3), np.uint8)))
    with pytest.raises(DataError, match=r"1 of 2 pairs do not fit .*three \(120x80 and 120x81\)"):
        made()
    Path("after/three.png").unlink()
    with pytest.raises(DataError, match="after lacks 1 of 2 images: three"):
        made()
    monkeypatch.setattr(module, "MOST_BYTES", 300)
    with pytest.raises(ConfigError, match="all 2 pairs would be larger") as raised:
        made("before", "small")
    assert "--link" in raised.value.next_step
    write_image(Path("before/three.tif"), Image(read_rgb8(Path("before/three.png"))))
    Path("before/three.png").unlink()
    with pytest.raises(DataError, match=r"browsers do not show 1 of 4 files: before/three.tif"):
        made("before", "small", linked=True)


def colour_at(page: Page, shot: Path, x: float, y: float) -> tuple[int, int, int]:
    """Of the screen, at shares of the picture."""
    page.screenshot(shot)
    left, top, width, height, ratio = page.js(
        "(() => { const r = document.getElementById('canvas').getBoundingClientRect();"
        " return [r.x, r.y, r.width, r.height, devicePixelRatio]; })()"
    )
    pixels = read_rgb8(shot)
    red, green, blue = pixels[round((top + y * height) * ratio), round((left + x * width) * ratio)]
    return int(red), int(green), int(blue)


def ready(page: Page) -> None:
    page.until("[...document.querySelectorAll('#canvas img')].every(e => e.complete && e.naturalWidth > 0)")


def test_the_slider_by_mouse_and_keyboard(folders, browser: Browser, tmp_path: Path):
    shot = tmp_path / "shot.png"
    page = browser.open(made().page, 1200, 900)
    ready(page)
    assert colour_at(page, shot, 0.3, 0.8) == RED
    assert colour_at(page, shot, 0.7, 0.8) == BLUE
    x, y = page.centre("#handle")
    page.drag((x, y), (x + 0.4 * page.js("document.getElementById('canvas').offsetWidth"), y + 5))
    assert colour_at(page, shot, 0.7, 0.8) == RED
    assert colour_at(page, shot, 0.97, 0.8) == BLUE
    assert page.js("document.getElementById('handle').getAttribute('aria-valuenow')") == "90"
    page.press("Home")  # the handle has the focus
    assert colour_at(page, shot, 0.1, 0.8) == BLUE
    page.press("ArrowRight")
    assert page.js("document.getElementById('handle').getAttribute('aria-valuenow')") == "1"
    page.press("a")
    assert colour_at(page, shot, 0.9, 0.8) == RED
    page.press("b")
    assert colour_at(page, shot, 0.05, 0.8) == BLUE
    page.press("s")
    assert page.js("document.querySelector('[data-view=split]').getAttribute('aria-pressed')") == "true"
    page.press("n")
    assert page.js("document.getElementById('sizes').textContent").startswith("three")
    page.click("#after")
    assert page.js("document.getElementById('count').textContent") == "1 of 2"


def test_the_slider_by_touch_on_a_phone(folders, browser: Browser, tmp_path: Path):
    shot = tmp_path / "shot.png"
    page = browser.open(made("small", "after").page, 360, 740, ratio=2, touch=True)
    ready(page)
    assert page.js("document.documentElement.scrollWidth") == 360
    x, y = page.centre("#handle")
    page.drag((x, y), (x - 100, y + 8))
    page.until("Number(document.getElementById('handle').getAttribute('aria-valuenow')) < 30")
    assert colour_at(page, shot, 0.3, 0.8) == BLUE
    page.click("#canvas")
    page.until("document.getElementById('handle').getAttribute('aria-valuenow') === '50'")
    page.click("[data-view=a]")
    assert colour_at(page, shot, 0.9, 0.8) == RED
    assert "small 30×20, after 120×80, enlarged" in page.js("document.getElementById('sizes').textContent")


def test_linked_files_are_shown_from_disk(folders, browser: Browser, tmp_path: Path):
    record = compare_images(
        CompareRequest(Path("before"), Path("after"), Path("pages/page.html"), linked=True), Silent()
    )
    assert record.bytes < 40_000
    assert page_data(record)["pairs"][0]["first"] == "../before/one%20%26%20two.png"
    page = browser.open(record.page, 800, 900)
    ready(page)
    assert colour_at(page, tmp_path / "shot.png", 0.3, 0.8) == RED


def test_a_zoom_of_whole_pixels(folders, browser: Browser):
    page = browser.open(made().page, 1200, 900)
    ready(page)
    chosen = "const e = document.getElementById('zoom'); e.value = '2'; e.dispatchEvent(new Event('change'))"
    page.js(f"(() => {{ {chosen} }})()")
    assert page.js("document.getElementById('canvas').offsetWidth") == 2 * WIDTH
    assert page.js("document.getElementById('first').className") == "pixelated"
