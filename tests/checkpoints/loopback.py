"""A server on this machine that serves small files, well or badly; for the tests of downloads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Loopback:
    """files: bodies by path. told: header fields to send in place of the true ones, by path.

    A Content-Length above the body's own means that the connection ends too early. requests: what was asked.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Loopback]:
    """Serve on 127.0.0.1 until the end of the block."""
    state = Loopback()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, with_body: bool) -> None:
            state.requests.append(f"{self.command} {self.path}")
            body = state.files.get(self.path)
            self.send_response(404 if body is None else 200)
            content = body or b""
            for key, value in ({"Content-Length": str(len(content))} | state.told.get(self.path, {})).items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(content)
            self.close_connection = True

        def do_GET(self) -> None:
            self._answer(True)

        def do_HEAD(self) -> None:
            self._answer(False)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
