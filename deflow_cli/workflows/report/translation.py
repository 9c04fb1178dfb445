"""Report translation: the page about a network of DSGAN, DASR or CycleGAN, at a run's end and made anew."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deflow_cli.arrays import Pixels
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.checkpoints.translation.files import TranslationModel, load_translator
from deflow_cli.config.translation import TranslationFitConfig
from deflow_cli.data.images.files import to_pixels, to_tensor
from deflow_cli.data.images.resize import downsample
from deflow_cli.degraders.translator.tiled import ImageTranslator
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.metrics.noise.findings import ORDER
from deflow_cli.paths import MODEL_FILE
from deflow_cli.presets.methods import fit_methods
from deflow_cli.reports.contact_sheet import residual_view
from deflow_cli.reports.pages.fit_page import Points, RealismPart, TranslationPage, render_translation
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded
from deflow_cli.training.domains import Domains
from deflow_cli.training.run_folder import RunFolders, read_log, recorded_folders
from deflow_cli.workflows.fit.verdict import VerdictLine, judge_length
from deflow_cli.workflows.realism.data import SMALLEST_SIDE, NoisyImage, NoisySet
from deflow_cli.workflows.report.content import folder_fact, made_fact, training_fact
from deflow_cli.workflows.report.realism import FEWEST_IMAGES, compare_with_real, figures_of
from deflow_cli.workflows.report.request import ReportRequest, ReportResult
from deflow_cli.workflows.report.samples import centre_crop
from deflow_cli.workflows.report.sources import (
    SMALLEST_SHOWN,
    ReportSources,
    Subject,
    find_sources,
    pick_subjects,
    sources_of_fit,
)
from deflow_cli.workflows.translation.trainer import TranslationRunConfig, trainer_class

FIT_IMAGES = 8  # of each folder that a run's own page looks at
LARGEST_SIDE = 256  # px of the small pictures that are compared
SHOWN, PICTURE_SIDE = 3, 96  # rows of pictures, and px of each
PICTURES_SHOWN = ("clean", "degraded", "residual x8", "real noisy")
NOT_CURVES = ("step", "seconds", "skipped", "rate")


def report_translation(
    request: ReportRequest,
    model_path: Path,
    run_dir: Path | None,
    reporter: Reporter,
    sources: ReportSources | None = None,
) -> ReportResult:
    """Write the page of a model file. run_dir: the run that it lies in. sources: the images, where the caller
    has them.

    With a time limit the comparison with real images trains no classifier. Raises CheckpointError for another
    kind of model, DataError for a given folder that cannot be used.
    """
    started = time.monotonic()
    device = choose_device(request.device)
    model = load_translator(model_path, device)
    config = config_of_translator(model)
    recorded = recorded_folders(run_dir) if run_dir else RunFolders()
    if sources is None:
        sides, fit = _least_sides(model, config), config.fit if config else TranslationFitConfig()
        sources = find_sources(request.clean, request.noisy, recorded, model.facts, sides, fit)
    reporter.start("report", None)
    look = _look(request, ImageTranslator(model.generator, device), _scale(model, config), sources, reporter)
    verdict = [*look.verdict, *_judged(model.facts, config)]
    verdict.sort(key=lambda sentence: ORDER[sentence[0]])
    name = run_dir.resolve().name if run_dir else model_path.stem
    page = TranslationPage(
        title=f"Degradation model “{name}”, by {model.method}",
        verdict=verdict,
        facts=facts_of_translator(model, recorded),
        notes=look.notes,
        previews=look.rows,
        history=_history(read_log(run_dir) if run_dir else ()),
        configuration=str(model.facts.get("config", "")),
        realism=look.realism,
    )
    out = request.place(model_path, run_dir)
    write_atomically(out, encoded(render_translation(page)))
    reporter.finish()
    result = ReportResult(out, model_path, verdict, look.notes, len(look.clean), len(look.noisy))
    seconds = round(time.monotonic() - started, 2)
    return replace(result, figures=figures_of(look.realism), seconds=seconds)


def page_of_translation(
    run_dir: Path, domains: Domains, folders: tuple[Path, Path], device: torch.device, reporter: Reporter
) -> Path | None:
    """Write the page of a run whose model is on disk; None, and a warning, if that fails.

    folders: clean, noisy. Ctrl-C leaves the page out: the model is there already.
    """
    request = ReportRequest(run_dir, images=FIT_IMAGES, device=str(device), seconds=0.0)
    try:
        sources = sources_of_fit(domains, *folders)
        return report_translation(request, run_dir / MODEL_FILE, run_dir, reporter, sources).report_path
    except (Exception, KeyboardInterrupt) as error:
        reporter.finish()
        reason = str(error) or type(error).__name__
        reporter.warn(f"no report was written ({reason}); the model is whole: try deflow report {run_dir}")
        return None


def config_of_translator(model: TranslationModel) -> TranslationRunConfig | None:
    """The configuration that the file records; None without one, or if this version cannot read it."""
    method = fit_methods().get(model.method)
    if method is None or "config" not in model.facts:
        return None
    try:
        config: TranslationRunConfig = method.presets.parse_toml(str(model.facts["config"]), "the model")
        return config
    except ConfigError:
        return None


def facts_of_translator(model: TranslationModel, recorded: RunFolders) -> dict[str, str]:
    """What the model is: names and values."""
    facts, generator = model.facts, model.generator
    held = facts.get("held_out", {})
    shrinks = "" if generator.scale == 1 else f"; its results are {generator.scale} times smaller"
    described = {
        "Method": model.method,
        "Size": f"{sum(p.numel() for p in generator.parameters()) / 1e6:.3g} M parameters{shrinks}",
        "Clean images": folder_fact("clean", 0, facts, recorded.clean),
        "Noisy images": folder_fact("noisy", 1, facts, recorded.noisy),
        "Perceptual loss": str(facts.get("perceptual", {}).get("features", "")),
        "Imported from": str(facts.get("imported_from", "")),
        "Assumed": "; ".join(facts.get("assumed", ())),
        "Training": training_fact(facts),
        "Held out": ", ".join(f"{name} {value:.4g}" for name, value in held.items()),
        "Made": made_fact(facts),
    }
    return {name: value for name, value in described.items() if value}


def _scale(model: TranslationModel, config: TranslationRunConfig | None) -> int:
    """Between the large clean pictures and the small ones."""
    return config.translation.scale if config else model.generator.scale


def _least_sides(model: TranslationModel, config: TranslationRunConfig | None) -> tuple[int, int]:
    """Px that clean and noisy pictures have at least, as the fit chose them."""
    if config is None:
        return SMALLEST_SHOWN, SMALLEST_SHOWN
    return trainer_class(fit_methods()[model.method]).recipe.least_sides(config.translation)


def _judged(facts: Mapping[str, Any], config: TranslationRunConfig | None) -> list[VerdictLine]:
    length = (config.fit.iterations, config.fit.time_budget) if config else None
    return judge_length(facts, length, "with a lower fit.learning_rate")


# -- the model at work ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _TranslationLook:
    """What was seen of the model at work."""

    clean: Sequence[Subject]
    noisy: Sequence[Subject]
    rows: list[list[tuple[str, Pixels]]]
    realism: RealismPart | None
    notes: list[str]

    @property
    def verdict(self) -> list[VerdictLine]:
        return list(self.realism.sentences) if self.realism else []


def _look(
    request: ReportRequest,
    translator: ImageTranslator,
    scale: int,
    sources: ReportSources,
    reporter: Reporter,
) -> _TranslationLook:
    """Degrade the clean images, and hold them against the noisy ones."""
    clean = pick_subjects(sources.clean, request.images, reporter)
    noisy = pick_subjects(sources.noisy, request.images, reporter) if sources.noisy else []
    if not clean:
        raise DataError(
            f"{sources.clean.name}: none of its images can be read", next_step="pass another --clean"
        )
    pairs = [(subject.name, *_degraded(subject.pixels, translator, scale)) for subject in clean]
    notes = list(sources.notes)
    name = sources.noisy.name if sources.noisy else "none"
    realism = _realism(pairs, name, noisy, request, notes, reporter)
    return _TranslationLook(clean, noisy, _rows(pairs[:SHOWN], noisy), realism, notes)


def _degraded(pixels: Pixels, translator: ImageTranslator, scale: int) -> tuple[Pixels, Pixels]:
    """The small clean picture of a large one's centre, and its degradation."""
    large = centre_crop(pixels, LARGEST_SIDE * scale)
    large = np.ascontiguousarray(large[: large.shape[0] // scale * scale, : large.shape[1] // scale * scale])
    small = downsample(large, scale, "matlab")
    given = large if translator.scale > 1 else small
    return small, to_pixels(translator(to_tensor(given)))


def _rows(
    pairs: Sequence[tuple[str, Pixels, Pixels]], noisy: Sequence[Subject]
) -> list[list[tuple[str, Pixels]]]:
    """Middles of pictures: clean, degraded, their difference, and an unrelated noisy one if there is any."""
    rows = []
    for index, (_, *pair) in enumerate(pairs):
        small, degraded = (centre_crop(pixels, PICTURE_SIDE) for pixels in pair)
        residual = (degraded.astype(np.float32) - small.astype(np.float32)) / 255
        pictures = [small, degraded, residual_view(residual)]
        if noisy:
            pictures.append(centre_crop(noisy[index % len(noisy)].pixels, PICTURE_SIDE))
        rows.append(list(zip(PICTURES_SHOWN, pictures, strict=False)))
    return rows


def _realism(
    pairs: Sequence[tuple[str, Pixels, Pixels]],
    real_name: str,
    noisy: Sequence[Subject],
    request: ReportRequest,
    notes: list[str],
    reporter: Reporter,
) -> RealismPart | None:
    """The comparison with real noisy images; None, and a note, where the images do not allow it."""
    fakes = [
        NoisyImage(name, (degraded, degraded), small)  # a second sample is the same
        for name, small, degraded in pairs
        if min(small.shape[:2]) >= SMALLEST_SIDE
    ]
    if len(fakes) < FEWEST_IMAGES:
        notes.append(
            f"How real the noise is was not measured: that takes {FEWEST_IMAGES} clean images whose small "
            f"pictures have {SMALLEST_SIDE} px. deflow score --realism compares whole folders."
        )
        return None
    crops = [(subject.name, centre_crop(subject.pixels, LARGEST_SIDE)) for subject in noisy]
    real = tuple(NoisyImage(name, (crop,)) for name, crop in crops if min(crop.shape[:2]) >= SMALLEST_SIDE)
    quick = request.seconds is not None
    try:
        return compare_with_real(fakes, NoisySet(real_name, real, len(real)), request.seed, quick, reporter)
    except DataError as error:
        notes.append(f"How real the noise is could not be measured: {error}.")
        return None


def _history(log: Sequence[Mapping[str, Any]]) -> dict[str, Points]:
    """Steps and values of each figure that was logged."""
    names = dict.fromkeys(name for row in log for name in row if name not in NOT_CURVES)
    return {
        name: (
            [float(row["step"]) for row in log if isinstance(row.get(name), int | float)],
            [float(row[name]) for row in log if isinstance(row.get(name), int | float)],
        )
        for name in names
    }
