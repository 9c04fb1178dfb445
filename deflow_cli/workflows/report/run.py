"""`deflow report`: one page about a fitted model, to decide by whether to use it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from deflow_cli.checkpoints.format import load_model, write_atomically
from deflow_cli.checkpoints.registry import local_copy, method_of_model
from deflow_cli.config.fit import RunConfig
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.errors import CheckpointError, DataError
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.metrics.noise.findings import ORDER
from deflow_cli.paths import MODEL_FILE
from deflow_cli.presets.reader import FIT
from deflow_cli.reports.pages.fit_page import FitPage, RealismPart, Sentence, render_fit
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.memory import available_memory
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.texts import encoded
from deflow_cli.training.domains import Domains
from deflow_cli.training.run_folder import RunFolders, is_run, read_log, recorded_folders
from deflow_cli.workflows.fit.verdict import judge_training
from deflow_cli.workflows.realism.data import SMALLEST_SIDE, NoisyImage, NoisySet
from deflow_cli.workflows.report.content import (
    components_of,
    config_of,
    facts_of,
    history_of,
    public,
    spectra_of,
)
from deflow_cli.workflows.report.previews import PREVIEW_ROWS, Previews, make_previews
from deflow_cli.workflows.report.realism import FEWEST_IMAGES, compare_with_real, figures_of
from deflow_cli.workflows.report.request import ReportRequest, ReportResult
from deflow_cli.workflows.report.samples import SampleDraw, Sampler, centre_crop
from deflow_cli.workflows.report.sources import (
    ReportSources,
    Subject,
    find_sources,
    pick_subjects,
    sources_of_fit,
)
from deflow_cli.workflows.report.translation import report_translation

COMPARED_SIDE = 256  # px of the crops that are compared with real ones
SAMPLED, SAMPLES = 4, 2  # so many of them, so often: enough to see whether samples differ
PREVIEW_SHARE, SAMPLE_SHARE = 0.4, 0.7  # of the time allowed, after which the next part begins
FIT_SHARE, FIT_LEAST, FIT_MOST = 0.05, 5.0, 30.0  # of a fit's time, and seconds, that its page may take


@hears_remarks
def report(
    request: ReportRequest, reporter: Reporter | None = None, sources: ReportSources | None = None
) -> ReportResult:
    """Write the page, of a model of any method. sources: the images, where the caller has them already.

    Raises CheckpointError for what is no model, DataError for a given folder that cannot be used.
    """
    clock = _Clock(request.seconds)
    reporter = reporter or Silent()
    model_path, run_dir = _locate(request.source)
    if method_of_model(model_path) is not None:
        return report_translation(request, model_path, run_dir, reporter, sources)
    device = choose_device(request.device)
    model, facts = load_model(model_path, device)
    config = config_of(facts)
    recorded = recorded_folders(run_dir) if run_dir else RunFolders()
    if sources is None:
        fit = (config or RunConfig()).fit
        sides = (fit.patch_size, fit.patch_size)
        sources = find_sources(request.clean, request.noisy, recorded, facts, sides, fit)
    reporter.start("report", None)
    translator = Translator(model, device, recorder=GraphedFunction, free=available_memory(device))
    sampler = Sampler(translator, request.seed, SampleCompression.recorded(facts, model_path))
    look = _look(request, sampler, sources, clock, reporter)
    log = read_log(run_dir) if run_dir else None
    verdict = [*look.verdict, *judge_training(facts, config, log)]
    verdict.sort(key=lambda sentence: ORDER[sentence[0]])
    page = FitPage(
        title=f"Degradation model “{(run_dir and facts['title']) or model_path.stem}”",
        subtitle="What it learnt, what it does, and whether to use it",
        verdict=verdict,
        facts=facts_of(model, model_path, facts, config, recorded),
        notes=look.notes,
        previews=look.previews.rows,
        grain=look.previews.grain,
        strength=look.previews.strength,
        history=history_of(log or [], config),
        spectra=spectra_of(model),
        components=components_of(model, facts, sources.noisy, look.previews.by_component, reporter),
        configuration=FIT.to_toml(public(config)) if config else "",
        realism=look.realism,
    )
    out = request.place(model_path, run_dir)
    write_atomically(out, encoded(render_fit(page)))
    reporter.finish()
    result = ReportResult(out, model_path, verdict, list(look.notes), len(look.clean), len(look.noisy))
    return replace(result, figures=figures_of(look.realism), seconds=round(clock.seconds, 2))


def report_of_fit(
    run_dir: Path,
    domains: Domains,
    folders: tuple[Path, Path],
    seconds: float,
    device: torch.device,
    reporter: Reporter,
) -> Path | None:
    """The page at the end of a fit that took ``seconds``; None, and a warning, if it fails.

    folders: clean, noisy. Ctrl-C leaves the page out: the model is on disk already.
    """
    limit = min(max(FIT_SHARE * seconds, FIT_LEAST), FIT_MOST)
    try:
        sources = sources_of_fit(domains, *folders)
        request = ReportRequest(run_dir, device=str(device), seconds=limit)
        return report(request, reporter, sources).report_path
    except (Exception, KeyboardInterrupt) as error:
        reporter.finish()
        reason = str(error) or type(error).__name__
        reporter.warn(f"no report was written ({reason}); the model is whole: try deflow report {run_dir}")
        return None


def _locate(source: Path) -> tuple[Path, Path | None]:
    """The model file, and the run folder it lies in, if it does. Raises CheckpointError without a model."""
    source = local_copy(source, MODEL_FILE).path
    path = source / MODEL_FILE if source.is_dir() else source
    if not path.is_file():
        missing = f"a folder without {MODEL_FILE}" if source.is_dir() else "no such model"
        raise CheckpointError(
            f"{source}: {missing}", next_step="pass a model file, or a run folder whose fit has ended"
        )
    return path, path.parent if path.name == MODEL_FILE and is_run(path.parent) else None


class _Clock:
    """How much of a time limit is used up."""

    def __init__(self, limit: float | None) -> None:
        self._started, self.limit = time.monotonic(), limit

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def beyond(self, share: float) -> bool:
        return self.limit is not None and self.seconds > share * self.limit


@dataclass
class _Look:
    """What was seen of the model at work."""

    clean: Sequence[Subject]
    noisy: Sequence[Subject]
    previews: Previews
    notes: list[str]
    verdict: list[Sentence] = field(default_factory=list)
    realism: RealismPart | None = None


def _look(
    request: ReportRequest,
    sampler: Sampler,
    sources: ReportSources,
    clock: _Clock,
    reporter: Reporter,
) -> _Look:
    """Draw samples of the clean images and hold them against the noisy ones."""
    clean = pick_subjects(sources.clean, request.images, reporter)
    noisy = pick_subjects(sources.noisy, request.images, reporter) if sources.noisy else []
    if not clean:
        raise DataError(
            f"{sources.clean.name}: none of its images can be read", next_step="pass another --clean"
        )
    previews = make_previews(sampler, clean[:PREVIEW_ROWS], noisy, lambda: clock.beyond(PREVIEW_SHARE))
    look = _Look(clean, noisy, previews, [*sources.notes, *previews.notes])
    name = sources.noisy.name if sources.noisy else "none"
    look.realism = _realism(sampler, look, name, request, clock, reporter)
    if look.realism is not None:
        look.verdict = list(look.realism.sentences)
    return look


def _realism(
    sampler: Sampler, look: _Look, real_name: str, request: ReportRequest, clock: _Clock, reporter: Reporter
) -> RealismPart | None:
    """The comparison with real noisy images; None, and a note, where time or images do not allow it."""
    in_haste = clock.limit is not None
    # in haste the previews' samples, though small, are used again
    fakes = list(look.previews.samples) if in_haste else []
    for number, subject in enumerate(look.clean[len(fakes) :]):
        if clock.beyond(SAMPLE_SHARE):
            break
        count = SAMPLES if number < SAMPLED else 1
        crop = centre_crop(subject.pixels, COMPARED_SIDE)
        drawn = sampler.draw(crop, subject.name, [SampleDraw(1.0, sample) for sample in range(count)])
        fakes.append(NoisyImage(subject.name, tuple(drawn), crop))
    fakes = [image for image in fakes if min(image.samples[0].shape[:2]) >= SMALLEST_SIDE]
    if len(fakes) < FEWEST_IMAGES:
        late = clock.beyond(SAMPLE_SHARE)
        reason = (
            "there was little time"
            if late
            else f"that takes {FEWEST_IMAGES} clean images of {SMALLEST_SIDE} px"
        )
        look.notes.append(
            f"How real the noise is was not measured: {reason}. Run deflow report to have it measured."
        )
        return None
    crops = [(subject.name, centre_crop(subject.pixels, COMPARED_SIDE)) for subject in look.noisy]
    real = tuple(NoisyImage(name, (crop,)) for name, crop in crops if min(crop.shape[:2]) >= SMALLEST_SIDE)
    try:
        return compare_with_real(
            fakes, NoisySet(real_name, real, len(real)), request.seed, in_haste, reporter
        )
    except DataError as error:
        look.notes.append(f"How real the noise is could not be measured: {error}.")
        return None
