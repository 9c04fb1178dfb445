"""Registry: which model is used when none is named, and where it comes from."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deflow_cli.checkpoints.format import TRANSLATOR_KIND
from deflow_cli.checkpoints.hub_models import pull_hub_model
from deflow_cli.errors import CheckpointError, DataError
from deflow_cli.paths import MODEL_FILE, RESTORER_FILE, RUNS_FOLDER, is_hub_name, weights_folder
from deflow_cli.tensor_files import read_safetensors_metadata, tensor_file_kind

WEIGHTS_MANIFEST = "manifest.toml"
DEGRADATION_ARCHITECTURE = "deflow"  # in the metadata of a degradation model's file


ModelKind = Literal["degradation", "translator", "restorer"]
"""A DeFlow, a network of a method of `deflow fit --method`, or what restores."""


@dataclass(frozen=True)
class FoundModel:
    """A model file. origin: how it was found, in words for the user."""

    path: Path
    origin: str


def default_model(given: Path | None) -> FoundModel:
    """The given model, else the newest DeFlow below the working directory, else the embedded model.

    Raises CheckpointError if there is none.
    """
    return find_model(given, Path.cwd(), packaged_folder())


def packaged_folder() -> Path | None:
    """The folder of the packaged files; None where there is none."""
    try:
        return weights_folder()
    except DataError:
        return None


def local_copy(given: Path, *files: str) -> FoundModel:
    """A model on this machine: the file or folder given, or of a name on the Hub its file in the cache.

    Everything that takes a model goes through here. files: the names that the file may have on the Hub, the
    likeliest first. Raises CheckpointError where the Hub's file cannot be had.
    """
    if not is_hub_name(given):
        return FoundModel(given, "given")
    path, revision = pull_hub_model(given, files)
    return FoundModel(path, revision)


def find_model(given: Path | None, working: Path, embedded: Path | None) -> FoundModel:
    """The model given, else the newest fit below ``working``/runs, else the embedded one.

    given: a file, a run folder, or a name on the Hub. embedded: the folder of packaged files, None where
    there is none. Raises CheckpointError when there is no such file, or none of the three.
    """
    if given is not None:
        found = local_copy(given, MODEL_FILE)
        path = found.path / MODEL_FILE if found.path.is_dir() else found.path
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such model", next_step=f"pass a {MODEL_FILE} or a run folder that holds one"
            )
        return FoundModel(path, found.origin)
    newest = newest_fit(working)
    if newest is not None:
        return FoundModel(newest, "newest fit here")
    return FoundModel(embedded_model(embedded), "embedded")


def model_of_any_kind(given: Path) -> tuple[FoundModel, ModelKind]:
    """A degradation model or a restorer that is given, a file or a folder that holds one, and which it is.

    Raises CheckpointError where there is none, and where a folder holds both.
    """
    found = local_copy(given, MODEL_FILE, RESTORER_FILE)
    if found.path.is_dir():
        found = _only_model(found.path)
    path = found.path
    if not path.is_file():
        raise CheckpointError(f"{path}: no such model", next_step="pass a model file or its folder")
    if tensor_file_kind(path) != "safetensors":
        return found, "restorer"
    if method_of_model(path) is not None:
        return found, "translator"
    architecture = read_safetensors_metadata(path).get("modelspec.architecture")
    return found, "degradation" if architecture == DEGRADATION_ARCHITECTURE else "restorer"


def _only_model(folder: Path) -> FoundModel:
    held = [folder / name for name in (MODEL_FILE, RESTORER_FILE) if (folder / name).is_file()]
    if len(held) != 1:
        both = f"both {MODEL_FILE} and {RESTORER_FILE}"
        raise CheckpointError(
            f"{folder}: holds {both if held else f'no {MODEL_FILE} and no {RESTORER_FILE}'}",
            next_step="name the file itself" if held else "pass a model file or its folder",
        )
    return FoundModel(held[0], "given")


def find_translator(given: Path | None, working: Path, method: str) -> FoundModel:
    """The model given, else the newest fit of a method below ``working``/runs.

    Raises CheckpointError where there is none.
    """
    if given is not None:
        return find_model(given, working, None)
    newest = newest_fit(working, method)
    if newest is None:
        raise CheckpointError(
            f"there is no model of {method} here",
            next_step=f"fit one: deflow fit --method {method} CLEAN NOISY, or name one with --model",
        )
    return FoundModel(newest, "newest fit here")


def method_of_model(path: Path) -> str | None:
    """The method that a model file says it is of, such as ``dsgan``; None for a DeFlow, or any other file."""
    try:
        metadata = read_safetensors_metadata(path)
    except CheckpointError:
        return None
    return metadata.get("modelspec.architecture") if metadata.get("deflow.kind") == TRANSLATOR_KIND else None


def newest_fit(working: Path, method: str | None = None) -> Path | None:
    """The ``runs/*/model.safetensors`` written last, of a method, or None. method: None: a DeFlow."""
    found = [
        path
        for path in (working / RUNS_FOLDER).glob(f"*/{MODEL_FILE}")
        if path.is_file() and method_of_model(path) == method
    ]
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.as_posix()), default=None)


def embedded_model(folder: Path | None) -> Path:
    """The packaged model that the manifest names as ``default_model``; its checksum is verified.

    Raises CheckpointError where the package carries none, or a damaged one.
    """
    next_step = "fit one: deflow fit CLEAN NOISY, or name one with --model"
    if folder is None or not (folder / WEIGHTS_MANIFEST).is_file():
        raise CheckpointError("there is no fit here, and no embedded model is installed", next_step=next_step)
    path = _packaged(folder, "default_model")
    if path is None:
        raise CheckpointError("there is no fit here, and this package embeds no model", next_step=next_step)
    return path


def embedded_restorer(folder: Path | None, *, enlarges: bool = False) -> Path | None:
    """The packaged denoiser, or the one that also enlarges; None where there is none.

    The manifest names them as ``default_denoiser`` and ``default_enlarger``; without the second the first is
    taken. Their checksums are verified. Raises CheckpointError where one is damaged.
    """
    if folder is None or not (folder / WEIGHTS_MANIFEST).is_file():
        return None
    enlarger = _packaged(folder, "default_enlarger") if enlarges else None
    return enlarger or _packaged(folder, "default_denoiser")


def _packaged(folder: Path, key: str) -> Path | None:
    """The packaged file that a key of the manifest names; None where there is no such key."""
    manifest = _read_manifest(folder / WEIGHTS_MANIFEST)
    name = manifest.get(key)
    if not isinstance(name, str):
        return None
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"{path}: the embedded model is missing", next_step="install deflow-cli again")
    entries = [entry for entry in manifest.get("file", []) if entry.get("path") == name]
    expected = entries[0].get("sha256") if entries else None
    if expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise CheckpointError(
            f"{path}: its checksum differs from the one in {WEIGHTS_MANIFEST}",
            next_step="install deflow-cli again",
        )
    return path


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error})", next_step="install deflow-cli again"
        ) from error
