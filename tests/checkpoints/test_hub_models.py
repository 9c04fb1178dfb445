"""Models on the Hub: found by name, verified, kept in the client's cache; what is said where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from deflow_cli.checkpoints.hub_models import parse_hub_model, pull_hub_model, push_folder
from deflow_cli.checkpoints.registry import local_copy
from deflow_cli.errors import CheckpointError, ConfigError
from tests.checkpoints.fake_hub import TOKEN, FakeHub, FakeRepo, connect, fake_hub
from tests.checkpoints.loopback import closed_port

NAME = Path("hf://ann/film")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as served:
        connect(monkeypatch, served.url, tmp_path / "cache")
        yield served


@pytest.fixture
def film(hub: FakeHub) -> FakeHub:
    """A repository with a model of two versions."""
    hub.repos["ann/film"] = FakeRepo(private=False)
    hub.commit("ann/film", "v1", {"model.safetensors": b"first"}, {"model.safetensors"})
    hub.commit("ann/film", "main", {"model.safetensors": b"second", "other.pth": b"x"}, {"model.safetensors"})
    return hub


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf://a/b", ("a/b", None, None)),
        ("hf://a/b@v1", ("a/b", None, "v1")),
        ("hf://a/b/deep/c.pth@refs/pr/1", ("a/b", "deep/c.pth", "refs/pr/1")),
    ],
)
def test_names(name: str, expected: tuple[str, str | None, str | None]) -> None:
    assert parse_hub_model(Path(name)) == expected
    assert parse_hub_model(Path(name)).name == name


@pytest.mark.parametrize("name", ["hf://a", "hf://a/b@", "hf://a/b@x@y", "hf:/"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match="not the name of a model on the Hub"):
        parse_hub_model(Path(name))


def test_revisions_and_files(film: FakeHub, tmp_path: Path) -> None:
    files = ("model.safetensors", "restorer.safetensors")
    path, told = pull_hub_model(NAME, files)
    assert path.read_bytes() == b"second"
    assert path.is_relative_to(tmp_path / "cache")
    assert told.startswith("from the Hub, revision ")
    assert pull_hub_model(Path("hf://ann/film@v1"), files)[0].read_bytes() == b"first"
    commit = film.repos["ann/film"].branches["v1"]
    assert pull_hub_model(Path(f"hf://ann/film@{commit}"), files)[0].read_bytes() == b"first"
    assert pull_hub_model(NAME / "other.pth", files)[0].read_bytes() == b"x"
    # the second of the names it may have
    assert pull_hub_model(NAME, ("restorer.safetensors", "model.safetensors"))[0].read_bytes() == b"second"


def test_a_copy_is_used_again_and_a_new_version_is_noticed(film: FakeHub) -> None:
    pull_hub_model(NAME, ("model.safetensors",))
    pull_hub_model(NAME, ("model.safetensors",))
    assert sum(request.startswith("GET") for request in film.requests) == 1
    film.commit("ann/film", "main", {"model.safetensors": b"third"}, {"model.safetensors"})
    assert pull_hub_model(NAME, ("model.safetensors",))[0].read_bytes() == b"third"
    commit = film.repos["ann/film"].branches["main"]
    before = len(film.requests)
    assert pull_hub_model(Path(f"hf://ann/film@{commit}"), ("model.safetensors",))[0].read_bytes() == b"third"
    assert len(film.requests) == before  # a commit never changes


def test_without_a_network(film: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, _ = pull_hub_model(NAME, ("model.safetensors",))
    connect(monkeypatch, f"http://127.0.0.1:{closed_port()}", tmp_path / "cache")
    found, told = pull_hub_model(NAME, ("model.safetensors",))
    assert found == path
    assert told.endswith("the Hub was not reached")
    with pytest.raises(CheckpointError, match="cannot be had") as caught:
        pull_hub_model(Path("hf://ann/other"), ("model.safetensors",))
    assert "network" in (caught.value.next_step or "")


def test_offline_mode(film: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    pull_hub_model(NAME, ("model.safetensors",))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(film.requests)
    assert pull_hub_model(NAME, ("model.safetensors",))[0].read_bytes() == b"second"
    with pytest.raises(CheckpointError, match="not in the Hub's cache, and HF_HUB_OFFLINE") as caught:
        pull_hub_model(Path("hf://ann/film@v1"), ("model.safetensors",))
    assert "HF_HUB_OFFLINE" in (caught.value.next_step or "")
    assert len(film.requests) == before


def test_what_is_not_there(film: FakeHub) -> None:
    with pytest.raises(CheckpointError, match=r"has no a\.bin and no b\.bin"):
        pull_hub_model(NAME, ("a.bin", "b.bin"))
    with pytest.raises(CheckpointError, match="Revision Not Found"):
        pull_hub_model(Path("hf://ann/film@v9"), ("model.safetensors",))
    with pytest.raises(CheckpointError) as caught:
        pull_hub_model(Path("hf://ann/none"), ("model.safetensors",))
    assert "hf auth login" in (caught.value.next_step or "")


def test_private_repositories_need_the_token(
    film: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    film.repos["ann/film"].private = True
    assert local_copy(NAME, "model.safetensors").path.read_bytes() == b"second"
    connect(monkeypatch, film.url, tmp_path / "empty", token=None)
    with pytest.raises(CheckpointError) as caught:
        local_copy(NAME, "model.safetensors")
    assert "HF_TOKEN" in (caught.value.next_step or "")


def test_damage_on_the_way_is_found(film: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Hub states the checksum of other bytes than it sends."""
    import tests.checkpoints.fake_hub as module

    class Wrong:
        def __getattr__(self, name: str) -> object:
            return getattr(hashlib_before, name)

        def sha256(self, content: bytes) -> object:
            return hashlib_before.sha256(content + b"!")

    hashlib_before = module.hashlib
    monkeypatch.setattr(module, "hashlib", Wrong())
    with pytest.raises(CheckpointError, match="but the hub tells"):
        pull_hub_model(NAME, ("model.safetensors",))
    left = [
        path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.read_bytes() == b"second"
    ]
    assert left == []


