"""How fast on a GPU? Ours beside the published order of computation, in one process.

    python tests/bench/gpu.py [--rows train,degrade,restorer] [--presets aim,ntire,base] [--no-compile]
                              [--quick]

Rows: a fit's step as the program takes it (bf16 networks, AdamW, one CUDA graph; compiled unless
--no-compile) and with ``--memory low``, and degrading one picture of 512 x 512 with 1 and 8 samples, and one
of 4000 x 3000, as the program does between reading and writing: pixels to the GPU, tiles by CUDA graphs,
pixels back. Plain is plain_flow.py by PyTorch's defaults, a training step without an optimiser; none for
4000 x 3000. The restorer's rows, a GAN step and restoring one picture, and plain's, are esrgan_speed.py's.

Medians of 7 after 5 that do not count (plain: 2). Peaks of allocated memory; of reserved memory for degrading
by ours, since temporary results of graphs do not count as allocated. Launches, and the share of the time that
the GPU is busy, by torch's profiler. The last column says what a row should reach: ours / plain at most, or
ms and MiB. Each compiled preset takes up to a minute to compile, so choose presets where time is short.
--quick runs everything at small sizes, on a CPU too, and only shows that the script works.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # a GPU machine may have the checkout alone

import esrgan_speed
import speed
from torch import Tensor

from deflow_cli.data.images.files import Image, to_tensor
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.objective import Objective, TrainingNoise, draw_training_noise
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.workflows.fit.step import LossStep
from deflow_cli.workflows.images.pixels import sample_pixels

Action = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """target: ours / plain at most; most_ms, most_mib: of ours at most; None where there is none.

    reserved: the peak is of the memory that ours reserves, not of what it allocates.
    """

    name: str
    ours: Callable[[], Action]
    plain: Callable[[], Action] | None
    target: float | None = None
    most_ms: float | None = None
    most_mib: int | None = None
    reserved: bool = False

    def falls_short(self, ours: Measured, ratio: float) -> bool:
        reached = ((ratio, self.target), (ours.ms, self.most_ms), (ours.peak, self.most_mib))
        return any(most is not None and value > most for value, most in reached)

    def wanted(self) -> str:
        """The targets, for the table."""
        parts = (("{:.3f}", self.target), ("{:.0f} ms", self.most_ms), ("{} MiB", self.most_mib))
        return ", ".join(form.format(most) for form, most in parts if most is not None)


@dataclass(frozen=True)
class Measured:
    """ms: median. peak: MiB. launches, busy: of one call; NaN without a GPU."""

    ms: float
    peak: int
    launches: float
    busy: float


NOTHING = Measured(float("nan"), 0, float("nan"), float("nan"))


def fit_step(preset: str, batch: int, side: int, device: torch.device, low: bool, compiled: bool) -> Action:
    """A fit's step on random images, as ``deflow fit`` takes it on a GPU."""
    model = speed.build(preset, device).train()
    if device.type == "cuda":  # bfloat16 is emulated on many CPUs
        model.set_net_precision(torch.bfloat16)
    model.to(memory_format=torch.channels_last)
    if device.type == "cuda":
        model.train_in_runs(compiled=compiled)
    objective = Objective(model, low_memory=low)
    random = torch.Generator(device).manual_seed(0)
    images = torch.rand(batch, 3, side, side, generator=random, device=device)

    def loss_of(x: Tensor, uniform: Tensor, normal: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return objective(x[0::2], x[1::2], TrainingNoise(uniform, normal))

    step = LossStep(
        model,
        FIT.load(preset).fit,
        lambda index: (images, *draw_training_noise(model, images.shape, random)),
        loss_of,
        before_recording=lambda: model.statistics.active,
    )
    return functools.partial(step, 0, 0.1, 1.0)


def plain_step(preset: str, batch: int, side: int, device: torch.device) -> Action:
    model = speed.build(preset, device)
    images = torch.rand(batch, 3, side, side, device=device)
    return functools.partial(speed.training_step, model, images, "plain")


def degrading(preset: str, height: int, width: int, samples: int, device: torch.device) -> Action:
    """Samples of one picture by the program's way from pixels to pixels."""
    translator = Translator(speed.build(preset, device), device, recorder=GraphedFunction)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    job = Job(ShiftDistribution(translator.model.prior), [ImageNoise(0, "picture")], [[0] * samples], [1.0])
    image = Image(pixels)
    return lambda: sample_pixels(translator, to_tensor(pixels, device), job, range(samples), image)


def degrading_plainly(preset: str, side: int, samples: int, device: torch.device) -> Action:
    model = speed.build(preset, device).eval()
    image = torch.rand(1, 3, side, side, device=device)
    return functools.partial(speed.degrade_plain, model, image, samples)


def rows(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    side, picture = (32, 32) if options.quick else (160, 512)
    for preset in options.presets.split(","):
        batch = 2 if options.quick else FIT.load(preset).fit.batch_size
        name = preset.upper() if preset != "base" else preset
        if "train" in options.rows:
            ours = functools.partial(fit_step, preset, batch, side, device)
            plain = functools.partial(plain_step, preset, batch, side, device)
            title = f"training step {name}, {batch} x {side}"
            yield Row(title, functools.partial(ours, False, options.compile), plain, 1 / 8, reserved=True)
            if preset == "aim":
                low = functools.partial(ours, True, options.compile)
                yield Row(f"{title}, `--memory low`", low, plain, 1 / 4, reserved=True)
        if "degrade" in options.rows and preset != "base":
            for samples, target in ((1, 1 / 4), (8, 1 / 8)):
                yield Row(
                    f"degrade {picture}x{picture} {name}, {samples}",
                    functools.partial(degrading, preset, picture, picture, samples, device),
                    functools.partial(degrading_plainly, preset, picture, samples, device),
                    target,
                    reserved=True,
                )
        if "degrade" in options.rows and preset in ("aim", "tiny"):
            width, height = (96, 64) if options.quick else (4000, 3000)
            large = functools.partial(degrading, preset, height, width, 1, device)
            title = f"degrade {width}x{height} {name}, 1"
            yield Row(title, large, None, most_ms=2000.0, most_mib=8192, reserved=True)
    if "restorer" in options.rows:
        yield from restorer_rows(options, device)


def restorer_rows(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """ESRGAN at the paper's size: RRDBNet x4 of 23 blocks (--quick: one)."""
    batch, crop, side = (2, 64, 96) if options.quick else (16, 128, 256)
    made = argparse.Namespace(
        device=str(device), quick=options.quick, batch=batch, crop=crop, side=side, fp32=False, tile=0
    )

    def action(make: Callable[[argparse.Namespace, str], tuple[Action, Action]], rival: str) -> Action:
        return make(made, rival)[0]

    for title, make, target in (
        (f"ESRGAN GAN step, {batch} x {crop}", esrgan_speed.training, 0.6),
        (f"ESRGAN inference {side}x{side} x4", esrgan_speed.inference, 0.3),
    ):
        ours, plain = (functools.partial(action, make, rival) for rival in ("ours", "plain"))
        yield Row(title, ours, plain, target)


def measure(
    make: Callable[[], Action], warm: int, runs: int, device: torch.device, reserved: bool = False
) -> Measured:
    gc.collect()  # graphs of the row before
    if device.type == "cuda":
        torch.cuda.empty_cache()
    action = make()
    for _ in range(warm):
        action()
    _synchronise(device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        _synchronise(device)
        times.append(1e3 * (time.perf_counter() - started))
    of_memory = torch.cuda.max_memory_reserved if reserved else torch.cuda.max_memory_allocated
    peak = of_memory() >> 20 if device.type == "cuda" else 0
    ms = statistics.median(times)
    launches, busy = profiled(action) if device.type == "cuda" else (float("nan"), float("nan"))
    return Measured(ms, peak, launches, busy / ms)


def profiled(action: Action) -> tuple[int, float]:
    """Kernels of one call, and the milliseconds that they take together."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        action()
        torch.cuda.synchronize()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return len(kernels), sum(event.device_time for event in kernels) / 1e3


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="train,degrade,restorer")
    parser.add_argument("--presets", default="", help="default: aim,ntire,base; with --quick tiny")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.presets = options.presets or ("tiny" if options.quick else "aim,ntire,base")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        assert options.quick, "no CUDA device: add --quick"
        options.compile = False
    torch._dynamo.config.cache_size_limit = 64  # sizes of steps: levels, and conditions of each
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}\n")
    print(
        "| | ours, ms | plain, ms | ratio | peak MiB, ours | plain | launches, ours | plain | busy | target |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    short = []
    runs = 1 if options.quick else 7
    known: dict[object, Measured] = {}
    for row in rows(options, device):
        ours = measure(row.ours, 1 if options.quick else 5, runs, device, row.reserved)
        plain, ratio = NOTHING, float("nan")
        if row.plain is not None:
            key = (row.plain.func, row.plain.args) if isinstance(row.plain, functools.partial) else row.name
            warm = 1 if options.quick else 2
            plain = known[key] = known.get(key) or measure(row.plain, warm, runs, device)
            ratio = ours.ms / plain.ms
        if row.falls_short(ours, ratio):
            short.append(row.name)
        line = (
            f"| {row.name} | {ours.ms:.1f} | {plain.ms:.1f} | {ratio:.3f} | {ours.peak} | {plain.peak} | "
            f"{ours.launches:.0f} | {plain.launches:.0f} | {ours.busy:.2f} | {row.wanted()} |"
        )
        print(line.replace("nan", ""), flush=True)
    if short and not options.quick:
        print(f"\nfell short: {'; '.join(short)}")


if __name__ == "__main__":
    main()
