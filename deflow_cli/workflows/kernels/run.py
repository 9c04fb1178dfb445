"""`deflow kernels`: the blur kernel of each picture of a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from deflow_cli import __version__
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.config.kernels import KernelSettings
from deflow_cli.data.blur.pools import KernelPool, KernelRecord, kernel_bytes, read_pool
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.folders import file_sha256, reason_of
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.errors import ConfigError, DataError, DeflowError
from deflow_cli.paths import POOL_FILE, clear_temporaries
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded
from deflow_cli.training.run_folder import environment_facts
from deflow_cli.workflows.kernels.methods import (
    KernelEstimate,
    KernelFinder,
    KernelGANFinder,
    SpectrumFinder,
    Task,
)
from deflow_cli.workflows.kernels.records import (
    SHEET_STEM,
    describe_kernel,
    file_names,
    kernel_png,
    write_sheet,
)

_GPU_BATCH = 16  # pictures at once


@dataclass(frozen=True)
class KernelsRequest:
    """What `deflow kernels` was asked for.

    source: a folder of pictures. target: the folder to write. limit: only the first so many pictures; None:
    all. batch: pictures that KernelGAN trains at once; None: 16 on a GPU, else 1, so that the bytes of a
    kernel do not depend on the other pictures.
    """

    source: Path
    target: Path
    settings: KernelSettings = field(default_factory=KernelSettings)
    limit: int | None = None
    batch: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("batch", self.batch)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value}", next_step="use 1 or more")


@dataclass(frozen=True)
class KernelsReport:
    """What was done. kept: pictures whose kernels were there already. failed: picture and reason."""

    target: Path
    settings: KernelSettings
    records: list[KernelRecord] = field(default_factory=list)
    kept: list[KernelRecord] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


@hears_remarks
def estimate_kernels(request: KernelsRequest, reporter: Reporter) -> KernelsReport:
    """KernelEstimate the kernel of each picture; one that fails is named, and the others are done.

    Kernels that the target already holds of the same picture by the same settings are kept. Raises DataError
    for a folder without pictures or a target of other settings, DeviceError for a missing device.
    """
    device = choose_device(request.device)
    paths = _pictures(request)
    pool = _present_pool(request)
    run = _Run(request, pool, paths, device, reporter)
    return run.go()


def _pictures(request: KernelsRequest) -> list[Path]:
    out = request.target.resolve()
    found = [path for path in list_images(request.source) if not path.resolve().is_relative_to(out)]
    if not found:
        raise DataError(f"{request.source}: no image found", next_step="pass a folder of images as IN")
    return found


def _present_pool(request: KernelsRequest) -> KernelPool:
    """What the target holds. Raises DataError where that is something else than this request goes on with."""
    target = request.target
    if target.exists() and not target.is_dir():
        raise DataError(f"{target}: is a file, not a folder", next_step="choose another OUT")
    pool = read_pool(target)
    if pool is None:
        strange = (
            sorted(path.name for path in target.iterdir() if path.name[0] != ".") if target.exists() else []
        )
        if strange:
            raise DataError(
                f"{target}: holds what is no pool of kernels: {name_some(strange)}",
                next_step="choose another OUT",
            )
        return KernelPool(request.settings)
    if pool.settings != request.settings:
        raise DataError(
            f"{target}: holds kernels of other settings ({pool.settings.text}; now {request.settings.text})",
            next_step="choose another OUT, or remove that folder",
        )
    return pool


class _Run:
    """One call: the pictures that are left, in groups, and the list that grows with them."""

    def __init__(
        self,
        request: KernelsRequest,
        pool: KernelPool,
        paths: Sequence[Path],
        device: torch.device,
        reporter: Reporter,
    ) -> None:
        self.request, self.device, self.reporter = request, device, reporter
        self.paths = {path.relative_to(request.source).as_posix(): path for path in paths}
        self.files = file_names(list(self.paths))
        self.known = {record.image: record for record in pool.records}
        self.before = pool
        self.report = KernelsReport(request.target, request.settings)
        settings = request.settings
        self.method: KernelFinder = SpectrumFinder(settings.scale)
        if settings.method == "kernelgan":
            self.method = KernelGANFinder(settings.scale, settings.iterations, settings.seed, device)
        grouped = device.type == "cuda" and settings.method == "kernelgan"
        self.batch = request.batch or (_GPU_BATCH if grouped else 1)

    def go(self) -> KernelsReport:
        request, report = self.request, self.report
        for folder in {(request.target / file).parent for file in self.files.values()}:
            clear_temporaries(folder)
        self.reporter.note(f"kernels: {request.settings.text}, on {self.device}")
        self.reporter.start("kernels", min(len(self.paths), request.limit or len(self.paths)))
        waiting: list[tuple[Task, str]] = []
        for key in list(self.paths)[: request.limit]:
            task = self._task(key)
            if task is not None:
                waiting.append(task)
            if len(waiting) == self.batch:
                self._do(waiting)
                waiting = []
            self._update()
        if waiting:
            self._do(waiting)
            self._update()
        self._write_list()
        self.reporter.finish()
        records = sorted([*report.kept, *report.records], key=lambda record: record.image)
        if records:
            write_sheet(request.target / f"{SHEET_STEM}.png", request.target, request.source, records)
        return report

    def _task(self, key: str) -> tuple[Task, str] | None:
        """A picture to do and its file's checksum; None for one that is done already, or that cannot be."""
        path = self.paths[key]
        try:
            sha256 = file_sha256(path)
            known = self.known.get(key)
            if (
                known is not None
                and known.image_sha256 == sha256
                and (self.request.target / known.file).is_file()
            ):
                self.report.kept.append(known)
                return None
            task = Task(key, read_rgb8(path))
            self.method.check(task)
        except DataError as error:
            self._fail(key, error)
            return None
        return task, sha256

    def _do(self, group: Sequence[tuple[Task, str]]) -> None:
        """KernelEstimate and write a group; the list is written after its files."""
        started = time.perf_counter()

        def tell(share: float) -> None:
            self._update(training=f"{share:.0%}")

        results = self.method.estimate([task for task, _ in group], tell)
        seconds = (time.perf_counter() - started) / len(group)
        for (task, sha256), result in zip(group, results, strict=True):
            if isinstance(result, KernelEstimate):
                self.report.records.append(self._write(task.key, sha256, result, seconds))
            else:
                self._fail(task.key, result)
        self._write_list()

    def _forget(self, key: str) -> None:
        """Remove the kernel of what the picture was before: readers take all that the folder holds."""
        if key in self.known:
            before = self.request.target / self.known[key].file
            for path in (before, before.with_suffix(".png")):
                path.unlink(missing_ok=True)

    def _write(self, key: str, sha256: str, estimate: KernelEstimate, seconds: float) -> KernelRecord:
        self._forget(key)
        path = self.request.target / self.files[key]
        write_atomically(path.with_suffix(".png"), kernel_png(estimate.kernel))
        write_atomically(path, kernel_bytes(estimate.kernel))
        return describe_kernel(
            key,
            sha256,
            self.files[key],
            estimate.kernel,
            self.request.settings.scale,
            seconds,
            estimate.found,
        )

    def _fail(self, key: str, error: DeflowError) -> None:
        self._forget(key)
        self.report.failed.append((self.paths[key], reason_of(error, self.paths[key])))

    def _update(self, **fields: str) -> None:
        report = self.report
        counted = len(report.kept) + len(report.records) + len(report.failed)
        self.reporter.update(counted, failed=len(report.failed), **fields)

    def _write_list(self) -> None:
        """Write the list of the target's kernels: of this call, and of earlier ones with other pictures."""
        records = {record.image: record for record in [*self.before.records, *self.report.kept]}
        records |= {record.image: record for record in self.report.records}
        failed = dict(self.before.failed)
        failed |= {
            path.relative_to(self.request.source).as_posix(): reason for path, reason in self.report.failed
        }
        for image in failed.keys() & {record.image for record in [*self.report.kept, *self.report.records]}:
            del failed[image]
        for image in failed:
            records.pop(image, None)
        pool = KernelPool(
            self.request.settings,
            [records[image] for image in sorted(records)],
            sorted(failed.items()),
        )
        facts = {"deflow": __version__, **environment_facts(self.device)}
        write_atomically(self.request.target / POOL_FILE, encoded(pool.text(facts)))
