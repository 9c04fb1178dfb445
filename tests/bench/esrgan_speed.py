"""How fast is the restorer? A training step and an inference at the paper's size beside plain PyTorch.

    python tests/bench/esrgan_speed.py [--threads 1] [--runs 3] [--device cpu] [--tile 128] [--quick]

RRDBNet x4 of 64 features, 23 blocks, growth 32. The training step is the GAN stage's: VGG-128 discriminator,
VGG19 conv5_4 (random weights), both Adam updates, crops of 128 px, 2 on a CPU and 16 with CUDA. The inference
is 256x256 to 1024x1024, tiled as `deflow restore` chooses, and in tiles of ``--tile`` (with the overlap that
leaves no seam: 96 px). "Plain" is the same network written here as anyone would, with activations in place,
contiguous and in float32, trained in RealSR's order and applied in one pass. With CUDA ours computes in bf16,
as the commands do (``--fp32``: not).

Every measurement is a process of its own, which gives its peak memory; rivals take turns run by run, so that
a busy machine is busy for both. Medians, after one run that does not count (of an inference: at 64x64). Both
start from the same weights and the same random batch: "difference" is the largest relative one between the
first step's losses, or some pixels of the picture.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.arrays import Window
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.inference.restoring import Restorer
from deflow_cli.models.esrgan.discriminators import VggDiscriminator
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.esrgan.losses import IMAGENET_MEAN, IMAGENET_STD, VGG19_PLAN, Vgg19Features
from deflow_cli.presets.reader import SR
from deflow_cli.runtime.cuda_graphs import GraphCache
from deflow_cli.runtime.device import choose_precision
from deflow_cli.runtime.memory import available_memory
from deflow_cli.workflows.restore import MEMORY_SHARE
from deflow_cli.workflows.restorer.step import Moment, RestorerStep

LOSSES = ("pixel", "perceptual", "adversarial", "discriminator")
Action = Callable[[], list[float]]
"""Does the work once; returns figures that must be the same for rivals."""


def restorer_config(quick: bool) -> RestorerConfig:
    return RestorerConfig(scale=4, channels=64, blocks=1 if quick else 23, growth_channels=32)


# -- plain ------------------------------------------------------------------------------------------------


class PlainDense(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, growth, 3, 1, 1)
        self.conv2 = nn.Conv2d(channels + growth, growth, 3, 1, 1)
        self.conv3 = nn.Conv2d(channels + 2 * growth, growth, 3, 1, 1)
        self.conv4 = nn.Conv2d(channels + 3 * growth, growth, 3, 1, 1)
        self.conv5 = nn.Conv2d(channels + 4 * growth, channels, 3, 1, 1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.act(self.conv1(x))
        x2 = self.act(self.conv2(torch.cat((x, x1), 1)))
        x3 = self.act(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = self.act(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x


class PlainBlock(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (PlainDense(channels, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class PlainGenerator(nn.Module):
    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        channels = config.channels
        self.conv_first = nn.Conv2d(3, channels, 3, 1, 1)
        blocks = (PlainBlock(channels, config.growth_channels) for _ in range(config.blocks))
        self.body = nn.Sequential(*blocks)
        self.conv_body = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv_up1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv_up2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv_hr = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv_last = nn.Conv2d(channels, 3, 3, 1, 1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        x = self.act(self.conv_up1(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = self.act(self.conv_up2(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(self.act(self.conv_hr(x)))


class PlainDiscriminator(nn.Module):
    """Takes the tensors of a ``VggDiscriminator`` in their order."""

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, rest = 3, size
        for outputs in (64, 128, 256, 512, 512)[: int(math.log2(size)) - 2]:
            first = not layers
            layers.append(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=first))
            layers += [] if first else [nn.BatchNorm2d(outputs)]
            layers += [nn.LeakyReLU(0.2, True), nn.Conv2d(outputs, outputs, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, True)]
            inputs, rest = outputs, rest // 2
        layers += [nn.Flatten(), nn.Linear(512 * rest * rest, 100), nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*layers, nn.Linear(100, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def take_weights(plain: nn.Module, ours: nn.Module) -> None:
    """Copy weights by their order, which is the same."""
    values = list(ours.state_dict().values())
    plain.load_state_dict(dict(zip(plain.state_dict(), values, strict=True)), strict=True)


class PlainFeatures(nn.Module):
    def __init__(self, ours: Vgg19Features) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in VGG19_PLAN:
            if outputs:
                layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ReLU(True)]
                inputs = outputs
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        take_weights(self.features, ours.features)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.features((x - self.mean) / self.std)


def plain_step(
    networks: tuple[nn.Module, nn.Module, nn.Module],
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    gt: Tensor,
    lq: Tensor,
) -> list[float]:
    """One iteration in RealSR's order; returns pixel, perceptual, adversarial and discriminator loss."""
    generator, judge, features = networks
    bce = F.binary_cross_entropy_with_logits
    for parameter in judge.parameters():
        parameter.requires_grad = False
    optimizers[0].zero_grad()
    restored = generator(lq)
    pixel = F.l1_loss(restored, gt)
    perceptual = F.l1_loss(features(restored), features(gt).detach())
    fake, real = judge(restored), judge(gt).detach()
    zeros, ones = torch.zeros_like(real), torch.ones_like(real)
    adversarial = (bce(real - fake.mean(), zeros) + bce(fake - real.mean(), ones)) / 2
    (1e-2 * pixel + perceptual + 5e-3 * adversarial).backward()
    optimizers[0].step()
    for parameter in judge.parameters():
        parameter.requires_grad = True
    optimizers[1].zero_grad()
    real, fake = judge(gt), judge(restored.detach())
    judged = (bce(real - fake.mean(), ones) + bce(fake - real.mean(), zeros)) / 2
    judged.backward()
    optimizers[1].step()
    return [loss.item() for loss in (pixel, perceptual, adversarial, judged)]


