"""Preview grids: real clean, real noisy and samples, side by side."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from deflow_cli.data.images.files import Image, read_rgb8, to_pixels, write_image
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.reports.contact_sheet import contact_sheet, residual_view
from deflow_cli.runtime.seeding import generator

PREVIEW_SAMPLES = 3


@torch.no_grad()
def sample_patches(model: DeFlow, clean_bchw: Tensor, random: torch.Generator, temperature: float) -> Tensor:
    """One degradation of each patch (float in [0, 1], sides multiples of the model's): same shape."""
    device = clean_bchw.device
    h = model.condition_image(clean_bchw)
    noise = torch.randn(h.shape, generator=random, device=device)
    conditions = model.prepare(h + model.config.flow.h_noise * noise)
    uniform = (torch.rand(clean_bchw.shape, generator=random, device=device) - 0.5) / 255
    latents, _ = model.encode_conditioned(clean_bchw + uniform, conditions)
    weights = model.prior.log_weights().exp().expand(len(clean_bchw), -1)
    component = torch.multinomial(weights, 1, generator=random)[:, 0]
    draws = [torch.randn(z.shape, generator=random, device=device) for z in latents]
    heat = torch.full((len(clean_bchw),), temperature, device=device)
    degraded = ShiftDistribution(model.prior).degrade(latents, draws, heat, component)
    return model.statistics.to_degraded(model.decode_conditioned(degraded, conditions)).clamp(0, 1)


def preview_grid(path: Path, model: DeFlow, clean_u8: Tensor, noisy_u8: Tensor, seed: int) -> None:
    """Write a PNG: a row per patch with clean, an unrelated real noisy one, three samples and a residual."""
    device = next(model.parameters()).device
    clean = clean_u8.to(device).float() / 255
    samples = [
        sample_patches(model, clean, generator(seed, "preview", i, device=device), 1.0)
        for i in range(PREVIEW_SAMPLES)
    ]
    rows = []
    for index in range(min(len(clean), len(noisy_u8))):
        drawn = [to_pixels(s[index : index + 1]) for s in samples]
        residual = (samples[0][index] - clean[index]).permute(1, 2, 0).cpu().numpy()
        real = [t.permute(1, 2, 0).numpy() for t in (clean_u8[index], noisy_u8[index])]
        rows.append([*real, *drawn, residual_view(residual)])
    labels = ["clean", "real noisy", *(f"sample {i + 1}" for i in range(PREVIEW_SAMPLES)), "residual x8"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(contact_sheet(rows, labels, scale=2)))


def component_grid(path: Path, examples: list[list[Path]], side: int = 128) -> None:
    """Write a PNG: a row per mixture component with central crops of some of its noisy images."""
    rows = []
    for members in examples:
        crops = []
        for member in members:
            pixels = read_rgb8(member)
            top, left = ((n - min(side, n)) // 2 for n in pixels.shape[:2])
            crops.append(pixels[top : top + side, left : left + side])
        rows.append(crops + crops[-1:] * (max(map(len, examples)) - len(crops)))
    labels = ["images of a component", *[""] * (len(rows[0]) - 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(contact_sheet(rows, labels, [f"k = {k + 1}" for k in range(len(rows))])))
