"""How fast is the flow? Ours beside the published order of computation, in one run.

    python tests/bench/speed.py [--presets ntire,aim] [--threads 2] [--device cpu] [--large 4000x3000]
                                [--rows count,degrade,train,base,program]

"Plain" (plain_flow.py) computes the features of h once per image and everything else anew in each encoding
and each decoding, for each sample: float32, nothing folded or kept. Rows: multiply-adds per pixel by torch's
flop counter; seconds of degrading one picture, 1 and 8 samples; a training step (forward and backward, no
optimiser) with its peak memory above what the process held with its model, and with ``--memory low``; `base`
against the AIM preset. Then figures of the program alone: its start, one small picture from process start,
patches per second of the input pipeline, and with ``--large`` one large picture, with ``--model`` by that
model in place of the embedded one.

Every measurement is a process of its own, which gives its peak memory (of a process, or of the GPU);
rivals take turns run by run, so that a busy machine is busy for both. Medians, after one run that does not
count (of training steps: three). Weights are random but started from data; "difference" is the largest
relative one between figures of ours and plain's first run. With CUDA ours trains in bf16 nets, as `fit` does
(``--fp32``: not).
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
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import plain_flow
import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.photos import packaged_photos
from deflow_cli.data.unpaired import Prefetcher, UnpairedSampler
from deflow_cli.models.deflow.initialization import start_flow
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.device import choose_precision

COUNTED = 160  # side of the image whose multiply-adds are counted
Action = Callable[[], list[float]]


def build(preset: str, device: torch.device) -> DeFlow:
    """A model with random nets whose ActNorms are started from random images."""
    model = DeFlow(FIT.load(preset).model)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("conv_out.weight") or name.endswith("root"):
                parameter.add_(0.002 * torch.randn(parameter.shape, generator=random))
    image = torch.rand(2, 3, 64, 64, generator=random)
    start_flow(model, image, model.condition_image(image), whiten=False)
    return model.to(device)


def shifted(model: DeFlow, latents: list[Tensor], seed: int) -> list[Tensor]:
    random = torch.Generator(device=latents[0].device).manual_seed(seed)
    component = torch.zeros(len(latents[0]), dtype=torch.long, device=latents[0].device)
    noise = [torch.randn(z.shape, generator=random, device=z.device) for z in latents]
    return ShiftDistribution(model.prior).degrade(
        latents, noise, torch.ones(component.shape).to(component.device), component
    )


def figures_of(*tensors: Tensor) -> list[float]:
    return [float(tensor.double().mean()) for tensor in tensors]


@torch.inference_mode()
def degrade(model: DeFlow, image: Tensor, samples: int) -> list[float]:
    conditions = model.prepare(model.condition_image(image))
    latents, log_det = model.encode_conditioned(image, conditions)
    results = [model.decode_conditioned(shifted(model, latents, n), conditions) for n in range(samples)]
    return figures_of(log_det, *results)


@torch.inference_mode()
def degrade_plain(model: DeFlow, image: Tensor, samples: int) -> list[float]:
    assert model.encoder is not None
    features = plain_flow.features_of(model.encoder, model.condition_image(image))
    results = []
    for n in range(samples):
        latents, log_det = plain_flow.encode(model.flow, image, features)
        results.append(plain_flow.decode(model.flow, shifted(model, latents, n), features))
    return figures_of(log_det, *results)


def training_step(
    model: DeFlow, x: Tensor, rival: str, before_zero: Callable[[], None] = lambda: None
) -> list[float]:
    """before_zero: called when the gradients are there."""
    h = model.condition_image(x)
    if rival == "plain":
        assert model.encoder is not None
        latents, log_det = plain_flow.encode(model.flow, x, plain_flow.features_of(model.encoder, h))
    else:
        latents, log_det = model.encode(x, h, low_memory=rival == "low")
    half = len(x) // 2
    clean = model.prior.log_prob_clean([z[:half] for z in latents])
    degraded = model.prior.log_prob_degraded([z[half:] for z in latents])
    loss = model.nats_to_bits_per_dim(torch.cat((clean, degraded)) + log_det, x.shape).mean()
    loss.backward()
    before_zero()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    model.zero_grad(set_to_none=True)
    return figures_of(loss.detach(), norm)


# -- counting ---------------------------------------------------------------------------------------------


def thousands(action: Callable[[], object]) -> float:
    """Multiply-adds per pixel of the counted image, in thousands."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() / 2 / COUNTED**2 / 1000