# -- what is measured -------------------------------------------------------------------------------------


def random_features(generator: torch.Generator) -> Vgg19Features:
    tensors, inputs, place = {}, 3, 0
    for outputs in VGG19_PLAN:
        if outputs:
            weight = torch.empty(outputs, inputs, 3, 3).normal_(generator=generator)
            tensors[f"features.{place}.weight"] = weight * (2 / (9 * inputs)) ** 0.5
            tensors[f"features.{place}.bias"] = torch.zeros(outputs)
            inputs = outputs
        place += 2 if outputs else 1
    return Vgg19Features(tensors)


def training(options: argparse.Namespace, rival: str) -> tuple[Action, Action]:
    """A training step, which is its own first run."""
    device = torch.device(options.device)
    random = torch.Generator().manual_seed(0)
    generator = RRDBNet(restorer_config(options.quick), random)
    judge, features = VggDiscriminator(options.crop, 64, random), random_features(random)
    gt = torch.rand(options.batch, 3, options.crop, options.crop, generator=random).to(device)
    lq = F.interpolate(gt, scale_factor=0.25, mode="area")
    if rival == "plain":
        own, own_judge = PlainGenerator(generator.config), PlainDiscriminator(options.crop)
        take_weights(own, generator)
        take_weights(own_judge, judge)
        networks = (own.to(device), own_judge.to(device), PlainFeatures(features).to(device))
        adams = tuple(torch.optim.Adam(network.parameters(), lr=1e-4) for network in networks[:2])
        plain = partial(plain_step, networks, (adams[0], adams[1]), gt, lq)
        return plain, plain
    config = SR.load("paper")
    sr = replace(config.sr, stage="gan", batch_size=options.batch, gt_size=options.crop)
    step = RestorerStep(
        generator.to(device),
        judge.to(device),
        features.to(device),
        replace(config, restorer=generator.config, sr=sr),
        lambda step: (gt, lq),
        lambda step, share: Moment("gan", step + 1, share),
        choose_precision("fp32" if options.fp32 else "auto", device),
    )

    def once() -> list[float]:
        figures = step(0, 0.0, 1.0).figures
        return [figures[name].item() for name in LOSSES]

    return once, once


def inference(options: argparse.Namespace, rival: str) -> tuple[Action, Action]:
    """An inference, and a small one that comes first. The figures are some pixels of the picture."""
    device = torch.device(options.device)
    random = torch.Generator().manual_seed(0)
    generator = RRDBNet(restorer_config(options.quick), random)
    image = torch.rand(1, 3, options.side, options.side, generator=random)
    small = image[..., :64, :64].contiguous()
    if rival == "plain":
        own = PlainGenerator(generator.config)
        take_weights(own, generator)
        own = own.to(device).eval()

        @torch.no_grad()
        def apply(image_bchw: Tensor) -> list[float]:
            return own(image_bchw.to(device)).cpu()[0, :, ::64, ::64].flatten().tolist()

        return partial(apply, image), partial(apply, small)
    restorer = Restorer(
        generator,
        device,
        tile=options.tile if rival == "tiles" else None,
        dtype=choose_precision("fp32" if options.fp32 else "auto", device),
        memory=int(MEMORY_SHARE * available_memory(device)),
        graphs=GraphCache,
    )

    def restore(image_bchw: Tensor) -> list[float]:
        result = torch.empty(1, 3, *(4 * side for side in image_bchw.shape[-2:]))

        def write(window: Window, piece: Tensor) -> None:
            result[(..., *window.slices)] = piece.cpu()

        restorer.restore(image_bchw, write)
        return result[0, :, ::64, ::64].flatten().tolist()

    return partial(restore, image), partial(restore, small)


