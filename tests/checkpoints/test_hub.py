"""Foreign weights: found, downloaded from a server on this machine, verified, or refused without a trace."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deflow_cli.checkpoints import hub, hub_hf
from deflow_cli.errors import CheckpointError, ConfigError
from tests.checkpoints.loopback import Loopback, closed_port, serving

BODY = bytes(range(256)) * 12_000  # three megabytes: several pieces
DIGEST = hashlib.sha256(BODY).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def server() -> Iterator[Loopback]:
    with serving() as state:
        state.files["/allmodel"] = BODY
        yield state


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of ours and of torch's, and no proxy on the way to this machine."""
    monkeypatch.setenv("DEFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Write a manifest with one entry: ``manifest(url, sha256)``."""

    def write(url: str, sha256: str = DIGEST) -> None:
        path = tmp_path / "manifest.toml"
        path.write_text(
            f'[[remote]]\nname = "brisque"\nfile = "allmodel"\nurl = "{url}"\nsha256 = "{sha256}"\n'
            f"bytes = {len(BODY)}\n"
            'licence = "a notice"\nnote = "LIVE\'s support vectors"\npurpose = "BRISQUE"\n'
        )
        monkeypatch.setattr(hub, "manifest_path", lambda: path)

    return write


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def test_pull_downloads_once_and_locate_finds(cache, server, manifest):
    manifest(f"{server.url}/allmodel")
    seen: list[tuple[int, int | None]] = []
    pulled = hub.pull("brisque", progress=lambda done, total: seen.append((done, total)))
    assert pulled.path.read_bytes() == BODY
    assert (pulled.already_here, pulled.verified) == (False, "verified by its sha256")
    assert seen[-1] == (len(BODY), len(BODY))
    assert len(seen) > 1
    assert _files(cache) == [pulled.path] == [hub.locate("brisque", None, "--brisque-model")]

    again = hub.pull("brisque")
    assert again.already_here
    assert server.requests == ["GET /allmodel"]


def test_a_damaged_copy_is_pulled_anew(cache, server, manifest):
    manifest(f"{server.url}/allmodel")
    path = hub.pull("brisque").path
    path.write_bytes(b"damaged")
    assert not hub.pull("brisque").already_here
    assert path.read_bytes() == BODY


def test_first_digits_of_a_checksum(cache, server, manifest):
    manifest(f"{server.url}/allmodel", DIGEST[:8])
    assert hub.pull("brisque").verified == "verified by 8 digits of its sha256"
    manifest(f"{server.url}/allmodel", "00000000")
    with pytest.raises(CheckpointError, match=r"have 00000000\.\.\."):
        hub.pull("brisque")
    manifest(f"{server.url}/allmodel", DIGEST[:7])
    with pytest.raises(CheckpointError, match="not 8 to 64 hexadecimal digits"):
        hub.pull("brisque")


def test_wrong_checksum_leaves_nothing(cache, server, manifest):
    server.files["/allmodel"] = b"a page that asks to log in"
    manifest(f"{server.url}/allmodel")
    with pytest.raises(CheckpointError) as raised:
        hub.pull("brisque")
    assert hashlib.sha256(server.files["/allmodel"]).hexdigest() in str(raised.value)
    assert DIGEST in str(raised.value)
    assert server.url in str(raised.value)
    assert _files(cache) == []


def test_truncated_body_leaves_nothing(cache, server, manifest):
    server.files["/allmodel"] = BODY[:2_000_000]
    server.told["/allmodel"] = {"Content-Length": str(len(BODY))}
    manifest(f"{server.url}/allmodel")
    with pytest.raises(CheckpointError, match=f"ended after 2000000 of {len(BODY)} bytes") as raised:
        hub.pull("brisque")
    assert "deflow weights pull brisque --file FILE" in raised.value.next_step
    assert _files(cache) == []


def test_a_failed_pull_keeps_the_valid_copy(cache, server, manifest, tmp_path):
    manifest(f"{server.url}/allmodel")
    path = hub.pull("brisque").path
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(CheckpointError):
        hub.pull("brisque", file=tmp_path / "other")
    assert path.read_bytes() == BODY


def test_interrupted_half_way_leaves_nothing(cache, server, manifest):
    manifest(f"{server.url}/allmodel")

    def interrupt(done: int, total: int | None) -> None:
        assert [path.suffix for path in _files(cache)] == [".part"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.pull("brisque", progress=interrupt)
    assert _files(cache) == []


def test_http_error_is_told(cache, server, manifest):
    manifest(f"{server.url}/gone")
    with pytest.raises(CheckpointError, match=r"/gone: cannot be downloaded \(HTTP 404 Not Found\)"):
        hub.pull("brisque")
    assert _files(cache) == []


def test_refused_connection_is_told(cache, manifest):
    manifest(f"http://127.0.0.1:{closed_port()}/allmodel")
    with pytest.raises(CheckpointError, match="onnection refused") as raised:
        hub.pull("brisque")
    assert "another machine" in raised.value.next_step
    assert _files(cache) == []


def test_a_silent_server_is_given_up(cache, server, manifest, monkeypatch):
    import socket

    monkeypatch.setattr(hub, "TIMEOUT", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        manifest(f"http://127.0.0.1:{deaf.getsockname()[1]}/allmodel")
        with pytest.raises(CheckpointError, match="timed out"):
            hub.pull("brisque")


def test_a_file_brought_by_hand(cache, manifest, tmp_path):
    manifest("http://127.0.0.1:9/allmodel")
    copy = tmp_path / "download"
    copy.write_bytes(BODY)
    pulled = hub.pull("brisque", file=copy)
    assert pulled.path.read_bytes() == BODY
    assert pulled.path.is_relative_to(cache)
    assert copy.exists()
    copy.write_bytes(BODY[1:])
    with pytest.raises(CheckpointError) as raised:
        hub.pull("brisque", file=copy)
    assert str(copy) in str(raised.value)
    assert DIGEST in str(raised.value)
    assert hashlib.sha256(BODY[1:]).hexdigest() in str(raised.value)
    with pytest.raises(CheckpointError, match="no such file"):
        hub.pull("brisque", file=tmp_path / "absent")


def test_a_cache_that_cannot_be_written(tmp_path, server, manifest, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEFLOW_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    manifest(f"{server.url}/allmodel")
    with pytest.raises(CheckpointError, match="cannot be written") as raised:
        hub.pull("brisque")
    assert "DEFLOW_CACHE" in raised.value.next_step


def test_locate_never_downloads(cache, server, manifest, tmp_path):
    manifest(f"{server.url}/allmodel")
    with pytest.raises(CheckpointError) as raised:
        hub.locate("brisque", None, "--brisque-model")
    assert str(raised.value) == "brisque: LIVE's support vectors (allmodel) are not on this machine"
    assert raised.value.next_step == "deflow weights pull brisque, or pass the file as --brisque-model FILE"
    assert server.requests == []
    given = tmp_path / "mine"
    with pytest.raises(CheckpointError, match="mine: no such file"):
        hub.locate("brisque", given, "--brisque-model")
    given.write_bytes(b"anything")
    assert hub.locate("brisque", given, "--brisque-model") == given


def test_unknown_name(cache):
    with pytest.raises(ConfigError, match="bresque") as raised:
        hub.locate("bresque")
    assert "brisque" in raised.value.next_step


def test_torchs_own_cache_is_looked_into(cache, tmp_path):
    alexnet, brisque = hub.remote_file("alexnet"), hub.remote_file("brisque")
    assert hub.find(alexnet) is None
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for remote in (alexnet, brisque):
        (folder / remote.file).write_bytes(b"here")
    assert hub.find(alexnet) == folder / "alexnet-owt-7be5be79.pth"
    assert hub.find(brisque) is None


def test_where_the_cache_is(monkeypatch, tmp_path):
    for name in ("DEFLOW_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert hub.cache_folder() == tmp_path / ".cache" / "deflow"
    assert hub.torch_folder() == tmp_path / ".cache" / "torch" / "hub" / "checkpoints"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert hub.cache_folder() == tmp_path / "xdg" / "deflow"
    assert hub.torch_folder() == tmp_path / "xdg" / "torch" / "hub" / "checkpoints"


def test_the_packaged_list():
    remotes = hub.remote_files()
    assert set(remotes) == {"brisque", "alexnet", "vgg16", "vgg19", "inception"}
    for remote in remotes.values():
        assert remote.url.startswith("https://")
        assert remote.url.endswith(f"/{remote.file}")
        if remote.url.startswith(hub.TORCH_SOURCE):  # torch.hub names its files by the first eight digits
            assert remote.file.removesuffix(".pth").endswith(f"-{remote.sha256[:8]}")


def test_lives_file_has_the_listed_checksum(cache):
    data = os.environ.get("DEFLOW_DATA")
    if data is None:
        pytest.skip("DEFLOW_DATA names no folder of research data")
    pulled = hub.pull("brisque", file=Path(data) / "iqa" / "params" / "brisque_allmodel")
    assert pulled.path.stat().st_size == hub.remote_file("brisque").bytes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf://a/b/c.pth", ("a/b", "c.pth", None)),
        ("hf://a/b/deep/c.pth@refs/pr/1", ("a/b", "deep/c.pth", "refs/pr/1")),
    ],
)
def test_names_of_the_hub(name, expected):
    assert hub_hf.parse(name) == expected


@pytest.mark.parametrize("name", ["hf://a/b", "hf://a", "hf://a/b/", "hf://a/b/c@", "hf://a/b/c@x@y"])
def test_names_that_are_none(name):
    with pytest.raises(ConfigError, match="not the name of a file on the hub"):
        hub_hf.parse(name)


@pytest.fixture
def hf(tmp_path):
    """The program in a process of its own, whose hub is the server: ``hf(url, "pull", name)``."""

    def run(endpoint: str, *args: str) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
        } | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "hf-home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DEFLOW_CACHE": str(tmp_path / "cache"),
            "no_proxy": "127.0.0.1",
        }
        command = [sys.executable, "-m", "deflow_cli", "weights", *args]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    return run


def _offer(server: Loopback, revision: str, body: bytes, etag: str) -> None:
    path = f"/owner/repo/resolve/{revision}/deep/model.bin"
    server.files[path] = body
    server.told[path] = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}