def count(preset: str) -> tuple[dict[str, float], dict[str, float]]:
    """(ours, plain): of degrading once, and of one more sample."""
    model = build(preset, torch.device("cpu")).eval()
    image = torch.rand(1, 3, COUNTED, COUNTED)
    ours = [thousands(partial(degrade, model, image, samples)) for samples in (1, 2)]
    plain = thousands(partial(degrade_plain, model, image, 1))
    with torch.inference_mode():
        assert model.encoder is not None
        features = plain_flow.features_of(model.encoder, model.condition_image(image))
        latents, _ = plain_flow.encode(model.flow, image, features)
        decode = thousands(partial(plain_flow.decode, model.flow, latents, features))
    return {"once": ours[0], "sample": ours[1] - ours[0]}, {"once": plain, "sample": decode}


# -- measuring --------------------------------------------------------------------------------------------


def action_of(task: str, options: argparse.Namespace) -> Action:
    """``KIND:PRESET:RIVAL`` as something to run; KIND is degrade-N or train-B."""
    kind, preset, rival = task.split(":")
    device = torch.device(options.device)
    model = build(preset, device)
    name, _, number = kind.partition("-")
    if name == "degrade":
        image = torch.rand(1, 3, options.side, options.side, generator=torch.Generator().manual_seed(1))
        run = degrade_plain if rival == "plain" else degrade
        return partial(run, model.eval(), image.to(device), int(number))
    if rival != "plain":
        model.set_net_precision(choose_precision("fp32" if options.fp32 else "auto", device))
    side = FIT.load(preset).fit.patch_size
    x = torch.rand(int(number), 3, side, side, generator=torch.Generator().manual_seed(1)).to(device)
    return partial(training_step, model, x, rival)


def work(options: argparse.Namespace) -> None:
    """A process that measures one task: a run for each line of its input, a line of JSON for each run."""
    torch.set_num_threads(options.threads)
    action = action_of(options.work, options)
    cuda = options.device.startswith("cuda")
    held = torch.cuda.memory_allocated() >> 20 if cuda else resident()
    figures = action()
    for _ in range(2 if options.work.startswith("train") else 0):  # the allocator takes longer to settle
        action()
    print(flush=True)  # warm
    for _line in sys.stdin:
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        wall, own = time.perf_counter(), time.process_time()
        action()
        if cuda:
            torch.cuda.synchronize()
        told = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - own, "figures": figures}
        on_gpu = torch.cuda.max_memory_allocated() >> 20 if cuda else 0
        told["peak"] = (on_gpu or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) - held
        print(json.dumps(told), flush=True)


def resident() -> int:
    """MiB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() >> 20


def measure(tasks: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians of tasks that take turns."""
    command = [sys.executable, __file__, *sys.argv[1:], "--work"]
    pipes = subprocess.PIPE
    processes = []
    for task in tasks:
        processes.append(subprocess.Popen([*command, task], stdin=pipes, stdout=pipes, text=True))
        assert processes[-1].stdout is not None
        processes[-1].stdout.readline()  # the next one starts, and runs are measured, when this one is warm
    found: list[list[dict[str, Any]]] = [[] for _ in tasks]
    for _ in range(options.runs):
        for process, runs in zip(processes, found, strict=True):
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            runs.append(json.loads(process.stdout.readline()))
    for process in processes:
        process.communicate()
    return [
        {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu")}
        | {"peak": runs[-1]["peak"], "figures": runs[0]["figures"]}
        for runs in found
    ]


def row(name: str, ours: float, plain: float, difference: str = "") -> None:
    print(f"| {name} | {ours:.4g} | {plain:.4g} | {ours / plain:.3f} | {difference} |", flush=True)


def apart(ours: dict[str, Any], plain: dict[str, Any]) -> str:
    pairs = zip(ours["figures"], plain["figures"], strict=True)
    return f"{max(abs(a - b) / max(abs(b), 1e-3) for a, b in pairs):.0e}"


def compare_counts(preset: str, options: argparse.Namespace) -> None:
    name = preset.upper()
    counted, plain_counted = count(preset)
    row(f"{name}: degrade, k multiply-adds per pixel", counted["once"], plain_counted["once"])
    row(f"{name}: one more sample, against a decoding", counted["sample"], plain_counted["sample"])


def compare_degrading(preset: str, options: argparse.Namespace) -> None:
    name = preset.upper()
    for samples in (1, 8):
        ours, plain = measure([f"degrade-{samples}:{preset}:{rival}" for rival in ("ours", "plain")], options)
        title = f"{name}: degrade {options.side}x{options.side}, {samples} sample{'s' * (samples > 1)}, s"
        row(title, ours["wall"], plain["wall"], apart(ours, plain))


def compare_training(preset: str, options: argparse.Namespace) -> None:
    name, batch = preset.upper(), options.batch
    ours, low, plain = measure([f"train-{batch}:{preset}:{r}" for r in ("ours", "low", "plain")], options)
    step = f"{name}: training step, batch {batch}"
    row(f"{step}, s", ours["wall"], plain["wall"], apart(ours, plain))
    row(f"{step}, peak MiB", ours["peak"], plain["peak"])
    row(f"{step}, `--memory low`, s", low["wall"], plain["wall"], apart(low, plain))
    row(f"{step}, `--memory low`, peak MiB", low["peak"], plain["peak"])


def base_against_aim(options: argparse.Namespace) -> None:
    for rival in ("ours", "plain"):
        for kind, title in (("degrade-1", "degrade"), (f"train-{options.batch}", "training step")):
            base, aim = measure([f"{kind}:base:ours", f"{kind}:aim:{rival}"], options)
            row(f"base: {title}, s, against AIM {rival}", base["wall"], aim["wall"])


# -- the program ------------------------------------------------------------------------------------------


def program(*arguments: str) -> tuple[float, float]:
    """Seconds and peak GiB of a run of the program, in a process that measures no other."""
    code = (
        "import resource, subprocess, sys, time; t = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, capture_output=True); t = time.perf_counter() - t;"
        "print(t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-m", "deflow_cli", *arguments]
    seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), int(peak) / 2**20


