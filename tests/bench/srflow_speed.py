"""How fast is SRFlow? A training step, and one and ten samples, beside the plain order, in one run.

    python tests/bench/srflow_speed.py [--presets tiny,df2k-4x] [--threads 1] [--runs 3] [--side 128]

"Plain" (plain_flow.py) computes the features of x once for each sample, enlarged and joined, and every
network over the joint input anew, as a published sampler does. The training step is forward and backward of
the likelihood, of ``--batch`` crops of the preset's size. Samples are of an x of ``--side`` pixels. Weights
are random but started from data. "difference" is the largest between ours and plain's first results, in grey
levels or relative bits.

Every measurement is a process of its own, which gives its peak memory above what it held with its model;
rivals take turns run by run, so that a busy machine is busy for both. Medians, after one run that does not
count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import plain_flow
import torch
from torch import Tensor

from deflow_cli.models.srflow.model import SRFlow, log_standard_normal
from deflow_cli.presets.reader import SRFLOW

Action = Callable[[], list[float]]


def build(preset: str) -> SRFlow:
    """A model with random networks whose ActNorms are started from random images."""
    model = SRFlow(SRFLOW.load(preset).model)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("conv_out.weight"):
                parameter.add_(0.002 * torch.randn(parameter.shape, generator=random))
    x = torch.rand(2, 3, 16, 16, generator=random)
    y = torch.rand(2, 3, 16 * model.scale, 16 * model.scale, generator=random)
    model.start(y, x, None, regression=False)
    return model


def latents_of(model: SRFlow, x: Tensor, seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    shapes = model.latent_shapes(*x.shape[-2:])
    return [0.8 * torch.randn((len(x), *shape), generator=random) for shape in shapes]


@torch.inference_mode()
def samples(model: SRFlow, x: Tensor, count: int, rival: str) -> list[float]:
    result = []
    if rival == "plain":
        for seed in range(count):
            features = plain_flow.features_of(model.encoder, model.encoder_input(x))
            y = plain_flow.decode(model.flow, latents_of(model, x, seed), features)
            base = model.base(x)
            result.append(y if base is None else y + base)
    else:
        conditions, base = model.prepare(x), model.base(x)  # once for all samples, as SuperResolver does
        for seed in range(count):
            y = model.flow.decode(latents_of(model, x, seed), conditions)[0]
            result.append(y if base is None else y + base)
    return [float(y.double().mean()) for y in result]


def training_step(model: SRFlow, y: Tensor, x: Tensor, rival: str) -> list[float]:
    if rival == "plain":
        features = plain_flow.features_of(model.encoder, model.encoder_input(x))
        base = model.base(x)
        latents, log_det = plain_flow.encode(model.flow, y if base is None else y - base, features)
    else:
        latents, log_det = model.encode_for_training(y, x, low_memory=rival == "low")
    loss = model.bits_per_dim(log_standard_normal(latents) + log_det, y[0].numel()).mean()
    loss.backward()
    model.zero_grad(set_to_none=True)
    return [float(loss.detach())]


def action_of(task: str, options: argparse.Namespace) -> Action:
    """``KIND:PRESET:RIVAL`` as something to run; KIND is samples-N or train."""
    kind, preset, rival = task.split(":")
    model = build(preset)
    random = torch.Generator().manual_seed(1)
    if kind.startswith("samples"):
        x = torch.rand(1, 3, options.side, options.side, generator=random)
        return partial(samples, model.eval(), x, int(kind.partition("-")[2]), rival)
    side = SRFLOW.load(preset).sr.gt_size if not options.quick else 32
    y = torch.rand(options.batch, 3, side, side, generator=random)
    x = torch.rand(options.batch, 3, side // model.scale, side // model.scale, generator=random)
    return partial(training_step, model, y, x, rival)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() >> 20


def work(options: argparse.Namespace) -> None:
    """A process that measures one task: a run for each line of its input, a line of JSON for each run."""
    torch.set_num_threads(options.threads)
    action = action_of(options.work, options)
    held = resident()
    figures = action()
    print(flush=True)  # warm
    for _line in sys.stdin:
        started = time.perf_counter()
        action()
        wall = time.perf_counter() - started
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) - held
        print(json.dumps({"wall": wall, "peak": peak, "figures": figures}), flush=True)


def measure(tasks: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians of tasks that take turns."""
    command = [sys.executable, __file__, *sys.argv[1:], "--work"]
    processes = []
    for task in tasks:
        process = subprocess.Popen(
            [*command, task], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert process.stdout is not None
        process.stdout.readline()
        processes.append(process)
    runs: list[list[dict[str, Any]]] = [[] for _ in tasks]
    for _ in range(options.runs):
        for index, process in enumerate(processes):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            runs[index].append(json.loads(process.stdout.readline()))
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    return [
        {
            "wall": statistics.median(run["wall"] for run in of_task),
            "peak": of_task[-1]["peak"],
            "figures": of_task[0]["figures"],
        }
        for of_task in runs
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--presets", default="tiny,df2k-4x")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small images, for a look")
    parser.add_argument("--work")
    options = parser.parse_args()
    if options.quick:
        options.side, options.runs = 16, 1
    if options.work:
        work(options)
        return
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {options.threads} threads"
    )
    print("| | ours, s | plain, s | ratio | memory, MiB | plain | difference |")
    print("|---|---|---|---|---|---|---|")
    for preset in options.presets.split(","):
        one = None
        for kind in ("train", "samples-1", "samples-10"):
            ours, plain = measure([f"{kind}:{preset}:{rival}" for rival in ("ours", "plain")], options)
            difference = max(abs(a - b) for a, b in zip(ours["figures"], plain["figures"], strict=True))
            print(
                f"| {preset} {kind} | {ours['wall']:.3f} | {plain['wall']:.3f} | "
                f"{ours['wall'] / plain['wall']:.3f} | {ours['peak']} | {plain['peak']} | {difference:.1e} |"
            )
            if kind == "samples-1":
                one = ours["wall"]
            elif kind == "samples-10" and one:
                print(f"| {preset}: ten samples over one | {ours['wall'] / one:.2f} | | | | | |")


if __name__ == "__main__":
    main()
