"""Export: a restorer or an SRFlow as weights that other programs read, and an entry of OpenModelDB."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.architectures import restorer_formats, super_resolver_formats
from deflow_cli.checkpoints.esrgan.export import caveats, open_model_db
from deflow_cli.checkpoints.foreign import read_state_dict
from deflow_cli.checkpoints.format import CARD, write_atomically
from deflow_cli.checkpoints.restorer import RestoringNetwork, load_restorer, save_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow, spare_tensors
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.restore import find_restorer

SAFETENSORS = "safetensors"
READ_ANEW = ("dialect", "title", "date", "version")  # facts that a new file gets by itself


@dataclass(frozen=True)
class ExportRequest:
    """What `deflow export` was asked for.

    model: a file or a folder with one. target: the file to write. format: one of ``restorer_formats``, for
    an SRFlow of ``super_resolver_formats``, or safetensors. openmodeldb: a .json file, or a folder where its
    name is the entry's id. entry_id: instead of the id made of scale and name. name, author, license (SPDX),
    description: of the entry, and of a .safetensors file; empty: as in the model's file. tags, urls: of the
    entry.
    """

    model: Path
    target: Path
    format: str = "basicsr"
    openmodeldb: Path | None = None
    entry_id: str = ""
    name: str = ""
    author: str = ""
    license: str = ""
    description: str = ""
    tags: Sequence[str] = ()
    urls: Sequence[str] = ()


@dataclass(frozen=True)
class ExportReport:
    """What was written, and which programs will not take it. entry: path and id of the OpenModelDB entry."""

    path: Path
    format: str
    scale: int
    caveats: list[str] = field(default_factory=list)
    entry_path: Path | None = None
    entry_id: str = ""


def export(request: ExportRequest, reporter: Reporter) -> ExportReport:
    """Write the export, and the entry where asked for. Raises DeflowError before anything is written."""
    source = find_restorer(request.model, Path.cwd()).path
    _check_names(request, source)
    model, facts = load_restorer(source, tell=reporter.note)
    _check_format(request, model)
    card = {key: str(getattr(request, key, "") or facts.get(key, "")) for key in CARD if key != "title"}
    card["title"] = request.name or str(facts.get("title") or source.stem)
    if request.openmodeldb is not None:
        _check_card(card)
    training = {key: value for key, value in facts.items() if key not in (*READ_ANEW, *CARD)}
    if isinstance(model, SRFlow):
        found = _write_srflow(request, source, model, training | card)
    else:
        found = _write_esrgan(request, model, training | card)
    for caveat in found:
        reporter.warn(caveat)
    path, entry_id = None, ""
    if request.openmodeldb is not None and isinstance(model, RRDBNet):
        path, entry_id = _write_entry(request, request.openmodeldb, model, card, facts)
        if path.stem != entry_id:
            reporter.note(f"OpenModelDB names this entry {entry_id}.json")
    return ExportReport(request.target, request.format, model.scale, found, path, entry_id)


def _write_esrgan(request: ExportRequest, model: RRDBNet, facts: dict[str, Any]) -> list[str]:
    """Write an ESRGAN generator; returns which programs will not take it."""
    if request.format == SAFETENSORS:
        save_restorer(request.target, model, facts)
        return caveats(model.config)
    return restorer_formats()[request.format].export(model, request.target, request.format)


def _write_srflow(request: ExportRequest, source: Path, model: SRFlow, facts: dict[str, Any]) -> list[str]:
    """Write an SRFlow with the tensors that came with it and no computation reads."""
    spare = spare_tensors(model, read_state_dict(source))
    if request.format == SAFETENSORS:
        save_srflow(request.target, model, facts, spare)
        return []
    return super_resolver_formats()[request.format].export(model, request.target, request.format, spare)


def _check_format(request: ExportRequest, model: RestoringNetwork) -> None:
    """Refuse a format for other networks than this, and an entry where OpenModelDB has no such network."""
    is_flow = isinstance(model, SRFlow)
    formats = (*(super_resolver_formats() if is_flow else restorer_formats()), SAFETENSORS)
    if request.format not in formats:
        kind = "an SRFlow model" if is_flow else "an ESRGAN generator"
        raise ConfigError(
            f"{request.model}: {kind} cannot be written as {request.format}",
            next_step=f"use --format {' or '.join(formats)}",
        )
    if is_flow and request.openmodeldb is not None:
        raise ConfigError("entries for OpenModelDB are written for ESRGAN generators alone")


def _check_names(request: ExportRequest, source: Path) -> None:
    formats = (*restorer_formats(), *super_resolver_formats(), SAFETENSORS)
    if request.format not in formats:
        raise ConfigError(
            f"format {request.format!r} is not known", next_step=f"use one of {', '.join(formats)}"
        )
    wanted = ".safetensors" if request.format == SAFETENSORS else ".pth"
    if request.target.suffix != wanted:
        raise ConfigError(
            f"{request.target}: the format {request.format} is written as {wanted}",
            next_step=f"use {request.target.with_suffix(wanted).name}, or another --format",
        )
    if request.target.exists() and request.target.samefile(source):
        raise CheckpointError(f"{request.target}: is the model itself", next_step="choose another OUT")
    if request.entry_id and not re.fullmatch(r"\d+x-[\w.-]+", request.entry_id):
        raise ConfigError(
            f"the id {request.entry_id!r} is none of OpenModelDB's", next_step="write it as 4x-My-Model"
        )
    entry = request.openmodeldb
    if entry is not None and not entry.is_dir() and entry.suffix != ".json":
        raise ConfigError(f"{entry}: an entry of OpenModelDB is a .json file", next_step="use FILE.json")


def _check_card(card: dict[str, str]) -> None:
    for key in ("author", "license"):
        if not card[key]:
            raise ConfigError(f"an entry of OpenModelDB needs the model's {key}", next_step=f"add --{key}")


def _write_entry(
    request: ExportRequest, target: Path, model: RRDBNet, card: dict[str, str], facts: dict[str, Any]
) -> tuple[Path, str]:
    entry_id, entry = open_model_db(
        request.target,
        model.config,
        name=card["title"],
        author=card["author"],
        license_id=card["license"],
        description=card["description"],
        date=_day(facts),
        urls=request.urls,
        **({"tags": request.tags} if request.tags else {}),
    )
    entry_id = request.entry_id or entry_id
    path = target / f"{entry_id}.json" if target.is_dir() else target
    text = json.dumps(entry, indent=4, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())
    return path, entry_id


def _day(facts: dict[str, Any]) -> date:
    """The day the model was made; today where its file does not tell."""
    try:
        return date.fromisoformat(str(facts.get("date", ""))[:10])
    except ValueError:
        return datetime.now(UTC).date()
