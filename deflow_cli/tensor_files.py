"""Tensor files: what a file of weights holds, read without running code in it and within fixed limits.

A file is recognised by its content, whatever its name ends with. Sizes that a file states are compared with
the file's own before anything is allocated for them, and what torch or safetensors say about a broken file is
replaced by our own words: torch's advice is to load the file with the protection off.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from deflow_cli.errors import CheckpointError

MOST_HEADER_BYTES = 16 << 20  # of a safetensors file's header: names, shapes, offsets and metadata
MOST_TENSORS = 100_000
MOST_INFLATION = 4  # unpacked size of a zip archive / size of the file; torch does not compress at all

_AS_TENSORS = "give a .safetensors file or a .pth file that holds tensors alone"
_COPY_AGAIN = "copy or download it again"
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def tensor_file_kind(path: Path) -> Literal["safetensors", "torch"]:
    """The format of a file of weights, by its first bytes.

    Raises CheckpointError where it is missing, a Git LFS pointer, a web page, or of neither format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", next_step="check the path")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error})", next_step="check the file"
        ) from error
    # In this order: a safetensors file begins with the length of its header, whose first byte may be any.
    if head[8:9] == b"{" and not head.startswith(b"PK\x03\x04"):
        return "safetensors"
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return "torch"
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: a Git LFS pointer, not the weights themselves",
            next_step="run `git lfs pull` in its repository, or download the file itself",
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path}: a web page, not weights", next_step="download the file itself, by its own link"
        )
    what = "empty" if not head else "neither a safetensors file nor one of PyTorch"
    raise CheckpointError(f"{path}: cannot be read as weights ({what})", next_step=_AS_TENSORS)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (on the CPU) and metadata of a safetensors file.

    Raises CheckpointError naming the file where it is another kind of file, or damaged.
    """
    metadata = read_safetensors_metadata(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file (its header is damaged)", next_step=_COPY_AGAIN
        ) from error


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, empty without any.

    The header (8 bytes of length, then JSON; https://github.com/huggingface/safetensors) is checked: its
    length, the number of tensors, and that the file is as long as their offsets say. Raises CheckpointError.
    """
    if tensor_file_kind(path) != "safetensors":
        raise CheckpointError(
            f"{path}: a file of PyTorch, not a safetensors file",
            next_step="if it holds a published model: deflow import-weights FILE OUT.safetensors",
        )
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MOST_HEADER_BYTES:
            raise CheckpointError(
                f"{path}: its header states {length} bytes; at most {MOST_HEADER_BYTES} are read",
                next_step=_COPY_AGAIN,
            )
        if length > size - 8:
            raise _incomplete(path, size, length + 8)
        text = file.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
        facts = {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file (its header is damaged)", next_step=_COPY_AGAIN
        ) from error
    if len(ends) > MOST_TENSORS:
        raise CheckpointError(
            f"{path}: states {len(ends)} tensors; at most {MOST_TENSORS} are read", next_step=_COPY_AGAIN
        )
    expected = 8 + length + max(ends, default=0)
    if size < expected:
        raise _incomplete(path, size, expected)
    return facts


def safetensors_parts(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[bytes, memoryview]:
    """A safetensors file's bytes: its length and header, and the data of the tensors (contiguous, CPU).

    They depend on what is written alone: metadata are sorted by name, and tensors stand in the order of their
    data, whereas safetensors itself puts metadata in an order that changes from process to process.
    """
    content = save(dict(tensors), dict(metadata))
    (length,) = struct.unpack_from("<Q", content)
    start = 8 + length
    entries = json.loads(content[8:start])
    header = {"__metadata__": dict(sorted(entries.pop("__metadata__").items()))}
    header |= sorted(entries.items(), key=lambda entry: (entry[1]["data_offsets"], entry[0]))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, memoryview(content)[start:]


def _incomplete(path: Path, size: int, expected: int) -> CheckpointError:
    return CheckpointError(f"{path}: incomplete: {size} of {expected} bytes are there", next_step=_COPY_AGAIN)


def read_content(path: Path) -> Any:
    """What a file of weights holds, on the CPU: tensors by name, or what PyTorch saved around them.

    Pickled objects are never made (``weights_only``). Raises CheckpointError naming the file where it is
    missing, broken, or holds other objects than tensors and plain values.
    """
    if tensor_file_kind(path) == "safetensors":
        return read_safetensors(path)[0]
    if zipfile.is_zipfile(path):
        _check_archive(path)
    elif _starts_as_archive(path):
        raise CheckpointError(
            f"{path}: cannot be read as weights (incomplete: a zip archive without its end)",
            next_step=_COPY_AGAIN,
        )
    try:
        with path.open("rb") as file:  # torch goes by the name's ending where it is given a path
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise _refusal(path, error) from error


def _starts_as_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _check_archive(path: Path) -> None:
    """Refuse a zip archive that is no file of ``torch.save``, or one that grows when it is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path}: cannot be read as weights (a damaged zip archive)", next_step=_COPY_AGAIN
        ) from error
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise CheckpointError(
            f"{path}: a TorchScript program, not weights", next_step=f"export its state_dict; {_AS_TENSORS}"
        )
    if "data.pkl" not in names:
        raise CheckpointError(
            f"{path}: cannot be read as weights (a zip archive that torch.save did not write)",
            next_step=_AS_TENSORS,
        )
    unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if len(entries) > MOST_TENSORS or unpacked > MOST_INFLATION * size:
        raise CheckpointError(
            f"{path}: states {len(entries)} entries of {unpacked} bytes in a file of {size}; refused",
            next_step=_AS_TENSORS,
        )


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """What torch could not load, in our words."""
    named = _GLOBAL.search(str(error))
    if named is not None:
        return CheckpointError(
            f"{path}: holds an object of {named[1]}; loading it would run code, so only tensors are read",
            next_step=f"where it was made, save the state_dict alone; {_AS_TENSORS}",
        )
    if "allocate" in str(error):
        return CheckpointError(
            f"{path}: its tensors do not fit into this machine's memory", next_step="check the file"
        )
    return CheckpointError(
        f"{path}: cannot be read as weights (damaged, or of another kind)",
        next_step=f"{_COPY_AGAIN}, or {_AS_TENSORS}",
    )


def read_trunk(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file, on the CPU.

    Raises CheckpointError naming the file where it is missing, broken or no state dict.
    """
    content = read_content(path)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: holds no state dict", next_step="export the weights alone")
    return {str(key): value for key, value in content.items()}
