"""`deflow demo`: the main job, end to end, on photographs that come with the package."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deflow_cli.config.fit import RunConfig
from deflow_cli.data.camera_noise import camera_noise
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.photos import packaged_photos
from deflow_cli.presets.reader import FIT
from deflow_cli.reports.contact_sheet import contact_sheet, residual_view
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import derived_seed
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.run import FitRequest, fit

CROP = 160
PHOTOS_SHOWN = 4
EVERY = 3  # of the scenes of half B, so many make one that is kept apart to score on
TEXT = """\
What to look at, in each row:
  clean          a photograph the model saw only as clean
  model 1, 2     two samples of its degradation: different noise, the same picture
  residual x8    what the model added: its grain should look like the last column's, stronger where the
                 picture is bright or dark as in the real one, with no trace of edges
  real noisy     another scene with the camera noise the model was to learn
  real x8        that scene's true noise, known here because the demo made it (the model never saw it)"""


@dataclass(frozen=True)
class DemoReport:
    """Where things are and what to look at."""

    contact_sheet: Path
    model_path: Path
    text: str
    report_path: Path | None = None


@dataclass(frozen=True)
class DemoData:
    """Folders of photographs to try things on; ``gt`` and ``lq`` are pairs of scenes found nowhere else."""

    clean: Path
    noisy: Path
    gt: Path
    lq: Path


def write_demo_data(out: Path) -> DemoData:
    """Lay out the packaged photographs as a user would have them, and pairs to score on.

    clean/: half A. noisy/: half B with camera noise, but for every third scene, both of whose crops become
    the pairs test/gt and test/lq. The recipe and the seed are the demo's. Files of these names are replaced.
    Raises DataError when the package has no photographs.
    """
    data = DemoData(out / "clean", out / "noisy", out / "test" / "gt", out / "test" / "lq")
    clean, other = packaged_photos()
    scenes = sorted({_scene(path) for path in other})
    apart = set(scenes[EVERY - 1 :: EVERY])
    held_out = [path for path in other if _scene(path) in apart]
    _copy(clean, data.clean)
    _copy(held_out, data.gt)
    make_noisy(data.noisy, paths=[path for path in other if path not in held_out])
    make_noisy(data.lq, paths=held_out)
    return data


def make_noisy(folder: Path, seed: int = 0, paths: Sequence[Path] | None = None) -> dict[str, Path]:
    """Degrade photographs, all of half B unless given, by the camera-noise recipe; returns source by name."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = {}
    for path in packaged_photos()[1] if paths is None else paths:
        rng = np.random.default_rng(derived_seed(seed, "camera", path.name))
        write_image(folder / path.name, Image(camera_noise(read_rgb8(path), rng)))
        sources[path.name] = path
    return sources


def demo(
    out: Path,
    time_budget: float,
    device: str,
    reporter: Reporter,
    preset: RunConfig | None = None,
    samples: SampleSizes | None = None,
) -> DemoReport:
    """Fit a model for ``time_budget`` seconds, degrade the clean photographs twice, draw a contact sheet.

    preset: what to fit, but for its length; None: the preset `tiny`. samples: how many patches the
    fit looks at outside of its steps. Raises DataError when the package has no photographs.
    """
    clean_paths, _ = packaged_photos()
    clean, noisy, run = out / "clean", out / "noisy", out / "run"
    _copy(clean_paths, clean)
    sources = make_noisy(noisy)
    config = preset or FIT.load("tiny")
    settings = dataclasses.replace(config.fit, iterations=0, time_budget=time_budget)
    config = dataclasses.replace(config, fit=settings)
    sizes = samples or SampleSizes()
    result = fit(FitRequest(clean, noisy, run, config, device=device, samples=sizes), reporter)
    request = DegradeRequest(clean, out / "degraded", model=result.model_path, samples=2, device=device)
    report = degrade(request, reporter)
    rows = []
    names = sorted(sources)
    for index, record in enumerate(
        report.records[:: max(1, len(report.records) // PHOTOS_SHOWN)][:PHOTOS_SHOWN]
    ):
        name = names[index * len(names) // PHOTOS_SHOWN]
        rows.append(_row(record.source, record.targets, noisy / name, sources[name]))
    labels = ["clean", "model 1", "model 2", "residual x8", "real noisy", "real x8"]
    sheet = out / "contact_sheet.png"
    write_image(sheet, Image(contact_sheet(rows, labels, scale=2)))
    return DemoReport(sheet, result.model_path, TEXT, result.report_path)


def _scene(path: Path) -> str:
    """The photograph that a picture was cut from: coffee of coffee-wide.png."""
    return path.stem.split("-")[0]


def _copy(paths: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copyfile(path, folder / path.name)


def _row(clean: Path, samples: list[Path], noisy: Path, source: Path) -> list[np.ndarray]:
    """One row of the sheet: central crops."""
    x, first, second, real, truth = (_crop(read_rgb8(p)) for p in (clean, *samples[:2], noisy, source))
    added = (first.astype(np.float32) - x) / 255
    true = (real.astype(np.float32) - truth) / 255
    return [x, first, second, residual_view(added), real, residual_view(true)]


def _crop(pixels: np.ndarray) -> np.ndarray:
    top, left = ((side - CROP) // 2 for side in pixels.shape[:2])
    return pixels[max(top, 0) : max(top, 0) + CROP, max(left, 0) : max(left, 0) + CROP]
