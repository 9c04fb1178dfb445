"""Restoration: data sets of pairs to train by, restored files and edited ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from deflow_cli.config.editing import Edit
from deflow_cli.config.shards import Shard
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.workflows.api.arguments import path_or_none, temperature_range

if TYPE_CHECKING:
    from deflow_cli.data.blur.kernels import KernelSampling
    from deflow_cli.data.images.resize import Rule
    from deflow_cli.data.pairs.formats import PairFormat
    from deflow_cli.workflows.edit import EditReport
    from deflow_cli.workflows.pairs.run import MakePairsReport
    from deflow_cli.workflows.restore import RestoreReport


def make_pairs(
    source: str | Path,
    target: str | Path,
    *,
    degrader: str | DegraderChoice = "deflow",
    scale: int = 4,
    temperature: float | tuple[float, float] = 1.0,
    variants: int = 1,
    crop: int | None = None,
    stride: int | None = None,
    resize: Rule = "matlab",
    kernels: str | Path | None = None,
    kernel_sampling: KernelSampling = "bicubic",
    format: PairFormat = "folders",
    seed: int = 0,
    manifest: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    dry_run: bool = False,
    overwrite: bool = False,
    shard: str | None = None,
    merge: bool = False,
    engine: str = "local",
    reporter: Reporter | None = None,
) -> MakePairsReport:
    """Make a data set of clean and degraded pairs, as ``deflow make-pairs`` does.

    degrader: a name, or a `DegraderChoice` with its options. manifest: of a data set to make again, whose
    settings replace the ones given here. shard: such as "3/10", the part to make beside other processes;
    merge: to join what they made. engine: "ray" for a running Ray cluster. Called again, it goes on where it
    was interrupted. Raises DeflowError naming the file or the option that will not do.

    >>> from deflow_cli import DegraderChoice, make_pairs
    >>> report = make_pairs("clean", "pairs", degrader=DegraderChoice("white-noise", sigma=8.0), scale=2)
    >>> report.pairs == report.written == report.images, report.format
    (True, 'folders')
    """
    from deflow_cli.workflows.pairs import run as workflow
    from deflow_cli.workflows.pairs.plan import PairSettings

    request = workflow.MakePairsRequest(
        source=Path(source),
        target=Path(target),
        settings=PairSettings(
            scale=scale,
            crop=crop,
            stride=stride,
            variants=variants,
            temperature=temperature_range(temperature),
            resize=resize,
            kernel_sampling=kernel_sampling,
            format=format,
            seed=seed,
        ),
        degrader=degrader if isinstance(degrader, DegraderChoice) else DegraderChoice(degrader),
        kernels=path_or_none(kernels),
        manifest=path_or_none(manifest),
        workers=workers,
        device=device,
        dry_run=dry_run,
        overwrite=overwrite,
        shard=None if shard is None else Shard.parse(shard, os.environ),
        merge=merge,
        engine=engine,
    )
    return workflow.make_pairs(request, reporter or Silent())


def restore(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | None = None,
    outscale: float | None = None,
    tile: int | None = None,
    tile_pad: int | None = None,
    suffix: str = "",
    ext: str = "auto",
    skip_existing: bool = False,
    tta: bool = False,
    fp32: bool = False,
    temperature: float | None = None,
    samples: int = 1,
    seed: int = 0,
    consistent: bool = False,
    sheet: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> RestoreReport:
    """Restore an image or a folder to files, as ``deflow restore`` does; `load_restorer` restores tensors.

    model: as for `load_restorer`. outscale: size of the outputs over that of the inputs; None: the restorer's
    scale. temperature to sheet: of an SRFlow alone. A file that cannot be read is among the report's
    ``failed``. Raises DeflowError for what concerns all images.

    >>> from pathlib import Path
    >>> from deflow_cli import RestorerConfig, restore
    >>> from deflow_cli.checkpoints.restorer import save_restorer
    >>> from deflow_cli.models.esrgan.generator import RRDBNet
    >>> untrained = RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1))
    >>> save_restorer(Path("untrained.safetensors"), untrained, {})
    >>> report = restore("noisy/0.png", "restored.png", model="untrained.safetensors", device="cpu")
    >>> record = report.records[0]
    >>> report.scale, record.width, record.height
    (2, 128, 128)
    """
    from deflow_cli.workflows import restore as workflow

    request = workflow.RestoreRequest(
        source=Path(source),
        target=Path(target),
        model=path_or_none(model),
        outscale=outscale,
        tile=tile,
        tile_pad=tile_pad,
        suffix=suffix,
        ext=ext,
        skip_existing=skip_existing,
        tta=tta,
        fp32=fp32,
        device=device,
        space=workflow.SpaceOptions(temperature, samples, seed, consistent, path_or_none(sheet)),
    )
    return workflow.restore(request, reporter or Silent())


def edit_images(
    source: str | Path,
    target: str | Path,
    edit: Edit,
    *,
    model: str | Path | None = None,
    other: str | Path | None = None,
    mask: str | Path | None = None,
    sheet: str | Path | None = None,
    ext: str = "auto",
    device: str = "auto",
    reporter: Reporter | None = None,
) -> EditReport:
    """Edit an image or a folder through the latents of an SRFlow, as ``deflow edit`` does.

    `SuperResolver.edit` edits tensors. model: a file or a run folder; None: the newest of a run here. other:
    the second image of transfer, style and interpolate. mask: white where the image is edited. sheet: a PNG
    of before and after. A file that cannot be read is among the report's ``failed``. Raises DeflowError for
    what concerns all images.

    >>> from pathlib import Path
    >>> from deflow_cli import Edit, EncoderConfig, SRFlowConfig, edit_images
    >>> from deflow_cli.checkpoints.srflow.files import save_srflow
    >>> from deflow_cli.config.srflow import SRFlowModelConfig
    >>> from deflow_cli.models.srflow.model import SRFlow
    >>> encoder = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
    >>> sizes = SRFlowModelConfig(SRFlowConfig(scale=4, steps=1, hidden_channels=8), encoder)
    >>> save_srflow(Path("new.safetensors"), SRFlow(sizes), {})
    >>> report = edit_images(
    ...     "clean/0.png", "varied", Edit("vary", samples=2), model="new.safetensors", device="cpu"
    ... )
    >>> report.scale, [path.name for path in report.records[0].targets]
    (4, ['0_s01.png', '0_s02.png'])
    """
    from deflow_cli.workflows import edit as workflow

    request = workflow.EditRequest(
        source=Path(source),
        target=Path(target),
        edit=edit,
        model=path_or_none(model),
        other=path_or_none(other),
        mask=path_or_none(mask),
        sheet=path_or_none(sheet),
        ext=ext,
        device=device,
    )
    return workflow.edit(request, reporter or Silent())