# -- measuring --------------------------------------------------------------------------------------------


def work(options: argparse.Namespace) -> None:
    """A process that measures one thing: a run for each line of its input, a line of JSON for each run."""
    torch.set_num_threads(options.threads)
    kind, rival = options.work.split(":")
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    action, first = (training if kind == "training" else inference)(options, rival)
    told: dict[str, Any] = {"figures": first()}
    print(flush=True)  # warm
    for _line in sys.stdin:
        if cuda:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        wall, own = time.perf_counter(), time.process_time()
        figures = action()
        if cuda:
            torch.cuda.synchronize(device)
        told |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - own}
        if kind == "inference":
            told["figures"] = figures
        peak = torch.cuda.max_memory_allocated(device) >> 20 if cuda else 0
        told["peak"] = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(json.dumps(told), flush=True)


def compare(kind: str, rivals: Sequence[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Rivals by name: medians of ``wall`` and ``cpu``, ``peak`` and ``figures``."""
    command = [sys.executable, __file__, *sys.argv[1:], "--work"]
    pipes, processes = subprocess.PIPE, {}
    for rival in rivals:
        process = subprocess.Popen([*command, f"{kind}:{rival}"], stdin=pipes, stdout=pipes, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # the next one starts, and runs are measured, when this one is warm
        processes[rival] = process
    found: dict[str, list[dict[str, Any]]] = {rival: [] for rival in rivals}
    for _ in range(options.runs):
        for rival, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            found[rival].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.communicate()
    return {
        rival: {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu")}
        | {"peak": runs[-1]["peak"], "figures": runs[0]["figures"]}
        for rival, runs in found.items()
    }


def show(title: str, measured: dict[str, dict[str, Any]]) -> None:
    plain = measured["plain"]
    for rival, row in measured.items():
        if rival == "plain":
            continue
        cells = []
        for key, form in (("cpu", ".2f"), ("wall", ".2f"), ("peak", ".0f")):
            cells += [f"{row[key]:{form}}", f"{plain[key]:{form}}", f"{row[key] / plain[key]:.2f}"]
        pairs = zip(row["figures"], plain["figures"], strict=True)
        apart = max(abs(a - b) / max(abs(b), 1e-3) for a, b in pairs)
        name = title if rival == "ours" else f"{title}, {rival}"
        print(f"| {name} | {' | '.join(cells)} | {apart:.0e} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tile", type=int, default=128, help="side of tiles in their row; 0: none")
    parser.add_argument("--fp32", action="store_true", help="no bf16 with CUDA")
    parser.add_argument("--quick", action="store_true", help="one block and small images: does it run?")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    options.batch = 16 if cuda else 2
    options.crop, options.side = (64, 96) if options.quick else (128, 256)
    if options.work:
        return work(options)
    name = torch.cuda.get_device_name(options.device) if cuda else f"{options.threads} threads"
    print(f"torch {torch.__version__}, {platform.machine()}, {name}; medians of {options.runs};")
    print(f"load {os.getloadavg()[0]:.1f} at the start on {os.cpu_count()} cores\n")
    columns = [f"{what}, {who}" for what in ("CPU-s", "s", "peak MiB") for who in ("ours", "plain", "ratio")]
    print(f"| | {' | '.join(columns)} | difference |\n| --- |{' ---: |' * 10}")
    step = f"training step, {options.batch} x {options.crop} px"
    show(step, compare("training", ("ours", "plain"), options))
    side = options.side
    tiles = ("tiles",) if options.tile else ()
    measured = compare("inference", ("ours", "plain", *tiles), options)
    if tiles:
        measured[f"tiles of {options.tile}"] = measured.pop("tiles")
    show(f"inference, {side}x{side}", measured)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
