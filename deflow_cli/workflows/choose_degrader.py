"""Choose degrader: from a name and folders to a degrader that is ready, and the facts that make it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deflow_cli.checkpoints.format import load_model
from deflow_cli.checkpoints.registry import FoundModel
from deflow_cli.data.images.files import list_images, read_rgb8
from deflow_cli.data.images.resize import Rule, downsample
from deflow_cli.degraders.base import DEGRADERS, Degrader, make_degrader
from deflow_cli.degraders.patches import MAX_VARIANCE, MIN_MEAN, SIDE, NoisePatches
from deflow_cli.degraders.spectral import SpectralNoise
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.metrics.noise.high_pass import WHITE_GAIN, UnpairedStatistics
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.degrade import default_model
from deflow_cli.workflows.realism.data import MOST_IMAGES, centre

Pixels = NDArray[np.uint8]
Facts = dict[str, Any]

GRAY_LEVELS = 255.0
OPTIONS = {  # of a degrader, with the names of those that use it
    "model": ("deflow",),
    "sigma": ("white-noise",),
    "noisy": ("white-noise", "spectral", "noise-patches"),
    "clean": ("spectral",),
    "flattest": ("spectral",),
    "patch_size": ("noise-patches",),
    "patch_variance": ("noise-patches",),
    "patch_mean": ("noise-patches",),
}
CUDA_TILE = 768  # px; on the CPU tiles go by a fixed budget: what is free at the time must not show in bits


@dataclass(frozen=True)
class DegraderChoice:
    """A degrader as a user names it.

    model: of ``deflow``; None: the default one. sigma: of ``white-noise``, in grey levels of 255; None: tuned
    on ``noisy``. noisy: degraded pictures, for all but deflow and none. clean: for ``spectral``; None: the
    clean small pictures of the data set itself. flattest: for ``spectral``, the share of each picture's
    patches that counts; below 1 the contents' powers are matched too. patch_*: for ``noise-patches``.
    """

    name: str = "deflow"
    model: Path | None = None
    sigma: float | None = None
    noisy: Path | None = None
    clean: Path | None = None
    flattest: float = 1.0
    patch_size: int = SIDE
    patch_variance: float = MAX_VARIANCE
    patch_mean: float = MIN_MEAN

    def __post_init__(self) -> None:
        if self.name not in DEGRADERS:
            raise ConfigError(
                f"degrader {self.name!r} is unknown", next_step=f"use one of {', '.join(DEGRADERS)}"
            )
        if self.sigma is not None and not 0 <= self.sigma < GRAY_LEVELS:
            raise ConfigError(
                f"sigma {self.sigma:g}; it is in grey levels of 255", next_step="use for example --sigma 8"
            )
        if not 0 < self.flattest <= 1:
            raise ConfigError(
                f"the flattest share is {self.flattest:g}", next_step="use more than 0, up to 1"
            )
        needs = self.name in ("spectral", "noise-patches") or (
            self.name == "white-noise" and self.sigma is None
        )
        if needs and self.noisy is None:
            alone = " or --sigma" if self.name == "white-noise" else ""
            raise ConfigError(
                f"the degrader {self.name} learns from degraded pictures",
                next_step=f"add --noisy DIR{alone}",
            )

    def check_alone(self) -> None:
        """Raise ConfigError for an option that another degrader uses: it would change nothing, unsaid."""
        for option, users in OPTIONS.items():
            given = getattr(self, option) != getattr(DegraderChoice, option)
            if given and self.name not in users:
                raise ConfigError(
                    f"--{option.replace('_', '-')} is nothing to the degrader {self.name}",
                    next_step=f"leave it out, or use --degrader {' or '.join(users)}",
                )


@dataclass(frozen=True)
class ChosenDegrader:
    """A degrader ready for use. facts: JSON-ready, equal for equal degraders. model: where it was found."""

    degrader: Degrader
    facts: Facts
    model: FoundModel | None = None


def choose_degrader(
    choice: DegraderChoice,
    clean: Sequence[Path],
    reporter: Reporter,
    *,
    scale: int,
    rule: Rule = "matlab",
    device: torch.device | str = "cpu",
) -> ChosenDegrader:
    """Load or estimate a degrader. clean: large clean pictures that a data set is made of.

    Raises DataError, ConfigError or CheckpointError where the model or the folders will not do.
    """
    choice.check_alone()
    if choice.name == "none":
        return ChosenDegrader(make_degrader("none"), {"name": "none"})
    if choice.name == "deflow":
        return _flow(choice, torch.device(device), reporter)
    if choice.name == "white-noise":
        return _white(choice, reporter)
    if choice.name == "spectral":
        return _spectral(choice, clean, reporter, scale, rule)
    return _patches(choice, reporter, scale)


def _flow(choice: DegraderChoice, device: torch.device, reporter: Reporter) -> ChosenDegrader:
    found = default_model(choice.model)
    model, _ = load_model(found.path, device)
    reporter.note(f"model: {found.path} ({found.origin}), on {device}")
    tile = CUDA_TILE if device.type == "cuda" else None
    facts = {"name": "deflow", "model": {"file": found.path.name, "sha256": file_sha256(found.path)}}
    return ChosenDegrader(make_degrader("deflow", model=model, device=device, tile=tile), facts, found)


def _white(choice: DegraderChoice, reporter: Reporter) -> ChosenDegrader:
    """White noise of the std given, or the one that makes flat parts as noisy as the noisy folder's.

    There the picture minus its 9 x 9 blur is taken for noise; the blur keeps 0.943 of white noise's std.
    """
    facts: Facts = {"name": "white-noise"}
    sigma = choice.sigma
    if sigma is None:
        assert choice.noisy is not None
        pictures = _Pictures(choice.noisy, reporter)
        sigma = GRAY_LEVELS * UnpairedStatistics.of(pictures).std / WHITE_GAIN
        facts["tuned_on"] = pictures.facts()
        reporter.note(
            f"white noise of {sigma:.2f} grey levels, as the flat patches of {choice.noisy.name} have it"
        )
    elif 0 < sigma < 0.5:
        reporter.warn(f"sigma is {sigma:g} grey levels of 255, hardly any noise")
    facts["sigma"] = sigma
    return ChosenDegrader(make_degrader("white-noise", sigma=sigma / GRAY_LEVELS), facts)


def _spectral(
    choice: DegraderChoice, clean: Sequence[Path], reporter: Reporter, scale: int, rule: Rule
) -> ChosenDegrader:
    assert choice.noisy is not None
    noisy = _Pictures(choice.noisy, reporter)
    if choice.clean is not None:
        cleans = _Pictures(choice.clean, reporter)
    else:
        cleans = _Pictures(clean, reporter, scale, rule)
    share = choice.flattest
    try:
        noise = SpectralNoise.from_images(cleans, noisy, quiet=share, match_content=share < 1)
    except DataError as error:
        small = f" made {scale} times smaller" if choice.clean is None and scale > 1 else ""
        raise DataError(
            f"{error} (noisy: {choice.noisy}, clean: {choice.clean or 'HR'}{small})",
            next_step="pass a folder of larger pictures as --clean DIR or --noisy DIR",
        ) from error
    facts = {
        "name": "spectral",
        "flattest": share,
        "noisy": noisy.facts(),
        "clean": "HR" if choice.clean is None else cleans.facts(),
    }
    return ChosenDegrader(make_degrader("spectral", spectral=noise), facts)


def _patches(choice: DegraderChoice, reporter: Reporter, scale: int) -> ChosenDegrader:
    assert choice.noisy is not None
    pictures = _Pictures(choice.noisy, reporter, whole=True)
    try:
        found = NoisePatches.collect(pictures, choice.patch_size, choice.patch_variance, choice.patch_mean)
    except DataError as error:
        raise DataError(f"{choice.noisy}: {error}", next_step=error.next_step) from error
    reporter.note(f"{len(found.tiles)} noise patches of {found.side} px from {choice.noisy.name}")
    facts = {
        "name": "noise-patches",
        "size": choice.patch_size,
        "variance": choice.patch_variance,
        "mean": choice.patch_mean,
        "patches": len(found.tiles),
        "noisy": pictures.facts(),
    }
    return ChosenDegrader(make_degrader("noise-patches", patches=found, scale=scale), facts)


class _Pictures:
    """Pictures to measure, read one at a time; files that cannot be read are left out with a warning.

    Of a folder of more than 200, that many spread evenly, and of each its middle; ``whole``: all of all.
    Above scale 1 they are made small first.
    """

    def __init__(
        self,
        source: Path | Sequence[Path],
        reporter: Reporter,
        scale: int = 1,
        rule: Rule = "matlab",
        whole: bool = False,
    ) -> None:
        self._reporter, self._scale, self._rule, self._whole = reporter, scale, rule, whole
        root: Path | None
        if isinstance(source, Path):
            root, files = source, list_images(source)
            if not files:
                raise DataError(f"{source}: holds no images", next_step="pass a folder of images")
        else:
            root, files = None, list(source)
        if not whole and len(files) > MOST_IMAGES:
            places = np.linspace(0, len(files) - 1, MOST_IMAGES).round().astype(int)
            files = [files[place] for place in np.unique(places)]
        self._files = files
        self._title = f"reading {root.name}" if root is not None else "reading clean images"
        self._keys = [file.relative_to(root).as_posix() if root is not None else file.name for file in files]
        self._read: dict[str, str] = {}

    def __iter__(self) -> Iterator[Pixels]:
        self._read = {}
        self._reporter.start(self._title, len(self._files))
        for done, (key, file) in enumerate(zip(self._keys, self._files, strict=True), start=1):
            try:
                pixels = read_rgb8(file)
            except DataError as error:
                self._reporter.warn(f"{error}; left out")
                continue
            self._read[key] = file_sha256(file)
            if self._scale > 1:
                pixels = downsample(
                    pixels, self._scale, "matlab" if self._rule == "matlab-double" else self._rule
                )
            yield pixels if self._whole else centre(pixels)
            self._reporter.update(done)
        self._reporter.finish()

    def facts(self) -> Facts:
        """How many were read, and a hash of their names and contents."""
        lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(self._read.items()))
        return {"images": len(self._read), "sha256": hashlib.sha256(lines.encode()).hexdigest()}


def choice_from_facts(facts: Mapping[str, Any], places: DegraderChoice) -> DegraderChoice:
    """The choice that facts describe; model and folders are those of ``places``."""
    name = str(facts["name"])
    if name == "noise-patches":
        rules = {key: facts[key] for key in ("size", "variance", "mean")}
        return DegraderChoice(
            name, noisy=places.noisy, **{f"patch_{key}": value for key, value in rules.items()}
        )
    if name == "spectral":
        clean = None if facts["clean"] == "HR" else places.clean
        if clean is None and facts["clean"] != "HR":
            raise ConfigError(
                "the manifest's spectral noise was estimated with a folder of clean pictures",
                next_step="add --clean DIR",
            )
        return DegraderChoice(name, noisy=places.noisy, clean=clean, flattest=float(facts["flattest"]))
    if name == "white-noise":
        return DegraderChoice(name, sigma=float(facts["sigma"]))
    return DegraderChoice(name, model=places.model)


def check_facts(found: Facts, recorded: Mapping[str, Any]) -> None:
    """Raise DataError unless a degrader is the recorded one, wherever its files lie."""
    if found["name"] == "deflow":
        ours, theirs = found["model"], recorded["model"]
        if ours["sha256"] != theirs["sha256"]:
            raise DataError(
                f"{ours['file']}: not the manifest's model {theirs['file']}"
                f" (sha256 {theirs['sha256'][:12]}...)",
                next_step="pass that model as --model",
            )
        return
    for side in ("noisy", "clean"):
        if found["name"] != "white-noise" and found.get(side) != recorded.get(side):
            raise DataError(
                f"the {side} pictures are not those that the manifest's {found['name']} degrader saw",
                next_step=f"pass that folder as --{side}",
            )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
