"""What do float32 and bfloat16 nets cost in exactness? Against float64, on packaged photographs.

    python tests/bench/precision.py [--model MODEL] [--device cpu]

Bits per dimension and gradients of a training batch, and samples of one image with the same noise, in grey
levels. The flow, scales and log-dets are float32 in each case but the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from deflow_cli.checkpoints.format import load_model
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.photos import packaged_photos
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution

EMBEDDED = Path(__file__).parents[2] / "weights" / "camera-noise.safetensors"
SIDE = 160


def batch() -> Tensor:
    """Middles of eight photographs, four of each half."""
    paths = [path for half in packaged_photos() for path in half[:4]]
    crops = []
    for path in paths:
        pixels = torch.from_numpy(read_rgb8(path).copy()).permute(2, 0, 1).double() / 255
        top, left = ((side - SIDE) // 2 for side in pixels.shape[1:])
        crops.append(pixels[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(crops)


def likelihood(model: DeFlow, x: Tensor, h: Tensor) -> tuple[float, Tensor]:
    """Bits per dimension of a batch, half of it clean, and all gradients as one vector."""
    model.zero_grad(set_to_none=True)
    latents, log_det = model.encode(x, h)
    half = len(x) // 2
    clean = model.prior.log_prob_clean([z[:half] for z in latents])
    degraded = model.prior.log_prob_degraded([z[half:] for z in latents])
    bits = model.nats_to_bits_per_dim(torch.cat((clean, degraded)) + log_det, x.shape).mean()
    bits.backward()
    grads = [p.grad.double().flatten() for p in model.parameters() if p.grad is not None]
    return float(bits.detach()), torch.cat(grads).cpu()


@torch.no_grad()
def sample(model: DeFlow, x: Tensor, h: Tensor) -> Tensor:
    """Degraded images, in grey levels."""
    random = torch.Generator().manual_seed(0)
    conditions = model.prepare(h)
    latents, _ = model.encode_conditioned(x, conditions)
    noise = [torch.randn(z.shape, generator=random, dtype=torch.float64).to(z) for z in latents]
    one, component = x.new_ones(len(x)), torch.zeros(len(x), dtype=torch.long, device=x.device)
    shifted = ShiftDistribution(model.prior).degrade(latents, noise, one, component)
    return model.decode_conditioned(shifted, conditions).double().cpu() * 255


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    model = load_model(options.model)[0].to(options.device)
    random = torch.Generator().manual_seed(1)
    flow = model.config.flow
    images = batch()
    h64 = model.double().condition_image(images.to(options.device)).cpu()
    h64 = h64 + flow.h_noise * torch.randn(h64.shape, generator=random, dtype=torch.float64)
    x64 = images + (torch.rand(images.shape, generator=random, dtype=torch.float64) - 0.5) / 256
    print("| nets | bits/dim | difference | gradients: cosine | samples: RMS | largest, grey levels |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    truth: tuple[float, Tensor, Tensor] | None = None
    for name, dtype, nets in (
        ("float64", torch.float64, None),
        ("float32", torch.float32, None),
        ("bfloat16", torch.float32, torch.bfloat16),
    ):
        model.to(dtype)
        model.set_net_precision(nets)
        x, h = (t.to(options.device, dtype) for t in (x64, h64))
        bits, grads = likelihood(model, x, h)
        images64 = sample(model, x, h)
        truth = truth or (bits, grads, images64)
        cosine = float(torch.nn.functional.cosine_similarity(grads, truth[1], dim=0))
        apart = images64 - truth[2]
        figures = (f"{bits:.6f}", f"{bits - truth[0]:+.1e}", f"{cosine:.8f}")
        errors = (f"{float(apart.square().mean().sqrt()):.1e}", f"{float(apart.abs().max()):.1e}")
        print(f"| {name} | {' | '.join(figures + errors)} |", flush=True)


if __name__ == "__main__":
    main()
