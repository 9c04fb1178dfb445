"""Push: a model to the Hugging Face Hub, with a card made of its run and nothing of the machine it was made
on.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deflow_cli import __version__
from deflow_cli.arrays import Pixels
from deflow_cli.checkpoints.format import CARD, load_model, write_atomically
from deflow_cli.checkpoints.hub_models import push_folder
from deflow_cli.checkpoints.publishing import without_places, write_publishable
from deflow_cli.checkpoints.registry import FoundModel, model_of_any_kind
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.checkpoints.translation.files import TranslationModel, load_translator
from deflow_cli.data.images.files import Image, write_image
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.errors import ConfigError, DeflowError
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.paths import HUB_SCHEME, MODEL_FILE, RESTORER_FILE
from deflow_cli.presets.reader import FIT
from deflow_cli.reports.model_card import ModelCard, Table, render_card
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.run_folder import RunFolders
from deflow_cli.workflows.push.sheet import degrader_sheet, restorer_sheet, translator_sheet
from deflow_cli.workflows.report.content import config_of, facts_of, public
from deflow_cli.workflows.report.request import ReportRequest
from deflow_cli.workflows.report.run import report
from deflow_cli.workflows.report.translation import facts_of_translator

CARD_FILE = "README.md"
SHEET_FILE = "samples.png"
SHEET_NOTE = "The photographs come with deflow; none is of the training."
QUICK_SECONDS = 3.0
CARD_COLUMNS = ("figure", "synthetic", "95 % interval", "reference", "which is")


@dataclass(frozen=True)
class PushRequest:
    """What ``deflow push`` was asked for.

    model: a degradation model or a restorer, a file or a folder. repo: USER/REPO. title, author, license,
    description: of the card; empty: as in the model's file. folder: where what is sent is written; None: a
    temporary one. dry_run: write it and send nothing. realism: measure how real the samples are, for which
    the run's images must be here; quick: in seconds.
    """

    model: Path
    repo: str
    title: str = ""
    author: str = ""
    license: str = ""
    description: str = ""
    private: bool = False
    dry_run: bool = False
    folder: Path | None = None
    revision: str | None = None
    message: str = ""
    realism: bool = True
    quick: bool = False


@dataclass(frozen=True)
class PushReport:
    """What was sent.

    kind: ``degradation`` or ``restorer``. sha256: of the model's file. commit: None where nothing was sent.
    name: to use it by. method: of a baseline's degradation.
    """

    repo: str
    kind: str
    files: list[str]
    sha256: str
    name: str
    commit: str | None = None
    folder: Path | None = None
    method: str = ""


def push(request: PushRequest, reporter: Reporter) -> PushReport:
    """Write model, card and sheet to a folder, and commit them to the Hub.

    Raises ConfigError without a licence, DeflowError for a model that is none of ours, and CheckpointError
    where the Hub refuses or cannot be reached.
    """
    found, kind = model_of_any_kind(request.model)
    if request.dry_run and request.folder is None:
        raise ConfigError("a dry run needs a folder to write to", next_step="pass folder")
    temporary = tempfile.TemporaryDirectory() if request.folder is None else nullcontext(str(request.folder))
    with temporary as name:
        folder = Path(name)
        method = ""
        if kind == "degradation":
            card = _degrader(request, found, folder, reporter)
        elif kind == "translator":
            model = load_translator(found.path)
            card, method = _translator(request, model, found, folder, reporter), model.method
        else:
            card = _restorer(request, found, folder)
        write_atomically(folder / CARD_FILE, without_places(render_card(card)).encode())
        file = folder / (RESTORER_FILE if kind == "restorer" else MODEL_FILE)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        commit = None
        if not request.dry_run:
            message = request.message or f"{card.title}, by deflow {__version__}"
            commit = push_folder(
                folder, request.repo, private=request.private, message=message, revision=request.revision
            )
        files = sorted(path.name for path in folder.iterdir())
    name = f"{HUB_SCHEME}{request.repo}" + (f"@{request.revision}" if request.revision else "")
    told = "restorer" if kind == "restorer" else "degradation"
    return PushReport(request.repo, told, files, digest, name, commit, request.folder, method)


def _card_of(request: PushRequest, facts: Mapping[str, Any]) -> dict[str, str]:
    """Title, author, licence and description. Raises ConfigError where no licence is known."""
    given = {key: str(getattr(request, key) or facts.get(key, "")) for key in CARD}
    if not given["license"]:
        raise ConfigError(
            "a model on the Hub needs a licence, and its file tells none",
            next_step="add --license CC-BY-4.0, or the one that you choose",
        )
    return given


# -- degradation models -----------------------------------------------------------------------------------


def _degrader(request: PushRequest, found: FoundModel, folder: Path, reporter: Reporter) -> ModelCard:
    model, facts = load_model(found.path)
    card = _card_of(request, facts)
    compression = SampleCompression.recorded(facts, found.path)
    write_publishable(found.path, folder / MODEL_FILE, card)
    _write_sheet(folder, degrader_sheet(FlowDegrader(model, compression=compression)))
    findings, table, note = _realism(request, reporter)
    config = config_of(facts)
    described = facts_of(model, found.path, facts, config, RunFolders())
    described.pop("File", None)  # the file that is sent is another one
    return ModelCard(
        title=card["title"],
        license=card["license"],
        author=card["author"],
        description=card["description"]
        or "A degradation model: it gives photographs the noise and defects of the images it was fitted to.",
        tags=("deflow", "image-degradation", "noise", "super-resolution"),
        usage=(
            "pip install deflow-cli",
            f"deflow degrade photos/ degraded/ --model {HUB_SCHEME}{request.repo}",
            f"deflow make-pairs photos/ pairs/ --model {HUB_SCHEME}{request.repo}",
        ),
        facts=described,
        sheet=SHEET_FILE,
        sheet_note=SHEET_NOTE,
        findings=findings,
        realism=table,
        realism_note=note,
        configuration=FIT.to_toml(public(config)) if config else "",
        limits=("It knows the degradation of the images it was fitted to, about as strong as it is there.",),
    )


def _translator(
    request: PushRequest, model: TranslationModel, found: FoundModel, folder: Path, reporter: Reporter
) -> ModelCard:
    """The card of a network of DSGAN, DASR or CycleGAN."""
    card = _card_of(request, model.facts)
    write_publishable(found.path, folder / MODEL_FILE, card)
    generator = model.generator
    _write_sheet(folder, translator_sheet(generator))
    findings, table, note = _realism(request, reporter)
    name, scale = f"{HUB_SCHEME}{request.repo}", generator.scale
    commands = [f"deflow make-pairs photos/ pairs/ --model {name}"]
    if scale > 1:
        commands = [f"{commands[0]} --scale {scale}"]
    else:
        commands.insert(0, f"deflow degrade photos/ degraded/ --model {name}")
    limits = ["It knows one degradation of each picture: run again, it gives the same image."]
    if scale > 1:
        limits.append(f"It takes large pictures, and its results are {scale} times smaller.")
    if generator.radius is None:
        limits.append("It takes means over the whole picture: cut into tiles, a picture becomes another one.")
    return ModelCard(
        title=card["title"],
        license=card["license"],
        author=card["author"],
        description=card["description"],
        tags=("deflow", model.method, "image-degradation", "noise", "super-resolution"),
        usage=("pip install deflow-cli", *commands),
        facts=facts_of_translator(model, RunFolders()),
        sheet=SHEET_FILE,
        sheet_note=SHEET_NOTE,
        findings=findings,
        realism=table,
        realism_note=note,
        configuration=str(model.facts.get("config", "")),
        limits=limits,
    )


def _realism(request: PushRequest, reporter: Reporter) -> tuple[list[str], Table | None, str]:
    """Findings, their figures, and why there are none."""
    if not request.realism:
        return [], None, "Not measured."
    with tempfile.TemporaryDirectory() as folder:
        asked = ReportRequest(
            request.model, out=Path(folder) / "page.html", seconds=QUICK_SECONDS if request.quick else None
        )
        try:
            result = report(asked, reporter)
        except DeflowError as error:
            reporter.warn(f"how real the samples are was not measured: {error}")
            return [], None, "Not measured."
    rows = [[str(row.get(column, "")) for column in CARD_COLUMNS] for row in result.figures]
    with_real = result.noisy_images > 0
    note = f"Samples of {result.clean_images} clean images" + (
        f" against {result.noisy_images} real noisy ones."
        if with_real
        else "; there were no real noisy ones."
    )
    return [sentence for _, sentence in result.verdict], (CARD_COLUMNS, rows), note


# -- restorers --------------------------------------------------------------------------------------------


def _restorer(request: PushRequest, found: FoundModel, folder: Path) -> ModelCard:
    model, facts = load_restorer(found.path)
    card = _card_of(request, facts)
    write_publishable(found.path, folder / RESTORER_FILE, card)
    _write_sheet(folder, restorer_sheet(model))
    kind = "SRFlow" if isinstance(model, SRFlow) else "ESRGAN"
    described = {
        "Architecture": f"{kind}, x{model.scale}",
        "Parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M",
        **{name: value for key, name in _SCALARS.items() if (value := _plain(facts.get(key)))},
    }
    return ModelCard(
        title=card["title"],
        license=card["license"],
        author=card["author"],
        description=card["description"],
        tags=("deflow", kind.lower(), "super-resolution", "image-restoration"),
        usage=(
            "pip install deflow-cli",
            f"deflow restore noisy/ restored/ --model {HUB_SCHEME}{request.repo}",
        ),
        facts=described,
        sheet=SHEET_FILE,
        sheet_note=SHEET_NOTE,
    )


# Facts of a restorer's training that are shown, and what they are called.
_SCALARS = {
    "step": "Step",
    "select": "Chosen by",
    "scores": "Held-out scores",
    "input": "Scores of the inputs",
    "seconds": "Seconds",
    "device": "Device",
    "date": "Made",
    "version": "deflow",
}


def _plain(value: object) -> str:
    """A number, a word, or a table of numbers, in words; others are left out."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {number:.4g}" for key, number in value.items() if isinstance(number, float))
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if isinstance(value, int | str) else ""


def _write_sheet(folder: Path, pixels: Pixels) -> None:
    write_image(folder / SHEET_FILE, Image(pixels))
