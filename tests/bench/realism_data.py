"""Domains of the realism bench: unpaired train pictures and a paired test of each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from isp_recipe import SEEDS, Split, degraded, generator_for, isp_degrade, noise_alone
from PIL import Image

from deflow_cli.arrays import Pixels
from deflow_cli.data.camera_noise import camera_noise
from deflow_cli.data.photos import packaged_photos

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Pair:
    """One picture of the paired test: uint8 H x W x 3 each."""

    name: str
    clean: Pixels
    noisy: Pixels


@dataclass(frozen=True)
class Pictures:
    """Named pictures, read anew each time that they are iterated over."""

    paths: Sequence[Path]
    load: Callable[[Path], Pixels]

    def __call__(self) -> Iterator[Pixels]:
        return (self.load(path) for path in self.paths)

    def named(self) -> Iterator[tuple[str, Pixels]]:
        return ((path.stem, self.load(path)) for path in self.paths)


@dataclass(frozen=True)
class Domain:
    """Unpaired train pictures, the paired test, and other draws of the true degradation where it is known."""

    clean: Pictures
    noisy: Pictures
    pairs: list[Pair]
    redraw: Callable[[Pair, int], Pixels] | None = None  # (pair, seed) -> noisy
    test_clean: Sequence[Path] = ()  # all clean pictures that may be drawn upon
    noise_alone: Callable[[Pair, int], Pixels] | None = None  # likewise, without fixed changes of scenes


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise SystemExit(f"{folder}: no picture found; --data needs the layout that README.md describes")
    return found


def reader(paths: Sequence[Path]) -> Pictures:
    return Pictures(paths, read)


def pair_up(clean: Path, noisy: Path) -> list[Pair]:
    by_stem = {path.stem: path for path in files(clean)}
    return [Pair(path.stem, read(by_stem[path.stem]), read(path)) for path in files(noisy)]


def synthetic_domain(data: Path, name: str) -> Domain:
    root = data / "synthetic"
    listed = (root / "train_clean.txt").read_text(encoding="utf-8").split()
    train = [data / "bsd" / "train" / file for file in listed]
    pairs = pair_up(data / "bsd" / "test", root / name / "test_noisy")
    spec = importlib.util.spec_from_file_location("recipes", root / "degrade_recipes.py")
    assert spec is not None
    assert spec.loader is not None
    recipes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipes)
    return Domain(
        reader(train),
        reader(files(root / name / "train_noisy")),
        pairs,
        lambda pair, seed: recipes.degrade(pair.clean, name, seed=2000 + seed, key=pair.name)[0],
        files(data / "bsd" / "test"),
    )


def isp_domain(data: Path) -> Domain:
    """Half of bsd's train pictures untouched, the other half and the test through `isp_recipe`."""
    split = Split.of(data)
    return Domain(
        reader(split.train_clean),
        Pictures(split.train_noisy, lambda path: degraded(path, SEEDS["train"])),
        [Pair(path.stem, read(path), degraded(path, SEEDS["test"])) for path in split.test],
        lambda pair, seed: isp_degrade(pair.clean, generator_for(2000 + seed, pair.name)),
        files(data / "bsd" / "test"),
        lambda pair, seed: noise_alone(pair.clean, generator_for(2000 + seed, pair.name)),
    )


def camera_domain(data: Path, name: str) -> Domain:
    root = data / name
    return Domain(
        reader(files(root / "train" / "clean")),
        reader(files(root / "train" / "noisy")),
        pair_up(root / "test" / "clean", root / "test" / "noisy"),
    )


def photos_domain() -> Domain:
    """Packaged photographs under the packaged recipe; tested on fresh noise over half A."""
    clean, to_degrade = packaged_photos()

    def noise(name: str, pixels: Pixels, seed: int) -> Pixels:
        return camera_noise(pixels, np.random.default_rng([seed, *name.encode()]))

    return Domain(
        reader(clean),
        Pictures(to_degrade, lambda path: noise(path.stem, read(path), 0)),
        [Pair(name, pixels, noise(name, pixels, 1000)) for name, pixels in reader(clean).named()],
        lambda pair, seed: noise(pair.name, pair.clean, 2000 + seed),
        clean,
    )


def tested_on_noisy(domain: Domain, clean_of_noisy: Sequence[Path]) -> Domain:
    """The domain with its own noisy train pictures for a test, whose clean ones only the test sees."""
    clean = {path.stem: path for path in clean_of_noisy}
    pairs = [Pair(stem, read(clean[stem]), noisy) for stem, noisy in domain.noisy.named()]
    return replace(domain, pairs=pairs)


def load_domain(data: Path | None, name: str) -> Domain:
    if name == "photos":
        return photos_domain()
    if data is None:
        raise SystemExit(f"--domain {name} needs --data DIR")
    if name == "isp":
        return isp_domain(data)
    return camera_domain(data, name) if (data / name / "test").is_dir() else synthetic_domain(data, name)


def with_draws(domain: Domain, draws: int) -> Domain:
    """The paired test replaced by ``draws`` degradations of every clean test picture."""
    if domain.redraw is None:
        raise SystemExit("--draws needs a domain whose recipe is known: a synthetic one, isp or photos")
    blanks = [Pair(path.stem, pixels, pixels) for path in domain.test_clean for pixels in (read(path),)]
    pairs = [
        Pair(blank.name, blank.clean, domain.redraw(blank, 1 + seed))
        for seed in range(draws)
        for blank in blanks
    ]
    return replace(domain, pairs=pairs)