def degrade_by_program(width: int, height: int, options: argparse.Namespace) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        random = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        Image.fromarray(random).resize((width, height), Image.Resampling.BICUBIC).save(source / "image.png")
        arguments = ["degrade", str(source), f"{folder}/out", "--device", options.device]
        return program(*arguments, *(["--model", str(options.model)] if options.model else []))


def patches_per_second(batch: int = 8, side: int = 160, count: int = 40) -> float:
    clean, noisy = (ImageCache(paths, 2**31) for paths in packaged_photos())
    sampler = UnpairedSampler(clean, noisy, patch_size=side, seed=0)
    with Prefetcher(sampler, 0, batch) as batches:
        next(batches)
        started = time.perf_counter()
        for _ in range(count):
            next(batches)
        return count * batch / (time.perf_counter() - started)


def programs(options: argparse.Namespace) -> None:
    """Figures of the program alone."""
    print("\n| | |\n| --- | ---: |")
    helped = statistics.median(program("--help")[0] for _ in range(options.runs))
    print(f"| `deflow --help` | {helped:.2f} s |")
    small = statistics.median(degrade_by_program(256, 256, options)[0] for _ in range(options.runs))
    print(f"| `deflow degrade` of one 256x256 picture, from process start | {small:.2f} s |")
    print(f"| input pipeline, patches of 160 px per second | {patches_per_second():.0f} |")
    if options.large:
        width, height = (int(side) for side in options.large.split("x"))
        seconds, peak = degrade_by_program(width, height, options)
        print(f"| `deflow degrade` of one {options.large} picture | {seconds:.0f} s, peak {peak:.2f} GiB |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="ntire,aim")
    parser.add_argument("--rows", default="count,degrade,train,base,program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=512, help="of the picture that is degraded")
    parser.add_argument("--batch", type=int, default=2, help="of the training step, at the preset's patch")
    parser.add_argument("--fp32", action="store_true", help="no bf16 with CUDA")
    parser.add_argument("--large", default="", metavar="WxH", help="also degrade one picture of this size")
    parser.add_argument("--model", type=Path, help="of the program's figures; default: the embedded one")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options)
    cuda = options.device.startswith("cuda")
    name = torch.cuda.get_device_name(options.device) if cuda else f"{options.threads} threads"
    print(f"torch {torch.__version__}, {platform.machine()}, {name}; medians of {options.runs};")
    print(f"load {os.getloadavg()[0]:.1f} at the start on {os.cpu_count()} cores\n")
    print("| | deflow | plain | ratio | difference |\n| --- | ---: | ---: | ---: | ---: |")
    rows = options.rows.split(",")
    kinds = {"count": compare_counts, "degrade": compare_degrading, "train": compare_training}
    for preset in options.presets.split(","):
        for kind, compare in kinds.items():
            if kind in rows:
                compare(preset, options)
    if "base" in rows:
        base_against_aim(options)
    if "program" in rows:
        programs(options)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
