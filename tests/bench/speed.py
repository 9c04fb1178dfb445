"""How fast? Multiply-adds per pixel and seconds for a training step and for degrading one picture.

    python tests/bench/speed.py [--preset ntire] [--threads 2] [--runs 3] [--device cpu] [--plain]

"Plain" computes the features of h once, but encodes anew and runs every net anew for each sample and in each
direction; "deflow" encodes once and keeps all that depends on h alone. Multiply-adds are always counted for
both; seconds of plain only with --plain, in the same run. Medians. The training step is forward and backward,
without the optimiser's. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deflow_cli.config import RunConfig
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.presets import load_preset


def median_seconds(action: Callable[[], object], runs: int, device: torch.device) -> float:
    """Median wall time of some runs, after one that does not count."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def multiply_adds(action: Callable[[], object], pixels: int) -> float:
    """Thousands of multiply-adds per pixel of the input."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() / 2 / pixels / 1000


def shift(model: DeFlow, latents: list[Tensor]) -> list[Tensor]:
    component = torch.zeros(len(latents[0]), dtype=torch.long, device=latents[0].device)
    noise = [torch.randn_like(z) for z in latents]
    return model.degrade_latents(latents, noise, torch.ones((), device=component.device), component)


@torch.inference_mode()
def degrade_once_prepared(model: DeFlow, image: Tensor, samples: int) -> None:
    conditions = model.prepare(model.condition_image(image))
    latents, _ = model.encode_conditioned(image, conditions)
    for _ in range(samples):
        model.decode_conditioned(shift(model, latents), conditions)


@torch.inference_mode()
def degrade_plain(model: DeFlow, image: Tensor, samples: int) -> None:
    """Features once per image, the nets anew for the encoding and for every sample's decoding."""
    assert model.encoder is not None
    features = model.encoder(model.condition_image(image))
    for _ in range(samples):
        latents, _ = model.encode_conditioned(image, model.flow.prepare(features))
        model.decode_conditioned(shift(model, latents), model.flow.prepare(features))


def training_step(model: DeFlow, config: RunConfig, batch: int, side: int, device: torch.device) -> None:
    x = torch.rand(batch, 3, side, side, device=device)
    latents, log_det = model.encode_conditioned(x, model.prepare(model.condition_image(x)))
    half = batch // 2
    log_prior = torch.cat(
        (
            model.prior.log_prob_clean([z[:half] for z in latents]),
            model.prior.log_prob_degraded([z[half:] for z in latents]),
        )
    )
    model.nats_to_bits_per_dim(log_prior + log_det, x.shape).mean().backward()
    model.zero_grad(set_to_none=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="ntire")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plain", action="store_true", help="also time the plain order (slow)")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2, help="of the training step, at the preset's patch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    config = load_preset(options.preset)
    model = DeFlow(config.model).to(device)
    image = torch.rand(1, 3, options.side, options.side, device=device)
    patch = config.fit.patch_size

    def step() -> None:
        training_step(model, config, options.batch, patch, device)

    pixels = options.side**2
    count = multiply_adds(lambda: degrade_once_prepared(model, image[..., :256, :256], 1), 256 * 256)
    plain = multiply_adds(lambda: degrade_plain(model, image[..., :256, :256], 1), 256 * 256)
    eight = multiply_adds(lambda: degrade_once_prepared(model, image[..., :256, :256], 8), 256 * 256)
    plain8 = multiply_adds(lambda: degrade_plain(model, image[..., :256, :256], 8), 256 * 256)
    train = multiply_adds(step, options.batch * patch * patch)
    rows = [("degrade, 1 sample, k multiply-adds per pixel", count, plain)]
    rows.append(("degrade, 8 samples, k multiply-adds per pixel", eight, plain8))
    name = f"degrade {options.side}x{options.side}"
    for samples in (1, 8):
        ours = median_seconds(lambda n=samples: degrade_once_prepared(model, image, n), options.runs, device)
        theirs = float("nan")
        if options.plain:
            theirs = median_seconds(lambda n=samples: degrade_plain(model, image, n), options.runs, device)
        rows.append((f"{name}, {samples} sample(s), s", ours, theirs))
    seconds = median_seconds(step, options.runs, device)
    print(f"preset {options.preset}, torch {torch.__version__}, {platform.machine()}, {device},")
    print(f"{options.threads} threads, medians of {options.runs}\n")
    print("| | deflow | plain | ratio |\n| --- | ---: | ---: | ---: |")
    for label, ours, theirs in rows:
        print(f"| {label} | {ours:.3g} | {theirs:.3g} | {ours / theirs:.2f} |")
    print(f"| training step, {options.batch}x{patch}x{patch}, k multiply-adds per pixel | {train:.4g} | | |")
    print(f"| training step, {options.batch}x{patch}x{patch}, s | {seconds:.3g} | | |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"\n{pixels} pixels per image; peak memory of the process {peak} MiB")


if __name__ == "__main__":
    main()
