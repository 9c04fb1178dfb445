"""Run folder: the files of a fit, what it records of where it came from, and reading that again."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.config.fit import RunConfig
from deflow_cli.data.contents import Contents
from deflow_cli.paths import CONFIG_FILE, LOG_FILE, MODEL_FILE, RUN_FILE, RUN_LOCK, clear_temporaries
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.folder_lock import sole_writer
from deflow_cli.texts import encoded, json_text
from deflow_cli.training.run_data import record_data
from deflow_cli.training.train_state import Progress

P = ParamSpec("P")
R = TypeVar("R")


class _WritesRun(Protocol):
    """A request of a training. out: the run's folder."""

    @property
    def out(self) -> Path: ...


Request = TypeVar("Request", bound=_WritesRun)


def sole_trainer(work: Callable[Concatenate[Request, P], R]) -> Callable[Concatenate[Request, P], R]:
    """Decorate a training, whose first argument is its request: nobody else trains in ``out`` meanwhile.

    The ranks of one training are one process in this: the main one has the lock. What killed processes left
    of temporary files is removed. Raises DataError, which
    names the other process, where there is one.
    """
    signature = inspect.signature(work)

    @functools.wraps(work)
    def run(request: Request, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not Ranks.current().is_main:
            return work(request, *args, **kwargs)
        reporter = signature.bind(request, *args, **kwargs).arguments.get("reporter")
        warn = (lambda text: None) if reporter is None else reporter.warn
        what, next_step = "another training", "choose another --out"
        with sole_writer(request.out, RUN_LOCK, what=what, next_step=next_step, warn=warn):
            for folder in (request.out, request.out / "previews"):
                clear_temporaries(folder)
            return work(request, *args, **kwargs)

    return run


@dataclass(frozen=True)
class RunFolders:
    """The folders of images that a run was given; None where the record names none."""

    clean: Path | None = None
    noisy: Path | None = None


def begin_folder(
    out: Path,
    config_text: str,
    contents: Mapping[str, Contents],
    places: Mapping[str, Path | None],
    resumes: bool,
) -> None:
    """Make a folder that of a run: from here on it can be resumed, and is not taken by another one.

    config_text: TOML, which a resumed run has already. contents: of each set of data, by its role. places:
    files and folders as they were given.
    """
    if not resumes:
        write_atomically(out / CONFIG_FILE, encoded(config_text))
    record_data(out, contents)
    write_run_record(out, places)


def write_run_record(run_dir: Path, places: Mapping[str, Path | None]) -> None:
    """Write ``run.json``: files and folders as they were given, and the working folder they are relative to.

    They are kept apart from the model file, which may be passed on and must not reveal paths of this machine.
    """
    record = {name: None if path is None else str(path) for name, path in places.items()}
    record["working_folder"] = os.getcwd()
    text = json_text(record, indent=2) + "\n"
    write_atomically(run_dir / RUN_FILE, text.encode())


def recorded_folders(run_dir: Path) -> RunFolders:
    """The folders of ``run.json``, absolute, whether they still exist or not; none without a record."""
    try:
        record = json.loads((run_dir / RUN_FILE).read_text(encoding="utf-8"))
        start = Path(record["working_folder"])
        return RunFolders(start / record["clean"], start / record["noisy"])
    except (OSError, ValueError, KeyError, TypeError):
        return RunFolders()


def is_run(folder: Path) -> bool:
    """Whether a folder is one that ``deflow fit`` wrote a model into."""
    return (folder / MODEL_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def read_log(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of ``log.jsonl`` that are whole; a line cut short by a kill is passed over."""
    try:
        lines = (run_dir / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int | float):
            rows.append(row)
    return rows


def environment_facts(device: torch.device) -> dict[str, str]:
    """What a file records of the machine that made it."""
    return {"device": str(device), "torch": torch.__version__, "python": platform.python_version()}


def training_facts(
    facts: Mapping[str, Any],
    config: RunConfig,
    progress: Progress,
    bits_per_dim: tuple[float, float],
    device: torch.device,
) -> dict[str, Any]:
    """What a model file tells of its fit: JSON-ready, and without paths of the machine that made it."""
    encoder_weights = Path(config.fit.encoder_weights).name if config.fit.encoder_weights else ""
    told = dataclasses.replace(config, fit=dataclasses.replace(config.fit, encoder_weights=encoder_weights))
    return {
        **facts,
        "step": progress.step,
        "seconds": round(progress.seconds, 1),
        "skipped_steps": progress.bad_total,
        "bits_per_dim_clean": bits_per_dim[0],
        "bits_per_dim_noisy": bits_per_dim[1],
        **environment_facts(device),
        "config": FIT.to_toml(told),
    }
