"""Page: what a run's end tells about its network, on one page beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deflow_cli.arrays import Pixels
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.checkpoints.translation.files import load_translator
from deflow_cli.data.images.files import to_pixels, to_tensor
from deflow_cli.data.images.resize import downsample
from deflow_cli.degraders.translator.tiled import ImageTranslator
from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.findings import ORDER
from deflow_cli.paths import MODEL_FILE, REPORT_FILE
from deflow_cli.reports.pages.fit_page import Points, RealismPart, TranslationPage, render_translation
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded
from deflow_cli.training.domains import Domains
from deflow_cli.training.run_folder import read_log
from deflow_cli.workflows.realism.data import SMALLEST_SIDE, NoisyImage, NoisySet
from deflow_cli.workflows.report.realism import FEWEST_IMAGES, compare_with_real
from deflow_cli.workflows.report.samples import centre_crop
from deflow_cli.workflows.report.sources import pick_subjects, sources_of_fit
from deflow_cli.workflows.translation.records import LABELS, TranslationRecords, preview_rows

IMAGES_SEEN = 8  # images of each folder
LARGEST_SIDE = 256  # px of the small pictures that are compared
SHOWN = 3
NOT_CURVES = ("step", "seconds", "skipped", "rate")


def page_of_translation(
    run_dir: Path,
    domains: Domains,
    folders: tuple[Path, Path],
    records: TranslationRecords,
    scale: int,
    reporter: Reporter,
) -> Path | None:
    """Write the page of a run whose model is on disk; None, and a warning, if that fails.

    folders: clean, noisy. scale: between the large clean pictures and the small ones. Ctrl-C leaves the page
    out: the model is there already.
    """
    try:
        return _write_page(run_dir, domains, folders, records, scale, reporter)
    except (Exception, KeyboardInterrupt) as error:
        reason = str(error) or type(error).__name__
        reporter.warn(f"no report was written ({reason}); the model is whole")
        return None


def _write_page(
    run_dir: Path,
    domains: Domains,
    folders: tuple[Path, Path],
    records: TranslationRecords,
    scale: int,
    reporter: Reporter,
) -> Path:
    model = load_translator(run_dir / MODEL_FILE, records.trainer.device)
    translator = ImageTranslator(model.generator, records.trainer.device)
    sources = sources_of_fit(domains, *folders)
    clean = pick_subjects(sources.clean, IMAGES_SEEN, reporter)
    assert sources.noisy is not None
    noisy = pick_subjects(sources.noisy, IMAGES_SEEN, reporter)
    fakes = [
        NoisyImage(subject.name, (degraded, degraded), small)  # a second sample is the same
        for subject in clean
        for small, degraded in [_degraded(subject.pixels, translator, scale)]
        if min(small.shape[:2]) >= SMALLEST_SIDE
    ]
    crops = [NoisyImage(subject.name, (centre_crop(subject.pixels, LARGEST_SIDE),)) for subject in noisy]
    real = NoisySet(sources.noisy.name, tuple(crops), len(crops))
    notes: list[str] = []
    realism = _realism(fakes, real, notes, reporter)
    rows = preview_rows(records.crops, [to_pixels(translator(i[None] / 255)) for i in records.crops.inputs])
    verdict = list(realism.sentences) if realism else []
    page = TranslationPage(
        title=f"Degradation model “{run_dir.resolve().name}”, by {model.method}",
        verdict=sorted(verdict, key=lambda sentence: ORDER[sentence[0]]),
        facts=_facts(model.method, model.facts, model.generator),
        notes=notes,
        previews=[list(zip(LABELS, row, strict=True)) for row in rows[:SHOWN]],
        history=_history(read_log(run_dir)),
        configuration=str(model.facts["config"]),
        realism=realism,
    )
    write_atomically(run_dir / REPORT_FILE, encoded(render_translation(page)))
    return run_dir / REPORT_FILE


def _degraded(pixels: Pixels, translator: ImageTranslator, scale: int) -> tuple[Pixels, Pixels]:
    """The small clean picture of a large one's centre, and its degradation."""
    large = centre_crop(pixels, LARGEST_SIDE * scale)
    large = np.ascontiguousarray(large[: large.shape[0] // scale * scale, : large.shape[1] // scale * scale])
    small = downsample(large, scale, "matlab")
    given = large if translator.scale > 1 else small
    return small, to_pixels(translator(to_tensor(given)))


def _realism(
    fakes: Sequence[NoisyImage], real: NoisySet, notes: list[str], reporter: Reporter
) -> RealismPart | None:
    """The comparison by statistics; None, and a note, where the images do not allow it."""
    if len(fakes) < FEWEST_IMAGES:
        notes.append(
            f"How real the noise is was not measured: that takes {FEWEST_IMAGES} clean images whose small "
            f"pictures have {SMALLEST_SIDE} px. deflow score --realism compares whole folders."
        )
        return None
    try:
        return compare_with_real(fakes, real, 0, True, reporter)
    except DataError as error:
        notes.append(f"How real the noise is could not be measured: {error}.")
        return None


def _facts(method: str, facts: Mapping[str, Any], generator: torch.nn.Module) -> dict[str, str]:
    held = ", ".join(f"{name} {value:.4g}" for name, value in facts["held_out"].items())
    described = {
        "Method": method,
        "Size": f"{sum(p.numel() for p in generator.parameters()) / 1e6:.3g} M parameters",
        "Clean images": f"{facts['clean_images']}, {facts['held_out_images'][0]} held out",
        "Noisy images": f"{facts['noisy_images']}, {facts['held_out_images'][1]} held out",
        "Perceptual loss": str(facts.get("perceptual", {}).get("features", "")),
        "Training": f"{facts['step']} steps, {facts['skipped_steps']} of them not finite",
        "Held out": held,
    }
    return {name: value for name, value in described.items() if value}


def _history(log: Sequence[Mapping[str, Any]]) -> dict[str, Points]:
    """Steps and values of each figure that was logged."""
    names = dict.fromkeys(name for row in log for name in row if name not in NOT_CURVES)
    return {
        name: (
            [float(row["step"]) for row in log if name in row],
            [float(row[name]) for row in log if name in row],
        )
        for name in names
    }
