"""A Hub on this machine: the part of the Hugging Face Hub's HTTP interface that models go through.

Repositories are created, files committed (large ones by Git LFS) and resolved with their checksums, as the
public interface has it. Private repositories and commits need the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

TOKEN = "hf_test"


@dataclass
class FakeRepo:
    """files: content by path, for each commit. branches: the newest commit of each."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)


@dataclass
class FakeHub:
    """url: its address. received: all bytes that were ever sent to it. requests: method and path of each."""

    url: str = ""
    repos: dict[str, FakeRepo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    received: list[bytes] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def commit(self, repo: str, branch: str, changed: dict[str, bytes], large: set[str]) -> str:
        known = self.repos[repo]
        before = known.commits.get(known.branches.get(branch, ""), {})
        files = {**before, **changed}
        text = branch + "".join(f"{name}{hashlib.sha1(body).hexdigest()}" for name, body in files.items())
        commit = hashlib.sha1(text.encode()).hexdigest()
        known.commits[commit] = files
        known.branches[branch] = commit
        known.large |= large
        return commit

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        known = self.repos[repo]
        return known.commits[known.branches.get(revision, revision)]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        return

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), Content_Type="application/json")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.received.append(body)
        return body

    @property
    def _knows_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refused(self) -> None:
        self._send(401, b'{"error":"Invalid credentials"}', X_Error_Message="Invalid credentials")

    # -- reading --------------------------------------------------------------------------------------

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)(?:\?.*)?", self.path)
        if match is not None:
            self._resolve(match[1], match[2].replace("%2F", "/"), match[3])
            return
        match = re.match(r"/api/models/([^/]+/[^/?]+)", self.path)
        if match is not None and match[1] in self.hub.repos:
            known = self.hub.repos[match[1]]
            head = known.branches.get("main", "")
            names = [{"rfilename": name} for name in known.commits.get(head, {})]
            self._json(
                {"id": match[1], "modelId": match[1], "sha": head, "siblings": names, "private": False}
            )
            return
        self._send(404, X_Error_Code="RepoNotFound")

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        known = self.hub.repos.get(repo)
        if known is None or (known.private and not self._knows_token):
            self._send(401 if known is None or known.private else 404, X_Error_Code="RepoNotFound")
            return
        commit = known.branches.get(revision, revision)
        if commit not in known.commits:
            self._send(404, X_Error_Code="RevisionNotFound")
            return
        body = known.commits[commit].get(name)
        if body is None:
            self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        if name in known.large:
            etag = hashlib.sha256(body).hexdigest()
        else:
            etag = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        self._send(200, body, ETag=f'"{etag}"', X_Repo_Commit=commit, Accept_Ranges="bytes")

    # -- writing --------------------------------------------------------------------------------------

    def do_PUT(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self._body()
        self.hub.objects[hashlib.sha256(body).hexdigest()] = body
        self._send(200)

    def do_POST(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self._body()
        if self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
            return
        if not self._knows_token:
            self._refused()
            return
        if self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in self.path:
            self._json({"files": [self._upload_mode(each) for each in json.loads(body)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._json(
                {"transfer": "basic", "objects": [self._ticket(each) for each in json.loads(body)["objects"]]}
            )
        elif "/commit/" in self.path:
            self._commit(body)
        else:
            self._send(404)

    def _create(self, asked: dict[str, object]) -> None:
        repo = f"{asked.get('organization', 'someone')}/{asked['name']}"
        status = 409 if repo in self.hub.repos else 200
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.hub.repos.setdefault(repo, FakeRepo(private))
        self._json({"url": f"{self.hub.url}/{repo}", "name": repo, "id": "1"}, status)

    def _upload_mode(self, file: dict[str, str]) -> dict[str, object]:
        large = file["path"].endswith((".safetensors", ".png"))
        return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _ticket(self, asked: dict[str, object]) -> dict[str, object]:
        upload = {"href": f"{self.hub.url}/upload/{asked['oid']}", "header": {}}
        return {"oid": asked["oid"], "size": asked["size"], "actions": {"upload": upload}}

    def _commit(self, body: bytes) -> None:
        match = re.match(r"/api/models/([^/]+/[^/]+)/commit/([^?]+)", self.path)
        assert match is not None
        changed, large = {}, set()
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                content = base64.b64decode(value["content"])
                changed[value["path"]] = content
                self.hub.received.append(content)
            elif entry["key"] == "lfsFile":
                changed[value["path"]] = self.hub.objects[value["oid"]]
                large.add(value["path"])
        commit = self.hub.commit(match[1], match[2].replace("%2F", "/"), changed, large)
        url = f"{self.hub.url}/{match[1]}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve on 127.0.0.1 until the end of the block."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def connect(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path, token: str | None = TOKEN) -> None:
    """Let the client of this process speak to a hub, as its environment variables would at its import."""
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
