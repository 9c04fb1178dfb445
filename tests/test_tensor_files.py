"""Tensor files: recognised by content, checked before they are read, refused in our own words."""

from __future__ import annotations

import argparse
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deflow_cli.errors import CheckpointError
from deflow_cli.tensor_files import read_content, read_safetensors, read_trunk, tensor_file_kind

TENSORS = {"a": torch.arange(600.0).reshape(20, 30), "b": torch.ones(4)}


WRITES = """
import sys
from pathlib import Path
import torch
from deflow_cli.checkpoints.format import write_tensors
kinds = (torch.float32, torch.float16)
tensors = {f"layer{i}.weight": torch.arange(i * 3.0).to(kinds[i % 2]) for i in range(9)}
write_tensors(Path(sys.argv[1]), tensors, {f"fact {i}": f"\u00e4 '{i}'" for i in range(12)})
"""


def refusal(path: Path) -> CheckpointError:
    """The error of reading a file, whose text is ours: no escape codes, and no advice to unpickle."""
    with pytest.raises(CheckpointError) as caught:
        read_content(path)
    message = f"{caught.value} {caught.value.next_step}"
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.next_step
    assert message.isprintable()
    assert not re.search("weights_only|safe_globals|trust|pytorch.org", message)
    return caught.value


def test_files_are_read_by_content_whatever_their_name(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.pth")
    torch.save(TENSORS, tmp_path / "b.safetensors")
    torch.save(TENSORS, tmp_path / "c.bin", _use_new_zipfile_serialization=False)
    for name in ("a.pth", "b.safetensors", "c.bin"):
        found = read_trunk(tmp_path / name)
        assert all(torch.equal(found[key], value) for key, value in TENSORS.items())
    with pytest.raises(CheckpointError, match=r"b\.safetensors: a file of PyTorch, not a safetensors file"):
        read_safetensors(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page, not weights"),
        (b"", "empty"),
        (b"hello", "neither a safetensors file nor one of PyTorch"),
        (b"PK\x03\x04 cut", "incomplete: a zip archive without its end"),
        (b"\x80\x02 no pickle", "damaged, or of another kind"),
    ],
    ids=["lfs", "page", "empty", "text", "zip", "pickle"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_file_of_weights_is_named(
    tmp_path: Path, content: bytes, message: str, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    assert message in str(refusal(path))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (argparse.Namespace(scale=4), "argparse.Namespace"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (os.getcwd, "posix.getcwd"),
    ],
    ids=["arguments", "module", "call"],
)
def test_other_objects_are_named_and_not_made(tmp_path: Path, thing: Any, name: str, zipped: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save({"params": TENSORS, "more": thing}, path, _use_new_zipfile_serialization=zipped)
    error = refusal(path)
    assert f"holds an object of {name}; " in str(error)
    assert "tensors alone" in error.next_step


def test_a_file_cut_short_anywhere_is_incomplete(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", {"k": "v"})
    torch.save(TENSORS, tmp_path / "b.pth")
    for name in ("a.safetensors", "b.pth"):
        whole = (tmp_path / name).read_bytes()
        for size in np.linspace(1, len(whole) - 1, 30).astype(int):
            (tmp_path / name).write_bytes(whole[:size])
            refusal(tmp_path / name)
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "b.pth").read_bytes())
    save_file(TENSORS, tmp_path / "a.safetensors")
    size = (tmp_path / "a.safetensors").stat().st_size
    os.truncate(tmp_path / "a.safetensors", size - 5)
    assert f"incomplete: {size - 5} of {size} bytes" in str(refusal(tmp_path / "a.safetensors"))


def header(content: Any, length: int | None = None) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header({}, 1 << 40), "its header states 1099511627776 bytes"),
        (header({"a": ENTRY}, 4096), "incomplete"),
        (header({"a": ENTRY | {"data_offsets": [0, 1 << 50]}}), "incomplete"),
        (header({"a": ENTRY | {"shape": [1 << 40]}}) + bytes(4), "its header is damaged"),
        (header({"a": ENTRY | {"data_offsets": [-8, 4]}}) + bytes(4), "its header is damaged"),
        (header({"a": 3}), "its header is damaged"),
        (header(b"{" + b'"a":{' * 100_000), "its header is damaged"),
        (header(b"{\xff}"), "its header is damaged"),
        (header({f"{i}": ENTRY for i in range(100_001)}) + bytes(4), "states 100001 tensors"),
    ],
    ids=["long", "short", "offset", "shape", "negative", "kind", "deep", "bytes", "many"],
)
def test_headers_are_checked_before_anything_is_allocated(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert message in str(refusal(path))


def test_archives_of_other_things_and_bombs(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    (tmp_path / "x.npz").rename(path)
    assert "torch.save did not write" in str(refusal(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"")
        archive.writestr("x/constants.pkl", b"")
    assert "a TorchScript program" in str(refusal(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("x/data/0", bytes(1 << 22))
    assert "refused" in str(refusal(path))


def test_a_header_of_any_length_is_told_from_a_pickle(tmp_path: Path) -> None:
    """Its length comes first, and a first byte of 0x80 is a pickle's too."""
    path, firsts = tmp_path / "model.safetensors", set()
    for padding in range(0, 256, 8):
        save_file({"w": torch.ones(1)}, path, metadata={"note": "x" * padding})
        firsts.add(path.read_bytes()[0])
        assert tensor_file_kind(path) == "safetensors"
    assert 0x80 in firsts


@pytest.mark.slow(seconds=18)
def test_every_process_writes_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / seed for seed in "012"]
    for path in paths:
        environment = {
            **os.environ,
            "PYTHONHASHSEED": path.name,
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        subprocess.run([sys.executable, "-c", WRITES, path], env=environment, check=True)
    first, *others = (path.read_bytes() for path in paths)
    assert all(other == first for other in others)
    (length,) = struct.unpack_from("<Q", first)
    assert length % 8 == 0
    assert first[8 : 8 + length].rstrip() == first[8 : 8 + length].strip()  # padded at the end alone
    with safe_open(paths[0], framework="pt") as file:
        assert file.metadata() == {"format": "pt"} | {f"fact {i}": f"ä '{i}'" for i in range(12)}
    found = load_file(paths[0])
    assert len(found) == 9
    for index in range(9):
        kind = torch.float16 if index % 2 else torch.float32
        value = found[f"layer{index}.weight"]
        assert value.dtype == kind
        assert torch.equal(value, torch.arange(index * 3.0).to(kind))
