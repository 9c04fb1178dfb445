"""How much fine detail is left at edges: by the true degradation, by a model, between the folders.

    python tests/bench/edges.py --data DIR --domain aim-like --draws 1 --models tiny=MODEL

Noise hides what a degradation does to scenes: spectra of noisy pictures hold both. At edges they can be told
apart. Where a strongly blurred picture shows an edge, the fine detail of a sharp one can be predicted by
moving each pixel to the nearer one of its neighbourhood's least and greatest values (a toggle filter; so are
edges predicted to estimate a blur, Cho and Lee, Fast Motion Deblurring, 2009). Noise is hardly correlated
with that prediction, so that the product of fine detail and prediction, over the blurred picture's variance,
shows how much of the scenes' detail is there.

Printed are ratios of these products in four bands of radial frequency, for luminance and two colour
differences: 1 where a degradation leaves detail alone, below 1 for blur, above for sharpening; and their
standard errors by a jackknife over pictures. Where noise outweighs a channel's edges it spoils predictions,
so that less is found: compare a model with the degradation. Between the test's clean and degraded pictures
the scenes are the same; between the folders, which is all that a fit sees, they are others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from realism import apply, model_degrader
from realism_data import Domain, load_domain, with_draws

from deflow_cli.arrays import Array, Pixels
from deflow_cli.models.deflow.grain import opponent_basis

BANDS = ((0.08, 0.125), (0.125, 0.19), (0.19, 0.28), (0.28, 0.5))  # cycles per pixel
CHANNELS = ("luminance", "red - blue", "green - both")
_COARSE = 0.8  # of a band's lower limit, where the blurred picture ends
_BORDER = 24  # mirrored px
_COUNTED = 0.5  # quantile of pictures' variance, above which a picture counts no more


@dataclass(frozen=True)
class EdgeDetail:
    """Products of fine detail and its prediction, and variances of the blurred pictures: N x bands x 3."""

    products: Array
    variances: Array

    @classmethod
    def of(cls, pictures: Iterable[Pixels]) -> EdgeDetail:
        rows = [_products(picture) for picture in pictures]
        products, variances = np.moveaxis(np.array(rows), -1, 0)
        return cls(products, variances)

    def take(self, chosen: slice) -> EdgeDetail:
        return EdgeDetail(self.products[chosen], self.variances[chosen])

    def relative(self) -> Array:
        """Products per variance, of all pictures, then of all but each: (N + 1) x bands x 3."""
        strength = np.maximum(self.variances, 1e-12)
        counted = np.minimum(strength, np.quantile(strength, _COUNTED, axis=0))
        products = counted / strength * self.products
        total, whole = products.sum(0), counted.sum(0)
        return np.concatenate([(total / whole)[None], (total - products) / (whole - counted)])

    def over(self, other: EdgeDetail, *, same_scenes: bool) -> tuple[Array, Array]:
        """Ratio of what both have, bands x 3, and its standard error.

        same_scenes: the pictures show the same scenes in the same order; one at a time is left out of both.
        """
        own, others = self.relative(), other.relative()
        ratio = own[0] / others[0]
        if same_scenes:
            return ratio, _jackknife(own[1:] / others[1:])
        return ratio, np.hypot(_jackknife(own[1:] / others[0]), _jackknife(own[0] / others[1:]))


def _jackknife(left_out: Array) -> Array:
    return np.asarray(np.sqrt((len(left_out) - 1) * left_out.var(0)))


def _products(picture: Pixels) -> Array:
    """Mean products of a picture's bands with their predictions, and variances of its blur: bands x 3 x 2."""
    channels = picture.astype(np.float32) @ opponent_basis(3).numpy().T
    border = (_BORDER, _BORDER)
    padded = np.pad(channels, (border, border, (0, 0)), mode="reflect")
    size = padded.shape[:2]
    radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))[..., None]
    spectrum = np.fft.rfft2(padded, axes=(0, 1))

    def filtered(spectrum: Array, response: Array) -> Array:
        image = np.fft.irfft2(spectrum * response, s=size, axes=(0, 1))
        return np.asarray(image[_BORDER:-_BORDER, _BORDER:-_BORDER])

    rows = []
    for low, high in BANDS:
        end, band = _COARSE * low, (radius >= low) & (radius < high)
        response = np.clip((end - radius) / (0.3 * end), 0, 1)
        coarse = np.fft.irfft2(spectrum * response, s=size, axes=(0, 1)).astype(np.float32)
        side = round(0.5 / end) // 2 * 2 + 1
        neighbourhood = np.ones((side, side), np.uint8)
        greatest, least = cv2.dilate(coarse, neighbourhood), cv2.erode(coarse, neighbourhood)
        sharp = np.where(greatest - coarse < coarse - least, greatest, least)
        predicted = filtered(np.fft.rfft2(sharp, axes=(0, 1)), band)
        detail = filtered(spectrum, band)
        rows.append(np.stack([(detail * predicted).mean((0, 1)), coarse.var((0, 1))], -1))
    return np.stack(rows)


def table(rows: Iterable[tuple[str, tuple[Array, Array]]]) -> str:
    bands = [f"{low:g} to {high:g}" for low, high in BANDS]
    lines = [
        "| detail at edges | channel | " + " | ".join(bands) + " |",
        "| --- | --- |" + " ---: |" * len(bands),
    ]
    for name, (ratio, error) in rows:
        for k, channel in enumerate(CHANNELS):
            cells = [f"{r:.2f} ± {e:.2f}" for r, e in zip(ratio[:, k], error[:, k], strict=True)]
            lines.append(f"| {'' if k else name} | {channel} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rows_of(domain: Domain, models: dict[str, Path]) -> Iterator[tuple[str, tuple[Array, Array]]]:
    clean = EdgeDetail.of(pair.clean for pair in domain.pairs)
    yield (
        "the degradation / clean, test",
        EdgeDetail.of(p.noisy for p in domain.pairs).over(clean, same_scenes=True),
    )
    for name, path in models.items():
        ours = EdgeDetail.of(apply(model_degrader(path, 1.0), domain.pairs, 0))
        yield f"{name} / clean, test", ours.over(clean, same_scenes=True)
    folder = EdgeDetail.of(domain.clean())
    yield "noisy folder / clean folder", EdgeDetail.of(domain.noisy()).over(folder, same_scenes=False)
    halves = folder.take(slice(0, None, 2)), folder.take(slice(1, None, 2))
    yield "clean folder, half / half", halves[0].over(halves[1], same_scenes=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="see README.md; photos needs none")
    parser.add_argument("--domain", default="photos")
    parser.add_argument("--draws", type=int, default=0, help="degradations of every clean test picture")
    parser.add_argument("--limit", type=int, default=0, help="test pairs")
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME=FILE")
    options = parser.parse_args()
    domain = load_domain(options.data, options.domain)
    if options.draws:
        domain = with_draws(domain, options.draws)
    domain = replace(domain, pairs=domain.pairs[: options.limit or None])
    models = {name: Path(path) for name, _, path in (each.partition("=") for each in options.models)}
    print(f"{options.domain}, {len(domain.pairs)} test pairs\n\n" + table(rows_of(domain, models)))


if __name__ == "__main__":
    main()
