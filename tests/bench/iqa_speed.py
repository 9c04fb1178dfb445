"""How fast are the image-quality metrics? Ours beside piq, scikit-video and scikit-image, in one run.

    uv run --with piq --with scikit-video python tests/bench/iqa_speed.py [--brisque-model allmodel]

Seconds for all images, one per call, from uint8 pixels in memory, on ``--threads`` workers of one thread each
(as `deflow score` works), ours and theirs alike; median of runs, in turn, and median of the ratios.
``--data`` takes a folder of images of one size instead of synthetic ones of 481x321 (the noisy partner of
each is made here). The mean difference of the values tells whether a library computes the same.

- piq fetches its BRISQUE vectors from the network: here both are handed the same ones, those of
  ``--brisque-model`` (LIVE's allmodel) or as many random ones. Its half scale drops the last row of an odd
  size, so values differ. Its SSIM runs without its default downsampling.
- scikit-video 1.1.11, the newest release, cannot run its NIQE with a SciPy or NumPy of the last years
  (scipy.misc.imresize and numpy.int are gone): here both are put back. Its figures are not LIVE's, so values
  differ.
- None of them has PIQE; the SSIM of protocol A is scikit-image's.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from deflow_cli.metrics.nss import matlab_gray
from deflow_cli.metrics.quality.brisque import LIVE_RANGES, Brisque, BrisqueModel, read_brisque_model
from deflow_cli.metrics.quality.fidelity import Psnr, Ssim
from deflow_cli.metrics.quality.niqe import Niqe, read_niqe_model
from deflow_cli.metrics.quality.piqe import Piqe
from deflow_cli.paths import weights_folder
from tests.metrics.quality.iqa_golden import as_batch, synth

Score = Callable[[Tensor, Tensor], float]
"""Of an image and its reference, uint8 1 x 3 x H x W."""


def make_images(options: argparse.Namespace) -> list[tuple[Tensor, Tensor]]:
    """(noisy, clean) pairs."""
    if options.data is None:
        cleans = [synth(321, 481, 10 * seed) for seed in range(options.images)]
    else:
        files = sorted(p for p in options.data.iterdir() if p.suffix.lower() in (".png", ".jpg", ".bmp"))
        cleans = [np.asarray(Image.open(path).convert("RGB")) for path in files[: options.images]]
    rng = np.random.default_rng(0)
    pairs = []
    for clean in cleans:
        noisy = np.clip(clean + rng.integers(-12, 13, clean.shape), 0, 255).astype(np.uint8)
        pairs.append((as_batch(noisy), as_batch(clean)))
    return pairs


def brisque_model(path: Path | None) -> BrisqueModel:
    if path is not None:
        return read_brisque_model(path)
    generator = torch.Generator().manual_seed(0)
    vectors = 2 * torch.rand(774, 36, generator=generator, dtype=torch.float64) - 1
    coefficients = 2048 * torch.rand(774, generator=generator, dtype=torch.float64) - 1024
    low, high = torch.tensor(LIVE_RANGES, dtype=torch.float64).unbind(1)
    return BrisqueModel(vectors, coefficients, 0.05, -153.591, low, high, "random")


def ours(model: BrisqueModel) -> dict[str, Score]:
    scorers: dict[str, Any] = {
        "NIQE": Niqe(read_niqe_model(weights_folder() / "niqe-live.safetensors")),
        "BRISQUE": Brisque(model),
        "PIQE": Piqe(),
        "PSNR": Psnr(),
        "SSIM 7x7": Ssim("uniform"),
        "SSIM 11x11": Ssim("gaussian"),
    }
    return {name: lambda a, b, s=scorer: s(a, b)[0].value for name, scorer in scorers.items()}


def import_or_tell(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return None


def piqs(model: BrisqueModel) -> dict[str, Score]:
    piq = import_or_tell("piq")
    if piq is None:
        return {}
    module = sys.modules["piq.brisque"]

    def handed(*_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Fresh copies: piq transposes what it gets in place."""
        return model.coefficients.float(), model.vectors.float()

    module.load_url = handed  # type: ignore[attr-defined]

    def floats(image: Tensor) -> Tensor:
        return image.float()

    return {
        "BRISQUE": lambda a, b: float(piq.brisque(floats(a), data_range=255)),
        "PSNR": lambda a, b: float(piq.psnr(floats(a), floats(b), data_range=255)),
        "SSIM 11x11": lambda a, b: float(piq.ssim(floats(a), floats(b), data_range=255, downsample=False)),
    }


