"""How well known blurs are recovered: by the power spectrum, by KernelGAN and its alternatives, by a guess.

Pictures are blurred by known kernels and down-sampled by 2, and each method estimates the kernels from the
result. Printed for each kernel, and over all: the kernel's PSNR (peak: the greatest true weight; over 17 x 17
weights), the relative error of its covariance (Frobenius norm) and its correlation with the truth, as medians
with quartiles.

    DEFLOW_DATA=DIR python tests/bench/kernelgan.py
    DEFLOW_DATA=DIR python tests/bench/kernelgan.py --methods spectrum,kernelgan,guess --iterations 800
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deflow_cli.arrays import Array, Pixels
from deflow_cli.data.blur.kernels import BlurKernel, blur_and_downsample
from deflow_cli.data.blur.shapes import (
    bicubic_kernel,
    blur_width,
    centred_kernel,
    gaussian_kernel,
    kernel_covariance,
)
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.photos import packaged_photos
from deflow_cli.errors import DeflowError
from deflow_cli.models.kernelgan.training import KernelGANTraining
from deflow_cli.workflows.kernels import methods
from deflow_cli.workflows.kernels.methods import KernelGANFinder, SpectrumFinder, Task

SIDE = 33  # px of the support that kernels are compared on
CPU = torch.device("cpu")
# Narrow and wide standard deviation in px, and the angle of the wide axis.
GAUSSIANS = ((1.0, 2.2, 34), (1.0, 1.6, 80), (0.8, 2.4, 120), (1.5, 2.0, 10), (1.8, 2.6, 60), (1.2, 1.2, 0))

Pair = tuple[Pixels, Array]  # a small picture and the kernel that made it
Estimator = Callable[[Sequence[Pixels], int], list[Array]]


def gaussian(narrow: float, wide: float, angle: float) -> Array:
    turn = math.radians(angle)
    along, across = np.array([math.sin(turn), math.cos(turn)]), np.array([math.cos(turn), -math.sin(turn)])
    covariance = wide**2 * np.outer(along, along) + narrow**2 * np.outer(across, across)
    return gaussian_kernel(covariance, 13, 0.5)


def drawn(shape: Callable[[Array, Array], Array]) -> Array:
    """A shape, 1 inside and 0 outside, averaged over pixels, with its middle half a pixel off."""
    fine = 9
    places = (np.arange(13 * fine) + 0.5) / fine - 0.5 - 6.5
    y, x = np.meshgrid(places, places, indexing="ij")
    kernel = shape(y, x).astype(float).reshape(13, fine, 13, fine).mean((1, 3))
    return np.asarray(kernel / kernel.sum())


def line(length: float, angle: float) -> Array:
    """Motion: a line one pixel wide."""
    turn = math.radians(angle)
    return drawn(
        lambda y, x: (
            (np.abs(x * math.cos(turn) + y * math.sin(turn)) < length / 2)
            & (np.abs(y * math.cos(turn) - x * math.sin(turn)) < 0.5)
        )
    )


def disk(radius: float) -> Array:
    """Defocus."""
    return drawn(lambda y, x: y * y + x * x < radius * radius)


def kernels_of(kind: str) -> dict[str, Array]:
    if kind == "gaussian":
        return {f"{n:g} x {w:g} px, {a:g}°": gaussian(n, w, a) for n, w, a in GAUSSIANS}
    return {
        "line of 6 px": line(6, 30),
        "line of 4 px": line(4, 100),
        "disk of 2 px": disk(2),
        "disk of 3 px": disk(3),
    }


def pictures(count: int, folder: str) -> list[Pixels]:
    data = os.environ.get("DEFLOW_DATA")
    if data is None:
        files = [path for half in packaged_photos() for path in half]
    else:
        files = sorted((Path(data) / "bsd" / folder).glob("*.jpg"))
    return [read_rgb8(path) for path in files[:: len(files) // count][:count]]


# -- the estimators ----------------------------------------------------------------------------------------


def estimates(finder: SpectrumFinder | KernelGANFinder, images: Sequence[Pixels]) -> list[Array]:
    tasks = [Task(str(number), image) for number, image in enumerate(images)]
    results = finder.estimate(tasks, lambda share: None)
    for result in results:
        if isinstance(result, DeflowError):
            raise result
    return [result.kernel for result in results if not isinstance(result, DeflowError)]


class _Trained(KernelGANFinder):
    """KernelGAN by another training, or with another end."""

    training: type[KernelGANTraining] = KernelGANTraining
    cleans = True

    def __init__(self, iterations: int, seed: int) -> None:
        super().__init__(2, iterations, seed, CPU)

    def estimate_all(self, images: Sequence[Pixels]) -> list[Array]:
        usual = methods.KernelGANTraining
        methods.KernelGANTraining = self.training  # type: ignore[misc]
        try:
            return estimates(self, images)
        finally:
            methods.KernelGANTraining = usual  # type: ignore[misc]


class DirectKernels(nn.Module):
    """The kernels themselves as the parameters, instead of the linear network."""

    def __init__(self, starts: Array) -> None:
        super().__init__()
        self.direct = nn.Parameter(torch.from_numpy(starts).float())

    def kernels(self) -> torch.Tensor:
        return self.direct * 1.0


class DirectTraining(KernelGANTraining):
    """Kernels trained themselves, from the bicubic one."""

    starts: Array | None = None

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__(seeds, device)
        starts = self.starts if self.starts is not None else np.stack([bicubic_kernel(13)] * len(seeds))
        self.generator = DirectKernels(starts)  # type: ignore[assignment]
        parameters = list(self.generator.parameters())
        self._nets = (parameters, self._nets[1])
        self._optimizers[0] = torch.optim.Adam(parameters, 1e-3, betas=(0.5, 0.999), fused=True)


class MeanTraining(KernelGANTraining):
    """The mean of the kernels of a few hundred steps before the end, instead of the last one."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__(seeds, device)
        self.mean: torch.Tensor | None = None
        network = self.generator.kernels
        self.generator.kernels = lambda: (
            network() if torch.is_grad_enabled() or self.mean is None else self.mean
        )  # type: ignore[method-assign]
        self._network = network

    def step(self, large: torch.Tensor, small: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, self.mean = self.mean, None
        losses = super().step(large, small)
        with torch.no_grad():
            now = self._network()
        self.mean = now if mean is None else 0.99 * mean + 0.01 * now
        return losses


def kernelgan(images: Sequence[Pixels], iterations: int) -> list[Array]:
    return estimates(KernelGANFinder(2, iterations, 0, CPU), images)


def mean_kernels(images: Sequence[Pixels], iterations: int) -> list[Array]:
    finder = _Trained(iterations, 0)
    finder.training = MeanTraining
    return finder.estimate_all(images)


def direct(images: Sequence[Pixels], iterations: int) -> list[Array]:
    finder = _Trained(iterations, 0)
    finder.training = DirectTraining
    return finder.estimate_all(images)


def spectrum_then_direct(images: Sequence[Pixels], iterations: int) -> list[Array]:
    starts = np.stack([on_support(kernel, 13) for kernel in spectrum(images, 0)])

    class FromSpectrum(DirectTraining):
        pass

    FromSpectrum.starts = starts
    finder = _Trained(iterations, 0)
    finder.training = FromSpectrum
    return finder.estimate_all(images)


def uniform_crops(images: Sequence[Pixels], iterations: int) -> list[Array]:
    """Crops from anywhere instead of where gradients are strong."""
    usual = methods.gradient_map, methods.large_crop_probabilities
    methods.gradient_map = lambda pixels: np.zeros(pixels.shape[:2])  # type: ignore[assignment]
    methods.large_crop_probabilities = (
        lambda pixels, size: np.full(  # type: ignore[assignment]
            pixels.shape[:2], 1 / pixels[..., 0].size
        )
    )
    try:
        return kernelgan(images, iterations)
    finally:
        methods.gradient_map, methods.large_crop_probabilities = usual  # type: ignore[assignment]


def best_of_three(images: Sequence[Pixels], iterations: int) -> list[Array]:
    """Three trainings with other seeds; the one is kept whose generator fools best at the end."""
    best: list[tuple[float, Array]] = [(math.inf, np.empty(0))] * len(images)
    for seed in range(3):
        tasks = [Task(str(number), image) for number, image in enumerate(images)]
        for number, found in enumerate(
            KernelGANFinder(2, iterations, seed, CPU).estimate(tasks, lambda share: None)
        ):
            if not isinstance(found, DeflowError):
                loss = found.found["generator_loss"]
                best[number] = min(best[number], (loss, found.kernel), key=lambda pair: pair[0])
    return [kernel for _, kernel in best]


def spectrum(images: Sequence[Pixels], iterations: int) -> list[Array]:
    return estimates(SpectrumFinder(2), images)


ESTIMATORS: dict[str, Estimator] = {
    "bicubic": lambda images, _: [bicubic_kernel(17)] * len(images),
    "guess": lambda images, _: [gaussian_kernel(2.25 * np.eye(2), 17, 0.5)] * len(images),
    "spectrum": spectrum,
    "kernelgan": kernelgan,
    "kernelgan-mean": mean_kernels,
    "kernelgan-uniform": uniform_crops,
    "kernelgan-direct": direct,
    "kernelgan-three": best_of_three,
    "spectrum-direct": spectrum_then_direct,
}


# -- the comparison ----------------------------------------------------------------------------------------


def on_support(kernel: Array, side: int) -> Array:
    """A kernel, which is as wide as it is high, in the middle of side x side, by cropping or by zeros."""
    size = kernel.shape[0]
    if size > side:
        first = size // 2 - side // 2
        return kernel[first : first + side, first : first + side]
    whole = np.zeros((side, side))
    first = side // 2 - size // 2
    whole[first : first + size, first : first + size] = kernel
    return whole


def compared(kernel: Array, truth: Array) -> tuple[float, float, float, float, float]:
    """PSNR in dB, relative error of the covariance, correlation, narrow and wide standard deviation."""
    kernel, truth = on_support(kernel, SIDE), on_support(truth, SIDE)
    middle = slice(SIDE // 2 - 8, SIDE // 2 + 9)
    error = float(((kernel - truth)[middle, middle] ** 2).mean())
    covariance, true_covariance = kernel_covariance(kernel), kernel_covariance(truth)
    width = blur_width(covariance)
    return (
        10 * math.log10(float(truth.max()) ** 2 / error),
        float(np.linalg.norm(covariance - true_covariance) / np.linalg.norm(true_covariance)),
        float((kernel * truth).sum() / np.linalg.norm(kernel) / np.linalg.norm(truth)),
        width.narrow,
        width.wide,
    )


def row(name: str, values: Array) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    return (
        f"| {name} | {middle[0]:.1f} ({low[0]:.1f} to {high[0]:.1f}) "
        f"| {middle[1]:.2f} ({low[1]:.2f} to {high[1]:.2f}) | {middle[2]:.3f} "
        f"| {middle[3]:.2f} x {middle[4]:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="bicubic,guess,spectrum,kernelgan", help=", ".join(ESTIMATORS))
    parser.add_argument("--kernels", choices=["gaussian", "other"], default="gaussian")
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument(
        "--every", action="store_true", help="every picture by every kernel, not one kernel each"
    )
    parser.add_argument("--iterations", type=int, default=800)
    parser.add_argument("--noise", type=float, default=0.0, help="white noise added, in grey levels")
    parser.add_argument("--folder", choices=["test", "train"], default="test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    truths = kernels_of(options.kernels)
    images = pictures(options.pictures, options.folder)
    random = np.random.default_rng(0)
    cases: list[tuple[str, Pixels, Array]] = []
    for number, image in enumerate(images):
        for index, (name, kernel) in enumerate(truths.items()):
            if options.every or number % len(truths) == index:
                blurred = BlurKernel(name, "", centred_kernel(kernel, 0.5))
                small = blur_and_downsample(image, blurred, 2, "matlab", "direct")
                noisy = small + random.normal(0, options.noise, small.shape) if options.noise else small
                cases.append((name, np.clip(np.rint(noisy), 0, 255).astype(np.uint8), kernel))
    print(f"{len(cases)} pictures, noise {options.noise:g}, {options.iterations} iterations")
    for method in options.methods.split(","):
        started = time.perf_counter()
        found = ESTIMATORS[method]([small for _, small, _ in cases], options.iterations)
        seconds = (time.perf_counter() - started) / len(cases)
        scores = np.array(
            [compared(kernel, truth) for kernel, (_, _, truth) in zip(found, cases, strict=True)]
        )
        print(f"\n{method}, {seconds:.2f} s a picture\n")
        print("| kernel | PSNR, dB | error of the covariance | correlation | σ |\n|---|---:|---:|---:|---:|")
        for name in truths:
            if any(chosen := [case[0] == name for case in cases]):
                print(row(name, scores[chosen]))
        print(row("all", scores), flush=True)


if __name__ == "__main__":
    main()
