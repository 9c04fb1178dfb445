"""The Python API: what the commands do, as functions; `deflow_cli` offers them and loads them lazily.

Paths are texts or ``Path`` objects. Options have the commands' names and defaults. Nothing is printed: a
``reporter`` hears of progress and warnings, and the results are records. Whatever a user can mend is raised
as a `DeflowError` with a ``next_step``. The examples run in a folder with photographs in ``clean`` and
``noisy``, and with a fitted model in ``runs/camera``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from deflow_cli.checkpoints.format import load_model as load_file
from deflow_cli.checkpoints.registry import default_model
from deflow_cli.checkpoints.restorer import load_restorer as read_restorer_file
from deflow_cli.config.fit import RunConfig
from deflow_cli.config.kernels import PUBLISHED_ITERATIONS, KernelSettings
from deflow_cli.config.shards import Shard
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.errors import ConfigError
from deflow_cli.inference.degradation_model import DegradationModel
from deflow_cli.inference.restoring import Restorer
from deflow_cli.inference.super_resolving import SuperResolver
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.presets.methods import choose_method
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter, Silent

if TYPE_CHECKING:
    from deflow_cli.config.kernels import KernelMethod
    from deflow_cli.data.blur.kernels import KernelSampling
    from deflow_cli.data.images.resize import Rule
    from deflow_cli.data.pairs.formats import PairFormat
    from deflow_cli.workflows.degrade import DegradeReport
    from deflow_cli.workflows.fit.run import FitResult
    from deflow_cli.workflows.kernels.run import KernelsReport
    from deflow_cli.workflows.pairs.run import MakePairsReport
    from deflow_cli.workflows.restore import RestoreReport
    from deflow_cli.workflows.score.run import ScoreReport
    from deflow_cli.workflows.space.run import SpaceReport
    from deflow_cli.workflows.translation.run import TranslationResult

# The workflows are imported by the functions that call them: reading a model needs none of them.


def load_model(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    tile: int | None = None,
    compression: Literal["auto", "no"] = "auto",
) -> DegradationModel:
    """A fitted model, ready for use.

    path: a model file or a run folder; None: the newest fit below ``runs/`` here, else the embedded model.
    device: auto, cpu, cuda or cuda:N. tile: side in pixels; None: chosen by memory, 0: none.
    compression: ``auto``: samples are JPEG compressed where the file records it, each whole image, rounded to
    8 bits; ``no``: never. Raises CheckpointError or DeviceError.

    An unfitted model, only to show the calls:

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from deflow_cli import load_model
    >>> from deflow_cli.checkpoints.format import save_model
    >>> from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
    >>> from deflow_cli.models.deflow.model import DeFlow
    >>> encoder = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
    >>> config = ModelConfig(FlowConfig(levels=2, steps=2, hidden_channels=8), encoder)
    >>> path = Path(tempfile.mkdtemp(), "model.safetensors")
    >>> save_model(path, DeFlow(config), {})
    >>> model = load_model(path)

    What it does, to two images of 21 x 30 pixels:

    >>> image = torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(0))
    >>> generator = torch.Generator().manual_seed(1)
    >>> model.degrade(image, temperature=0.8, generator=generator).shape
    torch.Size([2, 3, 21, 30])
    >>> model.degrade(image, samples=4, generator=generator).shape
    torch.Size([2, 4, 3, 21, 30])
    >>> model.restore(image).shape
    torch.Size([2, 3, 21, 30])
    >>> encoded = model.encode(image, generator)
    >>> bool((model.decode(encoded) - image).abs().max() < 1 / 255)
    True
    >>> model.log_prob(image, degraded=True, generator=generator).shape
    torch.Size([2])
    """
    found = default_model(_path(path))
    where = choose_device(str(device))
    model, facts = load_file(found.path, where)
    found_compression = None if compression == "no" else SampleCompression.recorded(facts, found.path)
    finish = None if found_compression is None else found_compression.finish
    return DegradationModel(model, where, facts, tile, GraphedFunction, finish)


def load_restorer(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    tile: int | None = None,
    tta: bool = False,
) -> Restorer | SuperResolver:
    """A restorer, ready for use: ours, or one of others, .pth or .safetensors.

    An ESRGAN is a `Restorer`, an SRFlow a `SuperResolver`; called with images, both restore them.

    path: a file, or a folder with a restorer.safetensors; None: the newest ``runs/*/restorer.safetensors``
    here, else the embedded denoiser. device, tile: as for `load_model`. tta: the mean over the eight turned
    and mirrored variants. Raises CheckpointError or DeviceError.

    An untrained restorer, only to show the calls:

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from deflow_cli import RestorerConfig, load_restorer
    >>> from deflow_cli.checkpoints.restorer import save_restorer
    >>> from deflow_cli.models.esrgan.generator import RRDBNet
    >>> path = Path(tempfile.mkdtemp(), "restorer.safetensors")
    >>> save_restorer(path, RRDBNet(RestorerConfig(scale=4, channels=8, blocks=1)), {})
    >>> restorer = load_restorer(path)
    >>> restorer.scale, restorer(torch.rand(1, 3, 10, 12)).shape
    (4, torch.Size([1, 3, 40, 48]))

    An SRFlow, which gives any number of samples:

    >>> from deflow_cli import SRFlowConfig
    >>> from deflow_cli.checkpoints.srflow.files import save_srflow
    >>> from deflow_cli.config.model import EncoderConfig
    >>> from deflow_cli.config.srflow import SRFlowModelConfig
    >>> from deflow_cli.models.srflow.model import SRFlow
    >>> encoder = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
    >>> config = SRFlowModelConfig(SRFlowConfig(scale=4, steps=1, hidden_channels=8), encoder)
    >>> save_srflow(path, SRFlow(config), {})
    >>> restorer = load_restorer(path)
    >>> x = torch.rand(1, 3, 10, 12)
    >>> restorer.sample(x, temperature=0.8, samples=4, seed=7).shape
    torch.Size([1, 4, 3, 40, 48])
    >>> y = restorer(x)
    >>> latents = restorer.encode(y, x)
    >>> bool((restorer.decode(latents, x) - y).abs().max() < 1e-3), restorer.log_prob(y, x).shape
    (True, torch.Size([1]))
    """
    from deflow_cli.workflows.restore import default_restorer

    found = default_restorer(_path(path))
    where = choose_device(str(device))
    model, _ = read_restorer_file(found.path)
    if isinstance(model, SRFlow):
        if tta:
            raise ConfigError("tta is nothing to an SRFlow", next_step="leave it out")
        return SuperResolver(model, where, tile=tile)
    return Restorer(model, where, tile=tile, tta=tta)


def fit(
    clean: str | Path,
    noisy: str | Path,
    *,
    out: str | Path,
    method: str | None = None,
    preset: str | RunConfig | None = None,
    settings: Sequence[str] = (),
    pairs: str | Path | None = None,
    kernels: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    accept_changed_data: bool = False,
    reporter: Reporter | None = None,
) -> FitResult | TranslationResult:
    """Fit a model to two folders, as ``deflow fit`` does; ``load_model(result.model_path)`` uses it.

    out: the run's folder. method: deflow, dsgan, dasr or cyclegan; None: that of a resumed run or a .toml
    file, else deflow. Models of the other methods give a TranslationResult, and are used by `make_pairs`,
    `sr_train` and `degrade`. preset: a name, a .toml file, or a configuration; None: the method's for the
    device (of a DeFlow tiny, with a GPU base). settings: overrides such as ``"fit.iterations=1000"``.
    kernels: a folder of blur kernels, by which the clean images are made small first. accept_changed_data: a
    resumed run may go on with other images than it began with. Raises DeflowError as the command does.

    >>> from deflow_cli import EncoderConfig, FitConfig, FlowConfig, RunConfig, fit
    >>> config = RunConfig(
    ...     FlowConfig(levels=2, steps=1, hidden_channels=8),
    ...     EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,)),
    ...     FitConfig(iterations=2, batch_size=4, patch_size=32, report=False),
    ... )
    >>> result = fit("clean", "noisy", out="runs/first", preset=config, device="cpu")
    >>> result.step, result.model_path.name
    (2, 'model.safetensors')
    """
    from deflow_cli.workflows.fitting import FoldersToFit, fit_by, preset_for

    out = Path(out)
    existing = out / CONFIG_FILE
    if existing.exists() and not resume:
        raise ConfigError(f"{out} holds a run already", next_step="pass resume=True, or another out")
    chosen = choose_method(method, existing, None if isinstance(preset, RunConfig) else preset)
    if existing.exists():
        config = chosen.presets.load(existing)
    else:
        named = preset if isinstance(preset, RunConfig) else preset or preset_for(chosen, device)
        base = named if isinstance(named, RunConfig) else chosen.presets.load(named)
        config = chosen.presets.apply_overrides(base, settings)
    folders = FoldersToFit(
        clean=Path(clean),
        noisy=Path(noisy),
        out=out,
        pairs=_path(pairs),
        device=device,
        resume=resume,
        accepts_changed_data=accept_changed_data,
        kernels=_path(kernels),
    )
    return fit_by(chosen, folders, config, reporter or Silent())


def estimate_kernels(
    source: str | Path,
    target: str | Path,
    *,
    method: KernelMethod = "spectrum",
    scale: int = 2,
    iterations: int = PUBLISHED_ITERATIONS,
    seed: int = 0,
    limit: int | None = None,
    batch: int | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> KernelsReport:
    """Estimate the blur kernel of each image of a folder to files, as ``deflow kernels`` does.

    iterations, seed, batch: of ``kernelgan`` alone. An image without a kernel is among the report's
    ``failed``. Raises DeflowError for what concerns all images.

    >>> from deflow_cli import estimate_kernels
    >>> report = estimate_kernels("noisy", "kernels", device="cpu")
    >>> len(report.records), [reason for _, reason in report.failed][:1]
    (0, ['64x64 is too small: a side of 96 px is needed'])
    """
    from deflow_cli.workflows.kernels import run as workflow

    settings = KernelSettings(method, scale, iterations, seed)
    request = workflow.KernelsRequest(Path(source), Path(target), settings, limit, batch, device)
    return workflow.estimate_kernels(request, reporter or Silent())


def degrade(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | None = None,
    temperature: float | tuple[float, float] | None = None,
    samples: int = 1,
    seed: int = 0,
    reverse: bool = False,
    like: str | Path | None = None,
    compression: Literal["auto", "no"] = "auto",
    tile: int | None = None,
    ext: str = "auto",
    skip_existing: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> DegradeReport:
    """Degrade an image or a folder to files, as ``deflow degrade`` does; `load_model` degrades tensors.

    temperature: strength of the noise, or the range that it is drawn from per image; None: 1, or with
    ``reverse`` 0, the posterior's mean. like: a degraded reference image or folder. compression:
    ``auto``: as the model's file records, ``no``: none. tile: side in pixels; None: chosen by memory,
    0: none. A file that cannot be read is among the report's ``failed``. Raises DeflowError for what concerns
    all images.

    >>> from deflow_cli import degrade
    >>> report = degrade("clean", "degraded", model="runs/camera", samples=2, device="cpu")
    >>> [path.name for path in report.records[0].targets], report.failed
    (['0_s01.png', '0_s02.png'], [])
    """
    from deflow_cli.workflows import degrade as workflow

    request = workflow.DegradeRequest(
        source=Path(source),
        target=Path(target),
        model=_path(model),
        temperature=_range(temperature if temperature is not None else 0.0 if reverse else 1.0),
        samples=samples,
        seed=seed,
        reverse=reverse,
        like=_path(like),
        compression=compression,
        tile=tile,
        ext=ext,
        skip_existing=skip_existing,
        device=device,
    )
    return workflow.degrade(request, reporter or Silent())


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
        model=_path(model),
        outscale=outscale,
        tile=tile,
        tile_pad=tile_pad,
        suffix=suffix,
        ext=ext,
        skip_existing=skip_existing,
        tta=tta,
        fp32=fp32,
        device=device,
        space=workflow.SpaceOptions(temperature, samples, seed, consistent, _path(sheet)),
    )
    return workflow.restore(request, reporter or Silent())


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
            temperature=_range(temperature),
            resize=resize,
            kernel_sampling=kernel_sampling,
            format=format,
            seed=seed,
        ),
        degrader=degrader if isinstance(degrader, DegraderChoice) else DegraderChoice(degrader),
        kernels=_path(kernels),
        manifest=_path(manifest),
        workers=workers,
        device=device,
        dry_run=dry_run,
        overwrite=overwrite,
        shard=None if shard is None else Shard.parse(shard, os.environ),
        merge=merge,
        engine=engine,
    )
    return workflow.make_pairs(request, reporter or Silent())


def score(
    outputs: str | Path | Sequence[str | Path],
    reference: str | Path | None = None,
    *,
    metrics: Sequence[str] = (),
    protocol: str = "rwsr",
    crop_border: int | None = None,
    luma: bool = False,
    brisque_model: str | Path | None = None,
    niqe_model: str | Path | None = None,
    lpips_net: str = "alex",
    lpips_weights: str | Path | None = None,
    pairing: str = "name",
    device: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
) -> ScoreReport:
    """Score images, one method or several, as ``deflow score`` does.

    outputs: a folder or an image for each method. reference: the clean images; None: metrics that need none.
    metrics: names; none: all that apply. crop_border: None: the protocol's. seed: of the bootstrap. Raises
    DeflowError for images without partners and for options that do not fit.

    >>> from deflow_cli import score
    >>> report = score("clean", "clean", metrics=["psnr", "ssim"], device="cpu")
    >>> [(summary.metric, summary.summary.mean) for summary in report.summaries]
    [('psnr', inf), ('ssim', 1.0)]
    """
    from deflow_cli.metrics.options import ScorerOptions
    from deflow_cli.workflows.score import run as workflow

    methods = [outputs] if isinstance(outputs, str | Path) else outputs
    request = workflow.ScoreRequest(
        outputs=tuple(Path(method) for method in methods),
        reference=_path(reference),
        metrics=tuple(metrics),
        options=ScorerOptions(
            protocol=protocol,
            crop_border=crop_border,
            luma=luma,
            brisque_model=_path(brisque_model),
            niqe_model=_path(niqe_model),
            lpips_net=lpips_net,
            lpips_weights=_path(lpips_weights),
        ),
        pairing=pairing,
        device=device,
        seed=seed,
    )
    return workflow.score(request, reporter or Silent())


def score_space(
    samples: str | Path | Mapping[float, str | Path],
    reference: str | Path,
    *,
    low: str | Path | None = None,
    scale: int | None = None,
    lpips_weights: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
) -> SpaceReport:
    """Score many super-resolutions of each image, as ``deflow score --space`` does.

    samples: a folder, or one for each temperature. low: the inputs; scale: theirs, where they are not given;
    without either LR-PSNR is left out. lpips_weights: AlexNet's; None: those on this machine, and without any
    the squared error alone is reported. seed: of the bootstrap. Raises DeflowError for names that fit no
    layout and for missing samples.

    >>> from deflow_cli import degrade, score_space
    >>> report = degrade("clean", "space", model="runs/camera", samples=2, device="cpu")
    >>> report = score_space("space", "clean", device="cpu")
    >>> means = {row.measure: row.summary.mean for row in report.summaries}
    >>> 0 < means["diversity-error"] < 100, means["pixel-std"] > 0
    (True, True)
    """
    from deflow_cli.data.samples.matching import SampleSource
    from deflow_cli.workflows.space import run as workflow

    if isinstance(samples, str | Path):
        sources = [SampleSource(Path(samples))]
    else:
        sources = [SampleSource(Path(folder), float(temperature)) for temperature, folder in samples.items()]
    request = workflow.SpaceRequest(
        tuple(sources), Path(reference), _path(low), scale, _path(lpips_weights), device, seed
    )
    return workflow.score_space(request, reporter or Silent())


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _range(temperature: float | tuple[float, float]) -> tuple[float, float]:
    """Lowest and highest temperature. Raises ConfigError unless they rise from 0 or above."""
    low, high = temperature if isinstance(temperature, tuple) else (temperature, temperature)
    if not 0 <= low <= high < float("inf"):
        raise ConfigError(
            f"temperature is {temperature!r}", next_step="pass 0.8, or a rising range such as (0.6, 1.2)"
        )
    return float(low), float(high)
