"""Model files: what one is, a page about one, and one for other programs or for the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.workflows.api.arguments import path_or_none

if TYPE_CHECKING:
    from deflow_cli.workflows.export.onnx import OnnxNoise, OnnxReport
    from deflow_cli.workflows.export.run import ExportReport
    from deflow_cli.workflows.export.wtp import WtpReport
    from deflow_cli.workflows.import_weights import ImportReport
    from deflow_cli.workflows.inspect.deflow import ModelReport
    from deflow_cli.workflows.inspect.srflow import SRFlowReport
    from deflow_cli.workflows.inspect.translator import TranslatorReport
    from deflow_cli.workflows.push.run import PushReport
    from deflow_cli.workflows.report.request import ReportResult


def inspect_model(model: str | Path) -> ModelReport | SRFlowReport | TranslatorReport:
    """What a model file or run folder holds, as ``deflow inspect`` says it.

    Of a degradation model of any method, or of an SRFlow, ours or published. Raises CheckpointError naming
    the file where it is none of these.

    >>> from deflow_cli import inspect_model
    >>> report = inspect_model("runs/camera")
    >>> report.sizes.levels, report.training["step"]
    (2, 3)
    >>> sorted(report.as_dict())
    ['conditioning', 'file', 'shift', 'sizes', 'statistics', 'training']
    """
    from deflow_cli.workflows.inspect import run as workflow

    return workflow.inspect_model(Path(model))


def write_report(
    model: str | Path,
    *,
    out: str | Path | None = None,
    clean: str | Path | None = None,
    noisy: str | Path | None = None,
    images: int = 12,
    seed: int = 0,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> ReportResult:
    """Write a page about a degradation model, to decide by whether to use it, as ``deflow report`` does.

    model: a run folder or a model file. out: the page; None: report.html in the run, or beside the file.
    clean, noisy: folders of images; None: those that the run recorded. images: of each folder to look at.
    Raises CheckpointError for what is no such model, DataError for a folder that cannot be used.

    >>> from deflow_cli import write_report
    >>> result = write_report("runs/camera", out="camera.html", clean="clean", noisy="noisy", device="cpu")
    >>> result.report_path.as_posix()
    'camera.html'
    """
    from deflow_cli.workflows.report import run as workflow
    from deflow_cli.workflows.report.request import ReportRequest

    request = ReportRequest(
        source=Path(model),
        out=path_or_none(out),
        clean=path_or_none(clean),
        noisy=path_or_none(noisy),
        images=images,
        device=device,
        seed=seed,
    )
    return workflow.report(request, reporter or Silent())


def export_weights(
    model: str | Path,
    target: str | Path,
    *,
    format: str = "basicsr",
    openmodeldb: str | Path | None = None,
    id: str = "",
    name: str = "",
    author: str = "",
    license: str = "",
    description: str = "",
    tags: Sequence[str] = (),
    urls: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> ExportReport:
    """Write a restorer's weights as other programs read them, as ``deflow export`` does.

    format: basicsr, realsr, esrgan or safetensors; of an SRFlow srflow or safetensors. openmodeldb: an entry
    to write beside it, a .json file or a folder. id to urls: of the entry, and of a .safetensors file. Raises
    DeflowError before anything is written.

    >>> from pathlib import Path
    >>> from deflow_cli import RestorerConfig, export_weights
    >>> from deflow_cli.checkpoints.restorer import save_restorer
    >>> from deflow_cli.models.esrgan.generator import RRDBNet
    >>> small = RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1))
    >>> save_restorer(Path("small.safetensors"), small, {})
    >>> report = export_weights("small.safetensors", "small.pth")
    >>> report.path.as_posix(), report.format, report.scale
    ('small.pth', 'basicsr', 2)
    """
    from deflow_cli.workflows.export import run as workflow

    request = workflow.ExportRequest(
        model=Path(model),
        target=Path(target),
        format=format,
        openmodeldb=path_or_none(openmodeldb),
        entry_id=id,
        name=name,
        author=author,
        license=license,
        description=description,
        tags=tuple(tags),
        urls=tuple(urls),
    )
    return workflow.export(request, reporter or Silent())


def export_onnx(
    target: str | Path,
    *,
    model: str | Path | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    key: str | None = None,
    noise: OnnxNoise | None = None,
    fixed: bool = False,
    name: str = "",
    author: str = "",
    license: str = "",
    description: str = "",
    reporter: Reporter | None = None,
) -> OnnxReport:
    """Write a degradation model or a restorer as an ONNX graph, as ``deflow export OUT.onnx`` does.

    model: a file or a folder; None: the default degradation model. temperature, seed: defaults of the graph's
    inputs. key: the image's name that the noise belongs to. noise: drawn in the ``graph`` as ours is, an
    ``input``, or the ``runtime``'s. fixed: the graph takes the image alone. Needs the package onnx, and
    raises DeflowError without it or for a model that has no such form.

    >>> import importlib.util
    >>> from deflow_cli import export_onnx
    >>> if importlib.util.find_spec("onnx"):
    ...     assert export_onnx("camera.onnx", model="runs/camera").path.exists()
    """
    from deflow_cli.workflows.export import onnx as workflow

    card = {"title": name, "author": author, "license": license, "description": description}
    request = workflow.OnnxRequest(
        Path(target), path_or_none(model), card, temperature, seed, key, noise, fixed
    )
    return workflow.export_onnx(request, reporter or Silent())


def export_wtp(
    target: str | Path, *, model: str | Path | None = None, reporter: Reporter | None = None
) -> WtpReport:
    """Write a degradation for wtp_dataset_destroyer, as ``deflow export wtp`` does.

    target: a folder, or a file whose name ends as that program's do. model: of a fit; None: the default one.

    >>> from deflow_cli import export_wtp
    >>> export_wtp("degradations", model="runs/camera").type
    'deflow'
    """
    from deflow_cli.workflows.export import wtp as workflow

    return workflow.export_wtp(Path(target), path_or_none(model), reporter or Silent())


def import_weights(
    source: str | Path,
    target: str | Path,
    *,
    blocks: Sequence[int] | None = None,
    eps: float | None = None,
) -> ImportReport:
    """Save published weights of DeFlow, SRFlow, FSSR or DASR as a file of ours, as ``deflow import-weights``.

    source: a .pth or .safetensors file, or its name on the Hub. blocks, eps: of an SRFlow, whose files do not
    tell which blocks of the encoder the flow sees, nor the least scale of its couplings; None: as published.
    Raises CheckpointError naming the file and the tensor that does not fit.

    >>> from pathlib import Path
    >>> from deflow_cli import EncoderConfig, SRFlowConfig, export_weights, import_weights
    >>> from deflow_cli.checkpoints.srflow.files import save_srflow
    >>> from deflow_cli.config.srflow import SRFlowModelConfig
    >>> from deflow_cli.models.srflow.model import SRFlow
    >>> encoder = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
    >>> sizes = SRFlowModelConfig(SRFlowConfig(scale=4, steps=1, hidden_channels=8), encoder)
    >>> save_srflow(Path("new.safetensors"), SRFlow(sizes), {})
    >>> published = export_weights("new.safetensors", "published.pth", format="srflow").path
    >>> import_weights(published, "again.safetensors", blocks=[0]).architecture
    'srflow'
    """
    from deflow_cli.workflows.import_weights import import_weights as workflow

    return workflow(Path(source), Path(target), stacked_blocks=blocks, affine_eps=eps)


def push_model(
    model: str | Path,
    repo: str,
    *,
    title: str = "",
    author: str = "",
    license: str = "",
    description: str = "",
    private: bool = False,
    dry_run: bool = False,
    folder: str | Path | None = None,
    revision: str | None = None,
    message: str = "",
    realism: bool = True,
    quick: bool = False,
    reporter: Reporter | None = None,
) -> PushReport:
    """Send a model to the Hugging Face Hub with a card made of its run, as ``deflow push`` does.

    repo: USER/REPO. folder: where what is sent is written; None: a temporary one. dry_run: write it there and
    send nothing. realism: measure how real the samples are; quick: in seconds. Raises ConfigError without a
    licence, CheckpointError where the Hub refuses or cannot be reached.

    >>> from deflow_cli import push_model
    >>> report = push_model(
    ...     "runs/camera", "me/camera", license="CC0-1.0", folder="sent", dry_run=True, realism=False
    ... )
    >>> report.kind, report.commit, "README.md" in report.files
    ('degradation', None, True)
    """
    from deflow_cli.workflows.push import run as workflow

    request = workflow.PushRequest(
        model=Path(model),
        repo=repo,
        title=title,
        author=author,
        license=license,
        description=description,
        private=private,
        dry_run=dry_run,
        folder=path_or_none(folder),
        revision=revision,
        message=message,
        realism=realism,
        quick=quick,
    )
    return workflow.push(request, reporter or Silent())
