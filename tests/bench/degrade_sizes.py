"""What a degraded picture costs by its size: CPU-seconds of the embedded model, in one process, medians.

python tests/bench/degrade_sizes.py [--sides 64,128,256,512,1024,2048] [--runs 5] [--model FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from deflow_cli.workflows.api import load_model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", default="64,128,256,512,1024,2048", help="px, by commas")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    print("| side | CPU-seconds | microseconds a pixel |\n| ---: | ---: | ---: |")
    for side in map(int, options.sides.split(",")):
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        seconds = []
        for _ in range(options.runs + 1):
            started = time.process_time()
            model.degrade(image)
            seconds.append(time.process_time() - started)
        taken = statistics.median(seconds[1:])  # the first run also loads what it needs
        print(f"| {side} | {taken:.3f} | {taken / side**2 * 1e6:.2f} |")


if __name__ == "__main__":
    main()
