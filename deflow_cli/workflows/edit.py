"""Edit: images through the latents of an SRFlow, to files and a sheet of before and after."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels, Window
from deflow_cli.checkpoints.registry import FoundModel
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.config.editing import Edit
from deflow_cli.data.images.files import Image, read_image, to_pixels, to_tensor, write_image
from deflow_cli.data.images.outputs import PlannedOutput
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.errors import CheckpointError, ConfigError, DataError, naming
from deflow_cli.inference.editing import Edited, edited, working_sides
from deflow_cli.inference.super_resolving import SuperResolver, strayed_share
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.paths import is_hub_name
from deflow_cli.reports.contact_sheet import contact_sheet
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.memory import available_memory
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.image_jobs import Tell, plan_images, run_images
from deflow_cli.workflows.restore import find_restorer

SHEET_IMAGES = 8  # rows of a sheet
SHEET_RESULTS = 8  # results in a row; of more, evenly chosen ones
SHEET_WINDOW = 256  # px of an image that a sheet shows, around the mask's middle or the image's
LEAST_MASK = 0.05  # below it a mask counts as 0: JPEG leaves faint traces around what is white


@dataclass(frozen=True)
class EditRequest:
    """What `deflow edit` was asked for.

    source: an image or a folder. target: an image or a folder to write. edit: the mode and its numbers.
    model: a file or a run folder; None: the newest of a run here. other: the second image. mask: an image,
    white where the image is edited, black where it stays. sheet: a PNG to write. ext: ``auto`` or an image
    suffix.
    """

    source: Path
    target: Path
    edit: Edit
    model: Path | None = None
    other: Path | None = None
    mask: Path | None = None
    sheet: Path | None = None
    ext: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        self.edit.check_inputs(has_other=self.other is not None, has_mask=self.mask is not None)
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise ConfigError(f"--sheet {self.sheet}: a sheet is a PNG", next_step="use a name with .png")


@dataclass(frozen=True)
class EditRecord:
    """One image done.

    mirrored: (width, height) that it was mirrored to for the work, since its sides are no multiples of what
    the model needs; the results are cut to the image's size again. lr_psnr: of each result and the small
    version of the image, dB, 8 bits. strayed: share of the results' values that left [0, 1] by more than 0.05
    before they were clamped. spread_before, spread_after: root mean square of the latents, inside the mask if
    there is one. outside_mean, outside_most: change of the pixels where the mask is black, in grey levels, of
    all results; None without a mask.
    """

    source: Path
    targets: list[Path]
    width: int
    height: int
    seconds: float
    mirrored: tuple[int, int] | None
    lr_psnr: list[float]
    strayed: float
    spread_before: float
    spread_after: float
    outside_mean: float | None = None
    outside_most: float | None = None


@dataclass(frozen=True)
class EditReport:
    """What was done: by which model and how it was found, and each image's fate."""

    model: Path
    model_origin: str
    scale: int
    mode: str
    records: list[EditRecord] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    sheet: Path | None = None


@hears_remarks
def edit(request: EditRequest, reporter: Reporter) -> EditReport:
    """Edit images to files; a bad file is reported and the rest goes on.

    Raises DeflowError for what concerns all images: no SRFlow, no images, no such device, a second image or a
    mask that cannot be read.
    """
    planned = plan_images(
        request.source, request.target, ext=request.ext, samples=request.edit.count, keep_alpha=True
    )
    found, model = _find_model(request.model, reporter)
    device = choose_device(request.device)
    job = _EditJob(request, SuperResolver(model, device, free=available_memory(device)))
    reporter.note(
        f"restorer: {found.path} ({found.origin}), SRFlow x{model.scale}, {request.edit.mode} at temperature "
        f"{request.edit.temperature:g}, on {device}"
    )
    done = run_images(planned, job.one, reporter, title="editing", skip_existing=False)
    for size in sorted({record.mirrored for record in done.records if record.mirrored is not None}):
        reporter.note(f"sides mirrored to {size[0]}x{size[1]} for the work, and cut again")
    sheet = job.write_sheet()
    return EditReport(
        found.path, found.origin, model.scale, request.edit.mode, done.records, done.failed, sheet
    )


def read_mask(path: Path) -> Tensor:
    """A mask from an image: 1 where it is white and opaque, 0 where black or transparent; 1 1 H W.

    Raises DataError where nothing is white.
    """
    image = read_image(path)
    mask = to_tensor(image.pixels).mean(1, keepdim=True)
    if image.alpha is not None:
        mask = mask * to_tensor(image.alpha[..., None])
    mask = torch.where(mask < LEAST_MASK, 0.0, mask)
    if not bool(mask.any()):
        raise DataError(f"{path}: the mask is all black", next_step="paint white where the image is edited")
    return mask