def imresize(image: np.ndarray, size: float, interp: str = "bicubic", mode: str = "F") -> np.ndarray:
    """What SciPy had until 1.2 for this use."""
    assert (interp, mode) == ("bicubic", "F")
    height, width = (int(side * size) for side in image.shape)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def scikit_videos() -> dict[str, Score]:
    measure = import_or_tell("skvideo.measure")
    if measure is None:
        return {}
    misc = importlib.import_module("scipy.misc") if not hasattr(sys.modules["scipy"], "misc") else None
    misc = misc or sys.modules["scipy"].misc
    misc.imresize = imresize  # type: ignore[attr-defined]
    setattr(np, "int", int)  # noqa: B010 - plain assignment reads as a use of the old alias
    return {"NIQE": lambda a, b: float(measure.niqe(matlab_gray(a)[0].numpy())[0])}


def scikit_images() -> dict[str, Score]:
    metrics = import_or_tell("skimage.metrics")
    if metrics is None:
        return {}

    def ssim(a: Tensor, b: Tensor) -> float:
        return float(metrics.structural_similarity(a[0].numpy(), b[0].numpy(), channel_axis=0))

    return {"SSIM 7x7": ssim}


def seconds(pool: Executor, score: Score, pairs: list[tuple[Tensor, Tensor]]) -> tuple[float, list[float]]:
    start = time.perf_counter()
    values = list(pool.map(lambda pair: score(*pair), pairs))
    return time.perf_counter() - start, values


def compare(
    pool: Executor, own: Score, other: Score | None, pairs: list[tuple[Tensor, Tensor]], runs: int
) -> list[str]:
    """Cells: own seconds, their seconds, ratio, mean difference of values."""
    for score in (own, other):
        if score is not None:
            score(*pairs[0])  # the first call does not count
    own_times, other_times = [], []
    own_values: list[float] = []
    other_values: list[float] = []
    for _ in range(runs):
        elapsed, own_values = seconds(pool, own, pairs)
        own_times.append(elapsed)
        if other is not None:
            elapsed, other_values = seconds(pool, other, pairs)
            other_times.append(elapsed)
    cells = [f"{statistics.median(own_times):.2f}"]
    if other is None:
        return [*cells, "", "", ""]
    ratios = [b / a for a, b in zip(own_times, other_times, strict=True)]
    difference = float(np.mean(np.abs(np.array(own_values) - np.array(other_values))))
    return [
        *cells,
        f"{statistics.median(other_times):.2f}",
        f"{statistics.median(ratios):.1f}",
        f"{difference:.2g}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of images of one size; default: synthetic")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--brisque-model", type=Path, help="LIVE's allmodel; default: random vectors")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(options.threads, initializer=torch.set_num_threads, initargs=(1,))
    pairs = make_images(options)
    model = brisque_model(options.brisque_model)
    rivals = {"piq": piqs(model), "scikit-video, repaired": scikit_videos(), "scikit-image": scikit_images()}
    height, width = pairs[0][0].shape[-2:]
    print(
        f"{len(pairs)} images of {width}x{height}, {options.threads} workers, median of {options.runs}, "
        f"torch {torch.__version__}, Python {platform.python_version()}\n"
    )
    print("| metric | ours, s | theirs, s | theirs / ours | mean difference | library |")
    print("| --- | --- | --- | --- | --- | --- |")
    total = 0.0
    for name, own in ours(model).items():
        found = [(library, scores[name]) for library, scores in rivals.items() if name in scores]
        library, other = found[0] if found else ("", None)
        cells = compare(pool, own, other, pairs, options.runs)
        total += float(cells[0]) if name != "SSIM 7x7" else 0.0
        print(f"| {name} | {' | '.join(cells)} | {library} |", flush=True)
    print(f"\nNIQE + BRISQUE + PIQE + PSNR + SSIM 11x11: {total:.2f} s")


if __name__ == "__main__":
    main()
