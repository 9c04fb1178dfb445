"""Hub models: models named hf://USER/REPO[@REVISION], pulled by and pushed through the Hub's client.

The client's cache, tokens, mirrors and offline mode apply: HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deflow_cli.checkpoints.hub_hf import hub_errors, verify
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.paths import HUB_SCHEME

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"hf:/+([^/@]+/[^/@]+)(?:/([^@]*[^/@]))?(?:@([^@]+))?")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"


class HubModel(NamedTuple):
    """A model's repository on the Hub. file: None where the name tells none. revision: None is its main
    branch.
    """

    repo: str
    file: str | None
    revision: str | None

    @property
    def name(self) -> str:
        """As on the command line."""
        file = f"/{self.file}" if self.file else ""
        return f"{HUB_SCHEME}{self.repo}{file}{f'@{self.revision}' if self.revision else ''}"


def parse_hub_model(path: Path) -> HubModel:
    """``hf://USER/REPO[/FILE][@REVISION]``, or a path of it. Raises ConfigError for anything else.

    >>> parse_hub_model(Path("hf://someone/film-noise@v1"))
    HubModel(repo='someone/film-noise', file=None, revision='v1')
    """
    match = _NAME.fullmatch(path.as_posix())
    if match is None:
        raise ConfigError(
            f"{path.as_posix()}: not the name of a model on the Hub",
            next_step=f"write {HUB_SCHEME}USER/REPO, with @REVISION behind it if need be",
        )
    return HubModel(match[1], match[2], match[3])


def pull_hub_model(path: Path, files: Sequence[str]) -> tuple[Path, str]:
    """The model's file in the Hub's cache, brought there if need be, and its revision in words.

    files: the names that it may have, the likeliest first, where ``path`` tells none. What arrives is
    compared with the checksum that the Hub states. Without a network the copy in the cache serves. Raises
    CheckpointError naming the model, the cause and the next step.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError

    model = parse_hub_model(path)
    candidates = [model.file] if model.file else list(files)
    for file in candidates:
        cached = _cached(model, file)
        pinned = model.revision is not None and _COMMIT.fullmatch(model.revision) is not None
        if cached is not None and (pinned or constants.HF_HUB_OFFLINE):
            return cached, _revision_of(cached)
    if constants.HF_HUB_OFFLINE:
        raise CheckpointError(
            f"{model.name}: is not in the Hub's cache, and HF_HUB_OFFLINE forbids to ask for it",
            next_step="unset HF_HUB_OFFLINE for one run, or copy the file here and pass its path",
        )
    for file in candidates:
        try:
            return _pull(model, file)
        except EntryNotFoundError:
            continue
    raise CheckpointError(
        f"{model.name}: the repository has no {' and no '.join(candidates)}",
        next_step=f"name its file: {HUB_SCHEME}{model.repo}/FILE",
    )


def push_folder(folder: Path, repo: str, *, private: bool, message: str, revision: str | None = None) -> str:
    """Create the repository if need be and commit the folder's files to it; returns the commit.

    Raises ConfigError for a name that is none, CheckpointError where the Hub refuses or cannot be reached.
    """
    if not _REPO.fullmatch(repo):
        raise ConfigError(f"{repo!r} is no repository's name", next_step="write USER/REPO")
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=message, revision=revision, repo_type="model"
        )
    except hub_errors() as error:
        raise CheckpointError(
            f"{repo}: cannot be pushed ({_told(error)})", next_step=_next_step(error, "try again")
        ) from error
    return str(done.oid)


def _pull(model: HubModel, file: str) -> tuple[Path, str]:
    """One file. Raises EntryNotFoundError of the Hub's client where the repository has no such file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    cached = _cached(model, file)
    try:
        # Asked for once before: the client would try an absent network again and again for half a minute.
        stated = get_hf_file_metadata(hf_hub_url(model.repo, file, revision=model.revision))
        known = _cached(model._replace(revision=stated.commit_hash), file)
        if known is not None:
            return known, _revision_of(known)
        path = Path(hf_hub_download(model.repo, file, revision=model.revision))
    except EntryNotFoundError:
        raise
    except hub_errors() as error:
        # a copy serves where nobody answers; where the Hub says no, it says why
        if cached is not None and not isinstance(error, HfHubHTTPError):
            return cached, f"{_revision_of(cached)}, the Hub was not reached"
        raise CheckpointError(
            f"{model.name}: cannot be had ({_told(error)})",
            next_step=_next_step(error, "check the name and the network, or pass a file's path"),
        ) from error
    verify(model.name, path, stated.etag or "")
    return path, _revision_of(path)


def _cached(model: HubModel, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.repo, file, revision=model.revision)
    return Path(found) if isinstance(found, str) else None


def _revision_of(path: Path) -> str:
    """The commit that a file of the cache belongs to, in words: .../snapshots/COMMIT/FILE."""
    parts = path.parts
    commit = parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""
    return f"from the Hub, revision {commit[:12]}"


def _told(error: Exception) -> str:
    return " ".join(str(error).split())


def _next_step(error: Exception, otherwise: str) -> str:
    from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    refused = isinstance(error, LocalTokenNotFoundError | RepositoryNotFoundError) or status in (401, 403)
    return f"check the name; if it is private or yours, {_LOG_IN}" if refused else otherwise
