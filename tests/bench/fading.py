"""How near is the fading that is told between two folders of other scenes to the true one?

    python tests/bench/fading.py --data DIR --domain scan-like
    python tests/bench/fading.py --data DIR --domain aim-like --images 75

``DIR/bsd/train`` is divided at random, again and again: one part is the clean folder, the true degradation of
the other the degraded one. What is found between them is done to the clean part and compared with the true
degradation of that: the largest difference over channels of their means, and the root mean square of that of
their 4 x 4 blocks, in grey levels, which holds what differs from image to image too. Medians with the least
and greatest. *Means and deviations* are those of both folders' channels, as published.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from realism_data import Pair, load_domain, read

from deflow_cli.metrics.distances.tone import (
    block_means,
    tone_change,
    with_means,
    with_saturation,
)

Blocks = NDArray[np.float32]
Values = NDArray[np.float64]
Map = Callable[[Values], Values]


def nothing(clean: Sequence[Blocks], degraded: Sequence[Blocks]) -> Map:
    return lambda values: values


def statistics(clean: Sequence[Blocks], degraded: Sequence[Blocks]) -> Map:
    (mean_x, std_x), (mean_y, std_y) = (moments(images) for images in (clean, degraded))
    return lambda values: (values - mean_x) / std_x * std_y + mean_y


def moments(images: Sequence[Blocks]) -> tuple[Values, Values]:
    mean = np.mean([image.mean(0, dtype=float) for image in images], axis=0)
    square = np.mean([np.square(image, dtype=float).mean(0) for image in images], axis=0)
    return mean, np.sqrt(square - mean**2)


def tone(clean: Sequence[Blocks], degraded: Sequence[Blocks]) -> Map:
    """As a fit finds it, but for what the noise does to quantiles."""
    change = tone_change(clean, degraded)
    if change.found:
        change = with_means(with_saturation(change, clean, degraded), clean, degraded)
    return change.of


WAYS = {"no change": nothing, "means and deviations": statistics, "tone": tone}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the layout of README.md")
    parser.add_argument("--domain", default="scan-like", help="one whose recipe is known")
    parser.add_argument("--images", type=int, default=150, help="of each folder")
    parser.add_argument("--divisions", type=int, default=24)
    arguments = parser.parse_args()
    domain = load_domain(arguments.data, arguments.domain)
    assert domain.redraw is not None
    pictures = [read(path) for path in sorted((arguments.data / "bsd" / "train").iterdir())]
    blocks = [block_means(picture) for picture in pictures]
    pairs = [Pair(str(index), picture, picture) for index, picture in enumerate(pictures)]
    degraded = [block_means(domain.redraw(pair, 5)) for pair in pairs]
    random = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(arguments.divisions):
        order = random.permutation(len(blocks))
        clean, other = (sorted(order[: arguments.images]), sorted(order[-arguments.images :]))
        x = np.concatenate([blocks[i] for i in clean]).astype(float)
        y = np.concatenate([degraded[i] for i in clean]).astype(float)
        for name, way in WAYS.items():
            map_of = way([blocks[i] for i in clean], [degraded[i] for i in other])
            error = 255 * (map_of(x) - y)
            found[name].append((np.abs(error.mean(0)).max(), float(np.sqrt(np.square(error).mean()))))
    print(f"{arguments.domain}, {arguments.images} images a folder, {arguments.divisions} divisions\n")
    print("| told by | shift of the mean | RMS of blocks |")
    print("| --- | ---: | ---: |")
    for name, rows in found.items():
        cells = [
            f"{np.median(column):.2f} ({min(column):.2f}..{max(column):.2f})"
            for column in zip(*rows, strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