@pytest.mark.slow(seconds=9)
def test_hub_file_is_pulled_found_and_not_pulled_again(hf, server, tmp_path):
    _offer(server, "main", BODY, DIGEST)
    name = "hf://owner/repo/deep/model.bin"
    missing = hf(server.url, "path", name)
    assert missing.returncode == 1
    assert f"deflow weights pull {name}" in missing.stderr

    done = hf(server.url, "pull", name)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.read_bytes() == BODY
    assert path.is_relative_to(tmp_path / "cache")
    assert "verified by its sha256" in done.stderr

    again = hf(server.url, "pull", name)
    assert "already here" in again.stderr
    assert sum(request.startswith("GET") for request in server.requests) == 1
    offline = f"http://127.0.0.1:{closed_port()}"
    assert hf(offline, "path", name).stdout.strip() == str(path)
    refused = hf(offline, "pull", name)
    assert refused.returncode == 1
    assert f"the copy pulled earlier is still there: {path}" in refused.stderr


def test_hub_file_of_a_revision_and_small_files(hf, server):
    _offer(server, "v1", b"small", hashlib.sha1(b"blob 5\0small").hexdigest())
    done = hf(server.url, "pull", "hf://owner/repo/deep/model.bin@v1")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == b"small"
    assert "verified by its Git hash" in done.stderr


