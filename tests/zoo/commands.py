"""Commands: what each of them makes of a folder of animals, in one run over all."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.files import read_header, read_image
from deflow_cli.data.images.folders import scan_folder
from deflow_cli.data.images.remarks import remarks_to
from deflow_cli.data.pairs.formats import MANIFEST, open_pairs, pair_name
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import DeflowError
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from deflow_cli.workflows.pairs.plan import PairSettings
from deflow_cli.workflows.pairs.run import MakePairsRequest, make_pairs
from deflow_cli.workflows.restore import RestoreRequest, restore
from deflow_cli.workflows.score.run import ScoreRequest, csv_text, score
from tests.inference.small import small_model
from tests.zoo.animals import Animal, Right
from tests.zoo.pngs import plain_file

COMMANDS = ("read", "degrade", "restore", "score", "make-pairs", "fit")
LEAST_SIDE = 16  # of images that pairs are made of, and patches of the scan


@dataclass(frozen=True)
class Outcome:
    """How an animal came through a command. problem: what is wrong with that; empty: it is as expected."""

    refused: str = ""
    problem: str = ""


def save_models(folder: Path) -> tuple[Path, Path]:
    """A small degradation model, and a small restorer of scale 2."""
    model, restorer = folder / "model.safetensors", folder / "restorer.safetensors"
    save_model(model, small_model(), {"step": 1})
    torch.manual_seed(0)
    save_restorer(restorer, RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1)), {})
    return model, restorer


class Visit:
    """A folder with animals (``all``), and one with the simplest files of the same pixels (``truth``).

    Each command runs once over both, when its outcomes are asked for first: what it makes of an animal must
    be what it makes of the simple file of the same name.
    """

    def __init__(self, folder: Path, animals: Sequence[Animal]) -> None:
        self.folder = folder
        self.all, self.truth = folder / "all", folder / "truth"
        self.animals = animals
        self.model, self.restorer = save_models(folder)
        for animal in animals:
            self._write(self.all / animal.path, animal.data)
            if isinstance(animal.expected, Right):
                self._write(self.truth / animal.path, plain_file(animal.expected))

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    # -- commands: by path below ``all``, the reason of a refusal, or what is wrong ------------------------

    @functools.cached_property
    def degraded(self) -> dict[str, Outcome]:
        def run(source: Path, target: Path) -> tuple[dict[str, Path], dict[str, str]]:
            report = degrade(DegradeRequest(source, target, self.model, ext="png", device="cpu"), Silent())
            done = {self._key(record.source, source): record.targets[0] for record in report.records}
            return done, {self._key(path, source): text for path, text in report.failed}

        return self._compared(run, "degraded")

    @functools.cached_property
    def restored(self) -> dict[str, Outcome]:
        def run(source: Path, target: Path) -> tuple[dict[str, Path], dict[str, str]]:
            request = RestoreRequest(source, target, self.restorer, ext="png", device="cpu")
            report = restore(request, Silent())
            done = {self._key(record.source, source): record.target for record in report.records}  # type: ignore[union-attr]
            return done, {self._key(path, source): text for path, text in report.failed}

        return self._compared(run, "restored")

    def _compared(self, run, name: str) -> dict[str, Outcome]:  # type: ignore[no-untyped-def]
        done, failed = run(self.all, self.folder / name)
        right_ones, _ = run(self.truth, self.folder / f"{name}-truth")
        outcomes = {}
        for animal in self.animals:
            key = animal.path
            if key in failed:
                named = str(self.all / key) in failed[key]
                outcomes[key] = Outcome(failed[key], "" if named else "the error does not name the file")
            elif key not in done:
                outcomes[key] = Outcome(problem="it is in no list of the report")
            elif key in right_ones:
                ours, theirs = (_pixels(paths[key]) for paths in (done, right_ones))
                same = ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
                outcomes[key] = Outcome(problem="" if same else "other pixels than of the simple file")
            else:
                outcomes[key] = Outcome()
        return outcomes

    @functools.cached_property
    def scored(self) -> dict[str, Outcome]:
        """PSNR against the simple files; what has none is scored without a reference."""
        outcomes = {}
        sound, doubtful = self.folder / "sound", self.folder / "doubtful"
        for animal in self.animals:
            is_sound = isinstance(animal.expected, Right)
            self._write((sound if is_sound else doubtful) / animal.path, animal.data)
        for folder, reference, metric in ((sound, self.truth, "psnr"), (doubtful, None, "piqe")):
            if not folder.is_dir():
                continue
            request = ScoreRequest((folder,), reference, (metric,), ScorerOptions(), device="cpu")
            report = score(request, Silent())
            csv_text(report)
            paths = {image.name: image.path for image in report.methods[0].images}
            for one in report.scores:
                key = self._key(paths[one.image], folder)
                wrong = reference is not None and one.readable and not math.isinf(one.value)
                problem = f"PSNR {one.value} to the simple file, {one.reason}" if wrong else ""
                outcomes[key] = Outcome("" if one.readable else one.reason, problem)
        return outcomes

    @functools.cached_property
    def paired(self) -> dict[str, Outcome]:
        """The clean pictures of a data set are the pixels, rounded to 8 bits."""
        target = self.folder / "pairs"
        settings = PairSettings(scale=1)
        request = MakePairsRequest(
            self.all, target, settings, DegraderChoice("none"), workers=1, device="cpu"
        )
        report = make_pairs(request, Silent())
        outcomes = {key: Outcome(reason) for key, reason in report.left_out}
        images = json.loads((target / MANIFEST).read_text("utf-8"))["images"]
        keys = {pair_name(index): image["key"] for index, image in enumerate(images)}
        expected = {animal.path: animal.expected for animal in self.animals}
        for key, gt, _ in open_pairs(target):
            truth = expected[keys[key]]
            problem = ""
            if isinstance(truth, Right) and not np.array_equal(gt, _rounded(truth.pixels)):
                problem = "other pixels in gt"
            outcomes[keys[key]] = Outcome(problem=problem)
        return outcomes

    @functools.cached_property
    def scanned(self) -> dict[str, Outcome]:
        scan = scan_folder(self.all, LEAST_SIDE)
        outcomes = {self._key(path, self.all): Outcome(reason) for path, reason in scan.broken}
        outcomes |= {self._key(path, self.all): Outcome("too small") for path in scan.too_small}
        expected = {animal.path: animal.expected for animal in self.animals}
        for path, size in zip(scan.paths, scan.sizes, strict=True):
            truth = expected[scan.key(path)]
            wrong = isinstance(truth, Right) and size != truth.pixels.shape[1::-1]
            outcomes[scan.key(path)] = Outcome(problem=f"its size is said to be {size}" if wrong else "")
        return outcomes

    @staticmethod
    def _key(path: Path, folder: Path) -> str:
        return path.relative_to(folder).as_posix()


def read(path: Path) -> tuple[Outcome, Right | None]:
    """An animal by the functions that all commands read by: pixels, alpha, and what was remarked on."""
    said: list[str] = []
    try:
        with remarks_to(said.append):
            image = read_image(path)
            header = read_header(path)
    except DeflowError as error:
        named = str(path) in str(error)
        return Outcome(str(error), "" if named else "the error does not name the file"), None
    alike = (header.height, header.width) == image.pixels.shape[:2]
    alike &= header.has_alpha == (image.alpha is not None)
    found = Right(image.pixels, image.alpha, "\n".join(said))
    return Outcome(problem="" if alike else "its header and its pixels disagree"), found


def _pixels(path: Path) -> np.ndarray:
    array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    assert array is not None
    return array


def _rounded(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
