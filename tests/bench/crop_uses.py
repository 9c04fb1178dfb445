"""What does a further degradation of a crop cost, and what does a restorer lose by using crops again?

    python tests/bench/crop_uses.py [--models embedded,ntire,FILE] [--side 32] [--batch 16] [--device cpu]
    python tests/bench/crop_uses.py --models embedded --train 1,4,16 --iterations 600 --seeds 3 [--scale 4]

The first table: a batch of crops degraded for the first time (encoded, kept, decoded) and a further time
(decoded), per crop: multiply-adds by torch's flop counter, seconds (median of ``--runs``; on a CPU its own),
and the memory that is kept. Models: embedded, a preset's name (random weights, started from data) or a file.
``--train``: restorers of the tiny preset trained with ``sr.crop_uses`` of each number on the packaged
photographs, all else equal: CPU-seconds of a run per step, its start and validation counted in, and the PSNR
on the held-out photographs, which are the same, with the same noise, for all runs of a seed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from speed import build
from torch.utils.flop_counter import FlopCounterMode

from deflow_cli.checkpoints.format import load_model
from deflow_cli.data.photos import packaged_photos
from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.degraders.flow.encodings import Encodings, bytes_of_encoding
from deflow_cli.paths import weights_folder
from deflow_cli.presets.reader import FIT, SR
from deflow_cli.workflows.restorer.data import SrSource
from deflow_cli.workflows.restorer.run import SrRequest, sr_train


def degrader_of(name: str, device: torch.device) -> FlowDegrader:
    if name in FIT.names():
        return FlowDegrader(build(name, device), device)
    return FlowDegrader(load_model(path_of(name), device)[0], device)


def path_of(name: str) -> Path:
    return weights_folder() / "camera-noise.safetensors" if name == "embedded" else Path(name)


def seconds(action: Callable[[], object], runs: int, device: torch.device) -> float:
    """Median after one run that does not count."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    found = []
    for _ in range(runs + 1):
        begun = clock()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(clock() - begun)
    return statistics.median(found[1:])


def millions(action: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() / 2e6


def costs(name: str, options: argparse.Namespace) -> str:
    device, batch, side = torch.device(options.device), options.batch, options.side
    degrader = degrader_of(name, device)
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    encodings, numbers = Encodings(degrader, batch), list(range(batch))
    keys = [str(number) for number in numbers]
    draws = [Draw(1, key) for key in keys]

    def further() -> None:
        encodings.degrade(numbers, draws)

    def first() -> None:
        encodings.keep(numbers, images, keys)
        further()

    first()  # folds the weights, which is done once per model
    adds = [millions(action) / batch for action in (first, further)]
    times = [1000 * seconds(action, options.runs, device) / batch for action in (first, further)]
    kept = bytes_of_encoding(degrader, side, side) / 1024
    return (
        f"| {name} | {adds[0]:.1f} | {adds[1]:.1f} | 1/{adds[0] / adds[1]:.1f} "
        f"| {times[0]:.1f} | {times[1]:.1f} | 1/{times[0] / times[1]:.1f} | {kept:.0f} |"
    )


def trained(uses: int, name: str, options: argparse.Namespace) -> str:
    spent, psnr = [], []
    photos = packaged_photos()[0][0].parent
    for seed in range(options.seeds):
        config = SR.apply_overrides(
            SR.load("tiny"),
            [
                f"sr.crop_uses={uses}",
                f"sr.seed={seed}",
                "sr.time_budget=0",
                f"psnr.iterations={options.iterations}",
                "sr.held_out=0.25",
                "sr.select=psnr",
                *(f"sr.{every}_every=1000000" for every in ("validate", "preview", "checkpoint")),
            ],
        )
        choice = DegraderChoice(model=path_of(name))
        with tempfile.TemporaryDirectory() as folder:
            source = SrSource(hr=photos, scale=options.scale, degrader=choice)
            begun = time.process_time()
            result = sr_train(SrRequest(source, Path(folder) / "run", config, device=options.device))
            spent.append((time.process_time() - begun) / result.step)
        psnr.append(result.scores["psnr"])
    shown = ", ".join(f"{value:.2f}" for value in psnr)
    return (
        f"| {uses} | {1000 * statistics.median(spent):.0f} | {statistics.mean(psnr):.2f} | {shown} "
        f"| {result.input_scores['psnr']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="embedded,ntire")
    parser.add_argument("--side", type=int, default=32, help="of a small crop, px: 128 at scale 4")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--train", default="", help="numbers of uses, such as 1,4,16")
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--scale", type=int, default=4)
    options = parser.parse_args()
    models = options.models.split(",")
    if options.train:
        print(f"{options.iterations} steps of the tiny preset at scale {options.scale}, {models[0]}\n")
        print("| uses | CPU-ms a step | held-out PSNR, dB | of each seed | input |")
        print("| ---: | ---: | ---: | ---: | ---: |")
        for uses in options.train.split(","):
            print(trained(int(uses), models[0], options), flush=True)
        return
    print(f"{options.batch} crops of {options.side} px at a time, {options.device}; per crop\n")
    print("| model | M multiply-adds, first | further | share | ms, first | further | share | KiB kept |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in models:
        print(costs(name, options), flush=True)


if __name__ == "__main__":
    main()