def test_hub_file_with_a_wrong_checksum_is_removed(hf, server, tmp_path):
    _offer(server, "main", b"not what was told", DIGEST)
    done = hf(server.url, "pull", "hf://owner/repo/deep/model.bin")
    assert done.returncode == 1
    assert DIGEST in done.stderr
    assert hashlib.sha256(b"not what was told").hexdigest() in done.stderr
    assert not [path for path in _files(tmp_path / "cache") if path.name in ("model.bin", DIGEST)]


def test_hub_without_the_file_or_out_of_reach(hf, server):
    name = "hf://owner/repo/absent.bin"
    for endpoint, cause in ((server.url, "404"), (f"http://127.0.0.1:{closed_port()}", "refused")):
        done = hf(endpoint, "pull", name)
        assert done.returncode == 1
        assert f"error: {name}: cannot be downloaded" in done.stderr
        assert cause in done.stderr
        assert "next: check the name and the network" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("etag", "word"),
    [("0" * 40, "Git hash"), ("weak", "states no checksum"), ("0" * 32, "states no checksum")],
)
def test_small_files_of_the_hub_are_verified_too(hf, server, tmp_path, etag, word):
    _offer(server, "main", b"small", etag)
    done = hf(server.url, "pull", "hf://owner/repo/deep/model.bin")
    assert done.returncode == 1
    assert word in done.stderr
    assert [path for path in (tmp_path / "cache").rglob("*.bin") if path.exists()] == []
