"""Paths: the names of the files that a run writes, and the folder of the files that come with the package."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import platform
import zlib
from pathlib import Path

from deflow_cli.errors import DataError, unwritable

MODEL_FILE = "model.safetensors"  # the degradation model that `deflow fit` writes
RESTORER_FILE = "restorer.safetensors"  # the best restorer of `deflow sr-train`
LAST_RESTORER_FILE = "restorer-last.safetensors"  # its last weights, whether they are the best or not
STATE_FILE = "state.safetensors"  # what a run resumes from
CONFIG_FILE = "config.toml"
DATA_FILE = "data.json"  # what a run is trained on, file by file, to compare with when it goes on
RUN_FILE = "run.json"  # the folders that a run was given
RUN_LOCK = ".lock"  # held by the process that trains in the folder
LOG_FILE = "log.jsonl"
REPORT_FILE = "report.html"
POOL_FILE = "kernels.json"  # what the kernels of a folder are, beside them
RUNS_FOLDER = "runs"  # below the working folder: where runs are written and looked for

HUB_SCHEME = "hf://"  # of names on the Hugging Face Hub

_numbers = itertools.count()
_PACKAGE = Path(__file__).resolve().parent


def is_below(name: str) -> bool:
    """Whether a relative name that a file states stays below the folder that it is relative to.

    >>> [is_below(name) for name in ("a/b.png", "../b.png", "a/../../b.png", "/etc/passwd", "")]
    [True, False, False, False, False]
    """
    path = Path(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts


def is_hub_name(path: Path) -> bool:
    """Whether a path is a name on the Hugging Face Hub, whose two slashes become one in a path.

    >>> is_hub_name(Path("hf://someone/film-noise")), is_hub_name(Path("hf/someone"))
    (True, False)
    """
    return path.as_posix().startswith("hf:/")


def weights_folders() -> tuple[Path, Path]:
    """Where the embedded files can lie: ``deflow_cli/_weights`` of a wheel, ``weights/`` of a checkout."""
    return _PACKAGE / "_weights", _PACKAGE.parent / "weights"


def manifest_path() -> Path:
    """The list of the embedded and the remote files; of a checkout where the package holds none."""
    installed, checkout = (folder / "manifest.toml" for folder in weights_folders())
    return installed if installed.is_file() else checkout


def weights_folder() -> Path:
    """The folder of the embedded files. Raises DataError if it is missing."""
    manifest = manifest_path()
    if not manifest.is_file():
        raise DataError(
            f"{weights_folders()[0]}: the embedded files are missing (manifest.toml not found)",
            next_step="install deflow-cli again",
        )
    return manifest.parent


def check_writable(path: Path) -> None:
    """Check, before the work, that a file can be written at ``path``, as far as permissions tell.

    Raises DataError naming the path and the folder that does not allow it.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        reason = f"{os.strerror(errno.EACCES)}: {folder}"
        raise unwritable(path, PermissionError(errno.EACCES, reason))


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder, of this process alone, to write to before renaming to ``path``.

    It is short whatever the length of the name, which may be as long as file systems allow.
    """
    return path.with_name(f".deflow-{_host()}-{os.getpid()}-{next(_numbers)}.tmp")


def clear_temporaries(folder: Path) -> None:
    """Remove what killed processes of this machine left of ``temporary_beside`` in a folder."""
    for path in folder.glob(f".deflow-{_host()}-*-*.tmp"):
        process = path.name.split("-")[2]
        if process.isdecimal() and not _is_alive(int(process)):
            with contextlib.suppress(OSError):
                path.unlink()


def _host() -> str:
    """Eight hexadecimal digits for this machine: others may write to the same folder."""
    return f"{zlib.crc32(platform.node().encode('utf-8', 'replace')):08x}"


def _is_alive(process: int) -> bool:
    """Whether a process of that number runs; true where that cannot be asked without harm."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # it belongs to someone else, or the number is none
    return True
