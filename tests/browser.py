"""A browser for tests of pages: Chromium without a window, told what to do by its DevTools protocol.

The protocol goes through a pair of pipes (`--remote-debugging-pipe`), so nothing is needed but the browser,
and no port is opened. Clicks, taps and keys are input events: they reach the page as a person's do.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROGRAM = next((path for path in map(shutil.which, NAMES) if path), None)
PATIENCE = 30.0  # seconds
KEYS = {
    "Enter": 13,
    "Backspace": 8,
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "Tab": 9,
    " ": 32,
    "Home": 36,
    "End": 35,
}


class BrowserError(Exception):
    """A call that the browser refused, or a script that failed."""


class Browser:
    """A running browser."""

    def __init__(self, folder: Path, flags: tuple[str, ...] = ()) -> None:
        assert PROGRAM is not None
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        flags += ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")
        flags += ("--disable-dev-shm-usage", "--remote-debugging-pipe")
        flags += (f"--user-data-dir={folder / 'profile'}",)
        # The browser reads from file 3 and writes to file 4.
        command = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$0" "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, PROGRAM, *flags, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._number = 0
        behaviour = {"behavior": "allow", "downloadPath": str(self.downloads)}
        self.call("Browser.setDownloadBehavior", **behaviour)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, and wait for its answer; dialogs of pages are accepted meanwhile."""
        number = self._send(method, session, params)
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']}")
                return dict(message["result"])
            if message.get("method") == "Page.javascriptDialogOpening":
                self._send("Page.handleJavaScriptDialog", message["sessionId"], {"accept": True})

    def open(self, path: Path, width: int, height: int, *, ratio: float = 1, touch: bool = False) -> Page:
        """A page from disk in a window of its size; touch: with a finger in place of a mouse."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.call("Page.enable")
        page.size(width, height, ratio, touch)
        page.go(path)
        return page

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._send("Browser.close", None, {})
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _send(self, method: str, session: str | None, params: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        return self._number

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))


class Page:
    """A page in the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self._session = session
        self._touch = False

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self._session, **params)

    def size(self, width: int, height: int, ratio: float = 1, touch: bool = False) -> None:
        """The window's size in CSS pixels, and the screen's pixels for each; 0: those of the browser."""
        self._touch = touch
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=ratio,
            mobile=touch,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=5 if touch else 1)

    def go(self, path: Path) -> None:
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it gives."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", **asked)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait for a condition of the page to hold; while it is loaded anew, elements may be missing."""
        end = time.monotonic() + PATIENCE
        tried = f"(() => {{ try {{ return !!({condition}) }} catch (error) {{ return false }} }})()"
        while True:
            with contextlib.suppress(BrowserError):
                if self.js(tried):
                    return
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.01)

    def centre(self, selector: str) -> tuple[float, float]:
        """The middle of an element, scrolled into view."""
        found = self.js(
            f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();
            return [r.x + r.width / 2, r.y + r.height / 2]; }})()"""
        )
        return found[0], found[1]

    def click(self, selector: str) -> None:
        """A click, or a tap where the page is touched."""
        x, y = self.centre(selector)
        if self._touch:
            point = {"x": x, "y": y}
            self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
            self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 4) -> None:
        """Draw the mouse or a finger from a point to another."""
        ways = [k / steps for k in range(steps + 1)]
        points = [(start[0] + (end[0] - start[0]) * k, start[1] + (end[1] - start[1]) * k) for k in ways]
        if self._touch:
            self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[_point(points[0])])
            for point in points[1:]:
                self.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[_point(point)])
            self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **_point(points[0]), **held)
        for point in points[1:]:
            self.call("Input.dispatchMouseEvent", type="mouseMoved", **_point(point), **held)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **_point(points[-1]), **held)

    def press(self, key: str) -> None:
        """A key, by its name or its letter."""
        code = KEYS.get(key) or ord(key.upper())
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        common = {"key": key, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


def _point(point: tuple[float, float]) -> dict[str, float]:
    return {"x": point[0], "y": point[1]}


@contextlib.contextmanager
def running_browser(folder: Path, *flags: str) -> Iterator[Browser]:
    """A browser while the context lasts, with flags of its command line; skips where there is none."""
    if PROGRAM is None:
        pytest.skip(f"no browser is installed ({', '.join(NAMES)})")
    browser = Browser(folder, flags)
    try:
        yield browser
    finally:
        browser.close()
