"""How long does noise take? Microseconds per million numbers, of fields as degrading draws them.

    python tests/bench/noise.py [--device cuda]

Rows: fields of channels x height x width, by the counter (deflow_cli/kernels/noise.py), and by a generator of
NumPy for each cell of 64 x 64 or 16 x 16 positions, as earlier builds drew them on the CPU. Least of seven.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.kernels.noise import NoiseKind, Place, noise_field

FIELDS = (("uniform", 3, 512, 64), ("normal", 3, 128, 64), ("normal", 12, 256, 16), ("normal", 48, 64, 16))


def by_cells(kind: NoiseKind, channels: int, side: int, cell: int) -> None:
    field = np.empty((channels, side, side), np.float32)
    for row in range(0, side, cell):
        for column in range(0, side, cell):
            generator = stable_generator(0, "image", kind, "stream", row, column)
            shape = (channels, cell, cell)
            field[:, row : row + cell, column : column + cell] = (
                generator.standard_normal(shape, dtype=np.float32)
                if kind == "normal"
                else generator.random(shape, dtype=np.float32) - np.float32(0.5)
            )


def least(action: Callable[[], object], numbers: int, device: torch.device) -> float:
    times = []
    for _ in range(7):
        started = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 1e12 * min(times) / numbers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    print(f"| field | by counter, {device} | by cells, cpu |\n| --- | ---: | ---: |")
    for kind, channels, side, cell in FIELDS:
        place, numbers = Place(0, 0, side, side), channels * side * side
        ours = least(lambda: noise_field(kind, 0, channels, place, device), numbers, device)  # noqa: B023
        cells = least(lambda: by_cells(kind, channels, side, cell), numbers, torch.device("cpu"))  # noqa: B023
        print(f"| {kind} {channels} x {side} x {side} | {ours:.0f} | {cells:.0f} |")


if __name__ == "__main__":
    main()