def _find_model(given: Path | None, reporter: Reporter) -> tuple[FoundModel, SRFlow]:
    step = "pass an SRFlow as --model; deflow sr-train PAIRS --arch srflow trains one"
    try:
        found = find_restorer(given, Path.cwd())
    except CheckpointError as error:
        if given is not None and is_hub_name(given):
            raise  # the Hub's reasons have next steps of their own
        raise CheckpointError(str(error), next_step=step) from error
    model, _ = load_restorer(found.path, tell=reporter.note)
    if not isinstance(model, SRFlow):
        raise CheckpointError(f"{found.path}: an ESRGAN has no latents to edit", next_step=step)
    return found, model


class _EditJob:
    """Edits files by one model, and gathers the rows of the sheet."""

    def __init__(self, request: EditRequest, resolver: SuperResolver) -> None:
        self._request, self._resolver = request, resolver
        self._other = None if request.other is None else read_image(request.other)
        self._mask = None if request.mask is None else read_mask(request.mask)
        self._rows: list[tuple[str, list[Pixels]]] = []

    def one(self, item: PlannedOutput, tell: Tell) -> EditRecord:
        """Read, edit and write one image. Raises DeflowError naming the file."""
        started = time.perf_counter()
        image = read_image(item.source)
        self._check_sizes(item.source, image)
        y = to_tensor(image.pixels)
        other = None if self._other is None else to_tensor(self._other.pixels)
        with naming(item.source):
            result = edited(self._resolver, self._request.edit, y, other, self._mask, key=item.key)
        for target, found in zip(item.targets, result.images, strict=True):
            write_image(target, replace(image, pixels=to_pixels(found, image.bits)))
        if self._request.sheet is not None and len(self._rows) < SHEET_IMAGES:
            self._rows.append((item.source.stem[:16], self._row(y, other, result)))
        height, width = image.pixels.shape[:2]
        work_height, work_width = working_sides(self._resolver.model, height, width)
        mean, most = self._change_outside(y, result)
        return EditRecord(
            item.source,
            list(item.targets),
            width,
            height,
            time.perf_counter() - started,
            None if (work_height, work_width) == (height, width) else (work_width, work_height),
            result.lr_psnr,
            float(np.mean([strayed_share(found) for found in result.images])),
            result.spread_before,
            result.spread_after,
            mean,
            most,
        )

    def write_sheet(self) -> Path | None:
        """Write the rows gathered, if a sheet is wanted; its path."""
        path = self._request.sheet
        if path is None or not self._rows:
            return None
        names, rows = zip(*self._rows, strict=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, Image(contact_sheet(list(rows), self._titles(), list(names))))
        return path

    def _check_sizes(self, source: Path, image: Image) -> None:
        height, width = image.pixels.shape[:2]
        sizes = []
        if self._other is not None:
            sizes.append((self._request.other, self._other.pixels.shape[:2]))
        if self._mask is not None:
            sizes.append((self._request.mask, tuple(self._mask.shape[-2:])))
        for path, size in sizes:
            if size != (height, width):
                raise DataError(
                    f"{path}: {size[1]}x{size[0]} pixels, but {source} has {width}x{height}; "
                    "all must be of one size"
                )

    def _change_outside(self, y: Tensor, result: Edited) -> tuple[float | None, float | None]:
        """Mean and largest change of 8-bit values where the mask is black."""
        if self._mask is None:
            return None, None
        outside = self._mask[0, 0].numpy() == 0
        if not outside.any():
            return None, None
        before = to_pixels(y)[outside].astype(np.float64)
        changes = [np.abs(to_pixels(found)[outside] - before) for found in result.images]
        return float(np.mean(changes)), float(np.max(changes))

    # -- the sheet ------------------------------------------------------------------------------------

    def _shown(self) -> list[int]:
        count = self._request.edit.count
        return sorted({round(i) for i in np.linspace(0, count - 1, min(count, SHEET_RESULTS))})

    def _titles(self) -> list[str]:
        mode, count = self._request.edit.mode, self._request.edit.count
        second = {"transfer": ["pasted"], "style": ["detail of"], "interpolate": ["other"]}.get(mode, [])
        results = [mode] if count == 1 else [f"{mode} {index + 1}" for index in self._shown()]
        return ["image", *(second if self._other is not None else []), *results]

    def _row(self, y: Tensor, other: Tensor | None, result: Edited) -> list[Pixels]:
        pictures = [y]
        second = other if result.pasted is None else result.pasted
        if second is not None:
            pictures.append(second)
        pictures += [result.images[index] for index in self._shown()]
        window = self._window(*y.shape[-2:])
        return [to_pixels(picture)[window.slices] for picture in pictures]

    def _window(self, height: int, width: int) -> Window:
        """The part that a sheet shows."""
        centre = [height / 2, width / 2]
        if self._mask is not None:
            places = self._mask[0, 0].nonzero().double()
            centre = ((places.amin(0) + places.amax(0)) / 2).tolist()
        corner = [
            int(min(max(middle - SHEET_WINDOW / 2, 0), max(side - SHEET_WINDOW, 0)))
            for middle, side in zip(centre, (height, width), strict=True)
        ]
        return Window(corner[0], corner[1], min(SHEET_WINDOW, height), min(SHEET_WINDOW, width))
