"""Many pairs: time and memory of `deflow make-pairs` by the number of images.

``python -m tests.bench.many_pairs --count 1000 4000 16000`` makes so many tiny pictures, then pairs of them,
in processes apart: as one data set, and as one of ten shards of a data set that is planned. Time should grow
with the number, memory hardly.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from deflow_cli.config.shards import Shard
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.pairs.plan import PairSettings
from deflow_cli.workflows.pairs.run import MakePairsRequest, make_pairs

SIDE = 64  # px
FOLDERS = 100  # that the pictures lie in
SHARDS = 10


def make_pictures(folder: Path, count: int) -> None:
    """Pictures that all differ, each of a few kB."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for number in range(FOLDERS):
        (folder / f"{number:03d}").mkdir(parents=True)
    for number in range(count):
        pixels = np.roll(noise, number, axis=number % 2) // 4 + np.uint8(number % 128)
        pixels[0, 0] = number % 256, number // 256 % 256, number // 65536
        cv2.imwrite(str(folder / f"{number % FOLDERS:03d}" / f"{number:06d}.png"), pixels)


def make(photos: Path, out: Path, shard: Shard | None) -> None:
    """Make pairs, and print seconds of CPU time and the peak of the resident memory in MiB."""
    choice = DegraderChoice("white-noise", sigma=8.0)
    request = MakePairsRequest(
        photos, out, PairSettings(scale=2), choice, workers=1, device="cpu", shard=shard
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    report = make_pairs(request, Silent())
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(report.pairs, seconds, before / 1024, peak / 1024)


def measured(photos: Path, out: Path, shard: str) -> tuple[int, float, float, float]:
    command = [sys.executable, "-m", "tests.bench.many_pairs", "--make", str(photos), str(out), shard]
    pairs, seconds, before, peak = subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.split()
    return int(pairs), float(seconds), float(before), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, nargs="+", default=[1000, 4000, 16000])
    parser.add_argument("--make", nargs=3, metavar=("PHOTOS", "OUT", "SHARD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        photos, out, shard = arguments.make
        make(Path(photos), Path(out), Shard.parse(shard, {}) if shard else None)
        return
    print("| images | | pairs | CPU s | ms a pair | MiB before | MiB at most |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    for count in arguments.count:
        with tempfile.TemporaryDirectory() as root:
            photos, out = Path(root, "photos"), Path(root, "out")
            make_pictures(photos, count)
            measured(photos, out, f"1/{SHARDS}")  # plans for all
            rows = [("one process, all", Path(root, "whole"), ""), (f"shard 2/{SHARDS}", out, f"2/{SHARDS}")]
            for name, target, shard in rows:
                pairs, seconds, before, peak = measured(photos, target, shard)
                each = 1000 * seconds / pairs
                print(
                    f"| {count} | {name} | {pairs} | {seconds:.1f} | {each:.2f} | {before:.0f} | {peak:.0f} |"
                )


if __name__ == "__main__":
    main()