def test_push_needs_a_token_and_a_name(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/model.safetensors").write_bytes(b"weights")
    with pytest.raises(ConfigError, match="no repository's name"):
        push_folder(tmp_path / "folder", "film", private=False, message="m")
    commit = push_folder(tmp_path / "folder", "ann/film", private=True, message="m")
    assert hub.repos["ann/film"].private
    assert hub.files("ann/film", commit) == {"model.safetensors": b"weights"}
    connect(monkeypatch, hub.url, tmp_path / "cache", token="wrong")
    with pytest.raises(CheckpointError, match="cannot be pushed") as caught:
        push_folder(tmp_path / "folder", "ann/film", private=True, message="m")
    assert "hf auth login" in (caught.value.next_step or "")
    connect(monkeypatch, f"http://127.0.0.1:{closed_port()}", tmp_path / "cache")
    with pytest.raises(CheckpointError, match="cannot be pushed"):
        push_folder(tmp_path / "folder", "ann/film", private=True, message="m")


def test_environment_variables_of_the_client(film: FakeHub, tmp_path: Path) -> None:
    """The client reads them when it is imported, so this is a process of its own."""
    program = (
        "from pathlib import Path; from deflow_cli.checkpoints.hub_models import pull_hub_model;"
        "print(pull_hub_model(Path('hf://ann/film'), ['model.safetensors'])[0].read_text())"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    kept |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "no_proxy": "127.0.0.1"}

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=kept | variables, capture_output=True, text=True, timeout=60)

    assert run(HF_ENDPOINT=film.url, HF_HUB_DISABLE_XET="1").stdout == "second\n"
    assert list((tmp_path / "home/hub").glob("models--ann--film/snapshots/*/model.safetensors"))
    assert run(HF_HUB_OFFLINE="1").stdout == "second\n"
