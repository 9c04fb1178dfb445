"""`deflow weights`: what it prints where, and how it fails."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deflow_cli.checkpoints import hub
from tests.checkpoints.loopback import Loopback, serving

BODY = b"svm_type epsilon_svr\n" * 1000


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Loopback]:
    """A source on this machine, and a manifest that names two files of it; the cache is empty."""
    monkeypatch.setenv("DEFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as state:
        state.files["/brisque"] = BODY
        entries = [
            f'[[remote]]\nname = "{name}"\nfile = "{name}"\nurl = "{state.url}/{name}"\n'
            f'sha256 = "{hashlib.sha256(BODY).hexdigest()}"\nbytes = {size}\n'
            f'licence = "free [for all]"\nnote = "some weights"\npurpose = "the {name} score"\n'
            for name, size in (("brisque", len(BODY)), ("alexnet", 244_408_911))
        ]
        (tmp_path / "manifest.toml").write_text("".join(entries))
        monkeypatch.setattr(hub, "manifest_path", lambda: tmp_path / "manifest.toml")
        yield state


def test_pull_prints_the_path_alone(deflow, server, tmp_path):
    done = deflow("weights", "pull", "brisque")
    assert done.exit_code == 0, done.output
    path = Path(done.stdout.strip())
    assert path.read_bytes() == BODY
    assert "verified by its sha256; licence: free [for all]" in done.stderr
    assert "brisque, kB: 21/21" in done.stderr
    again = deflow("weights", "pull", "brisque")
    assert (again.exit_code, again.stdout) == (0, done.stdout)
    assert "already here, verified by its sha256; nothing was downloaded" in again.stderr
    assert deflow("weights", "path", "brisque").stdout == done.stdout


def test_pull_of_a_file_brought_by_hand(deflow, server, tmp_path):
    (tmp_path / "copy").write_bytes(BODY)
    done = deflow("weights", "pull", "alexnet", "--file", "copy")
    assert done.exit_code == 0, done.output
    assert Path(done.stdout.strip()).read_bytes() == BODY
    assert server.requests == []
    (tmp_path / "copy").write_bytes(b"other")
    refused = deflow("weights", "pull", "brisque", "--file", "copy")
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert hashlib.sha256(b"other").hexdigest() in refused.stderr
    assert hashlib.sha256(BODY).hexdigest() in refused.stderr


def test_list_tells_what_is_here(deflow, server):
    deflow("weights", "pull", "brisque")
    listed = deflow("weights", "list").stdout
    for word in ("brisque", "the brisque score", "21 kB", "alexnet", "244 MB", "no", "free [for all]"):
        assert word in listed
    states = json.loads(deflow("weights", "list", "--json").stdout)
    assert [(state["name"], state["here"]) for state in states] == [("brisque", True), ("alexnet", False)]
    assert Path(states[0]["path"]).read_bytes() == BODY
    assert states[1]["path"] is None


def test_failures_say_what_to_do(deflow, server):
    missing = deflow("weights", "path", "alexnet")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "alexnet: some weights (alexnet) are not on this machine" in missing.stderr
    assert "next: deflow weights pull alexnet" in missing.stderr
    gone = deflow("weights", "pull", "alexnet")
    assert gone.exit_code == 1
    assert f"{server.url}/alexnet: cannot be downloaded (HTTP 404 Not Found)" in gone.stderr
    assert "deflow weights pull alexnet --file FILE" in gone.stderr
    unknown = deflow("weights", "pull", "alexnot")
    assert unknown.exit_code == 2
    assert "brisque, alexnet, or hf://" in unknown.stderr
    by_hand = deflow("weights", "pull", "hf://a/b/c", "--file", "x")
    assert by_hand.exit_code == 2
    assert "--file" in by_hand.stderr


def test_list_needs_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from deflow_cli.cli.main import app\n"
        "done = CliRunner().invoke(app, ['weights', 'list'])\n"
        "print(done.exit_code, {'torch', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 set()"
