"""Hub: foreign weights by name, where they lie on this machine and how they are brought here."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.paths import HUB_SCHEME, manifest_path

TORCH_SOURCE = "https://download.pytorch.org/models/"
TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 20  # bytes
DIGEST_DIGITS = 64  # of a whole sha256, in hexadecimal

Chunks = Generator[tuple[bytes, int | None], None, None]  # a piece, and the length of the whole
Progress = Callable[[int, int | None], None]  # bytes that have arrived, and how many there will be


@dataclass(frozen=True)
class RemoteFile:
    """A file that others publish and the package does not carry.

    name: as on the command line. file: its name at the source. sha256: the digest, or its first digits (at
    least eight) where no more is published. bytes: its size. note: what it is, in the plural.
    purpose: what needs it.
    """

    name: str
    file: str
    url: str
    sha256: str
    bytes: int
    licence: str
    note: str
    purpose: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(f"{self.name}: sha256 {self.sha256!r} is not 8 to 64 hexadecimal digits")

    @property
    def expected(self) -> str:
        """The digest as far as it is known, for messages."""
        return self.sha256 if len(self.sha256) == DIGEST_DIGITS else f"{self.sha256}..."

    @property
    def verified(self) -> str:
        """How far a file of this digest is verified, in words."""
        whole = len(self.sha256) == DIGEST_DIGITS
        return "verified by its sha256" if whole else f"verified by {len(self.sha256)} digits of its sha256"


@dataclass(frozen=True)
class Pulled:
    """Weights that are here now. already_here: nothing had to be fetched. verified: how, in words."""

    name: str
    path: Path
    already_here: bool
    verified: str
    licence: str


def remote_files() -> dict[str, RemoteFile]:
    """The foreign files that the manifest names, in its order. Raises CheckpointError if it is broken."""
    path = manifest_path()
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("remote", [])
        return {entry["name"]: RemoteFile(**entry) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error})", next_step="install deflow-cli again"
        ) from error


def remote_file(name: str) -> RemoteFile:
    """One of them. Raises ConfigError for a name that is none."""
    remotes = remote_files()
    if name not in remotes:
        raise ConfigError(
            f"{name}: no weights of this name are known",
            next_step=f"use one of {', '.join(remotes)}, or {HUB_SCHEME}OWNER/REPO/FILE",
        )
    return remotes[name]


def cache_folder() -> Path:
    """The folder of pulled files: $DEFLOW_CACHE, else deflow/ in $XDG_CACHE_HOME, else in ~/.cache."""
    given = os.environ.get("DEFLOW_CACHE")
    return Path(given).expanduser() if given else _user_cache() / "deflow"


def torch_folder() -> Path:
    """The folder of the files that torchvision downloads: hub/checkpoints in $TORCH_HOME or its cache."""
    home = os.environ.get("TORCH_HOME")
    return (Path(home).expanduser() if home else _user_cache() / "torch") / "hub" / "checkpoints"


def _user_cache() -> Path:
    xdg = os.environ.get("XDG_CACHE_HOME")
    return Path(xdg).expanduser() if xdg else Path.home() / ".cache"


def find(remote: RemoteFile) -> Path | None:
    """The file in our cache, else torchvision's in torch's; None where it is in neither. No network."""
    candidates = [_own_path(remote)]
    if remote.url.startswith(TORCH_SOURCE):
        candidates.append(torch_folder() / remote.file)
    return next((path for path in candidates if path.is_file()), None)


def locate(name: str, given: Path | None = None, option: str = "") -> Path:
    """The file given, else the one on this machine. It never downloads.

    name: as in the manifest. option: the command-line option that takes such a file, for the next step.
    Raises CheckpointError that says how to bring the file where there is none.
    """
    remote = remote_file(name)
    if given is not None:
        if not given.is_file():
            what = "is a folder" if given.is_dir() else "no such file"
            raise CheckpointError(f"{given}: {what}", next_step=f"pass {remote.note} ({remote.file})")
        return given
    found = find(remote)
    if found is None:
        by_hand = f", or pass the file as {option} FILE" if option else ""
        raise CheckpointError(
            f"{name}: {remote.note} ({remote.file}) are not on this machine",
            next_step=f"deflow weights pull {name}{by_hand}",
        )
    return found


def pull(name: str, *, file: Path | None = None, progress: Progress | None = None) -> Pulled:
    """Bring weights into the cache, unless they are here and valid; verified before they take their name.

    name: one of the manifest's. file: a copy brought by hand, which is verified and copied instead of a
    download. Raises CheckpointError naming the source, the cause and the next step; then nothing is left in
    the cache.
    """
    remote = remote_file(name)
    if file is not None:
        return _pull_by_hand(remote, file, progress)
    found = find(remote)
    if found is not None and _digest(found).startswith(remote.sha256):
        return Pulled(name, found, True, remote.verified, remote.licence)
    by_hand = f"download it on another machine and run: deflow weights pull {name} --file FILE"
    path = _store(remote, _chunks_of_url(remote, by_hand), remote.url, by_hand, progress)
    return Pulled(name, path, False, remote.verified, remote.licence)


def _pull_by_hand(remote: RemoteFile, file: Path, progress: Progress | None) -> Pulled:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "no such file"
        raise CheckpointError(f"{file}: {what}", next_step=f"download {remote.url}, and pass the file")
    path = _store(remote, _chunks_of_file(file), str(file), f"download {remote.url} again", progress)
    return Pulled(remote.name, path, False, remote.verified, remote.licence)


def _own_path(remote: RemoteFile) -> Path:
    return cache_folder() / remote.name / remote.file


def _store(
    remote: RemoteFile,
    chunks: Chunks,
    origin: str,
    next_step: str,
    progress: Progress | None,
) -> Path:
    """Write what arrives to a temporary name, verify it, and only then let it take its place."""
    target = _own_path(remote)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    digest, done = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(chunks), open(temporary, "wb") as out:
            for chunk, total in chunks:
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
            out.flush()
            os.fsync(out.fileno())
        if not digest.hexdigest().startswith(remote.sha256):
            raise CheckpointError(
                f"{origin}: {done} bytes with sha256 {digest.hexdigest()}, but {remote.note} have "
                f"{remote.expected} ({remote.bytes} bytes)",
                next_step=next_step,
            )
        os.replace(temporary, target)
    except OSError as error:
        raise CheckpointError(
            f"{target}: cannot be written ({error.strerror or error})",
            next_step="make room, or name another folder in the environment variable DEFLOW_CACHE",
        ) from error
    finally:
        with suppress(OSError):  # the folder itself may be missing
            temporary.unlink()
    return target


def _chunks_of_url(remote: RemoteFile, next_step: str) -> Chunks:
    """The body in pieces, each with the length of the whole where the server sends it."""
    request = urllib.request.Request(remote.url, headers={"User-Agent": "deflow-cli"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            total, done = response.length, 0
            while chunk := response.read(CHUNK):
                done += len(chunk)
                yield chunk, total
        if total is not None and done != total:
            raise ConnectionError(f"the connection ended after {done} of {total} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise CheckpointError(
            f"{remote.url}: cannot be downloaded ({_cause(error)})", next_step=next_step
        ) from error


def _cause(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _chunks_of_file(path: Path) -> Chunks:
    try:
        with open(path, "rb") as source:
            total = os.fstat(source.fileno()).st_size
            while chunk := source.read(CHUNK):
                yield chunk, total
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error})", next_step="check the file"
        ) from error


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
