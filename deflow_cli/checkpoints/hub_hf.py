"""Hugging Face: files named hf://OWNER/REPO/path[@revision], in the cache beside the others."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from deflow_cli.checkpoints.hub import Pulled, cache_folder
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.paths import HUB_SCHEME

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT = re.compile(r"[0-9a-f]{40}")  # of a file that lies in the repository itself, not in LFS


class HfFile(NamedTuple):
    """A file of a repository on the hub; revision None is its main branch."""

    repo: str
    path: str
    revision: str | None


def parse(name: str) -> HfFile:
    """``hf://OWNER/REPO/path/in/repo[@revision]``. Raises ConfigError for anything else."""
    match = re.fullmatch(rf"{HUB_SCHEME}([^/@]+/[^/@]+)/([^@]*[^/@])(?:@([^@]+))?", name)
    if match is None:
        raise ConfigError(
            f"{name}: not the name of a file on the hub",
            next_step=f"write {HUB_SCHEME}OWNER/REPO/path/in/repo, with @REVISION behind it if need be",
        )
    return HfFile(match[1], match[2], match[3])


def find_hf(name: str) -> Path | None:
    """The copy pulled earlier; None without one. No network."""
    from huggingface_hub import try_to_load_from_cache

    file = parse(name)
    found = try_to_load_from_cache(file.repo, file.path, cache_dir=_folder(), revision=file.revision)
    return Path(found) if isinstance(found, str) else None


def pull_hf(name: str) -> Pulled:
    """Bring a file of the hub into the cache, by the hub's client, so that its tokens and mirrors apply.

    The checksum that the hub states verifies it: the sha256 of a large file, Git's SHA-1 of a small one.
    Raises CheckpointError naming the file and the cause; a file that fails is removed.
    """
    file = parse(name)
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    earlier = find_hf(name)
    try:
        # Asked for once before: the client would try an absent network again and again for half a minute.
        stated = get_hf_file_metadata(hf_hub_url(file.repo, file.path, revision=file.revision))
        path = Path(hf_hub_download(file.repo, file.path, revision=file.revision, cache_dir=_folder()))
    except hub_errors() as error:
        raise CheckpointError(
            f"{name}: cannot be downloaded ({' '.join(str(error).split())})", next_step=_next_step(earlier)
        ) from error
    verified = verify(name, path, stated.etag or "")
    return Pulled(name, path, path == earlier, verified, f"see https://huggingface.co/{file.repo}")


def verify(name: str, path: Path, etag: str) -> str:
    """Compare a file with the checksum that the hub states; in words, with which. A wrong file is removed."""
    if _SHA256.fullmatch(etag):
        _check_digest(name, path, "sha256", _sha256(path), etag)
        return "verified by its sha256"
    if _GIT.fullmatch(etag):
        _check_digest(name, path, "Git hash", _git_hash(path), etag)
        return "verified by its Git hash"
    _remove(path)
    raise CheckpointError(
        f"{name}: the hub states no checksum, so it was not kept", next_step="download it by hand"
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _git_hash(path: Path) -> str:
    """The name of a file's content in Git: the SHA-1 of a header and the content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _check_digest(name: str, path: Path, kind: str, digest: str, expected: str) -> None:
    if digest != expected:
        _remove(path)
        raise CheckpointError(
            f"{name}: arrived with {kind} {digest}, but the hub tells {expected}", next_step="pull it again"
        )


def _remove(path: Path) -> None:
    """Remove a file of the hub's cache, where it may be a link to its content."""
    path.resolve().unlink()
    path.unlink(missing_ok=True)


def _next_step(earlier: Path | None) -> str:
    if earlier is not None:
        return f"the copy pulled earlier is still there: {earlier}"
    return "check the name and the network, or download the file on another machine and pass its path"


def _folder() -> Path:
    return cache_folder() / "hf"


def hub_errors() -> tuple[type[Exception], ...]:
    """What the client raises: errors of the hub are OSErrors; newer clients raise httpx's or httpx2's."""
    from huggingface_hub.errors import HfHubHTTPError

    kinds: list[type[Exception]] = [OSError, ValueError, HfHubHTTPError]
    for name in ("httpx", "httpx2"):
        with suppress(ImportError):
            kinds.append(import_module(name).HTTPError)
    return tuple(kinds)
