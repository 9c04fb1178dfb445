"""How good are an SRFlow's samples? Figures at several temperatures on pictures that were made small.

    python tests/bench/srflow_samples.py MODEL IMAGES [--count 12] [--temperatures 0,0.7,0.8,0.9,1]

IMAGES: a folder of large pictures, of which ``--count`` are taken evenly spread, made small by MATLAB's
bicubic. One sample each, untiled. Fine detail is what a Gaussian of std 1.5 takes away of the channels' mean:
its energy over the true one's, median and range over pictures, then that of all pictures' energies together.
strayed: share of values beyond [0, 1] by more than 0.05. LR-PSNR: mean and lowest.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.data.folder_sample import evenly_spread
from deflow_cli.data.images.files import read_rgb8, to_pixels, to_tensor
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.resize import downsample, rescale
from deflow_cli.inference.positional_noise import LatentNoise
from deflow_cli.inference.super_resolving import SampleRequest, SuperResolver, strayed_share
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.workflows.score.scorers import build_scorers


def psnr(a: Pixels, b: Pixels) -> float:
    return float(10 * np.log10(255**2 / max(np.square(a.astype(np.float64) - b).mean(), 1e-6)))


def detail(pixels: Pixels) -> float:
    gray = pixels.astype(np.float64).mean(2)
    return float(np.square(gray - cv2.GaussianBlur(gray, (0, 0), 1.5)).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--temperatures", default="0,0.7,0.8,0.9,1")
    options = parser.parse_args()
    model, _ = load_restorer(options.model)
    assert isinstance(model, SRFlow)
    sampler, scale = SuperResolver(model, tile=0), model.scale
    (niqe,), _ = build_scorers(["niqe"], ScorerOptions(), torch.device("cpu"))
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)

    def record(name: str, pixels: Pixels, gt: Pixels, lq: Pixels, strayed: float = 0.0) -> None:
        quality = niqe(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None], None)[0].value
        lr_psnr = psnr(downsample(pixels, scale, "matlab"), lq)
        rows[name].append((psnr(pixels, gt), lr_psnr, detail(pixels), detail(gt), quality, strayed))

    for path in evenly_spread(list_images(options.images), options.count):
        image = read_rgb8(path)
        height, width = (side // 16 * 16 for side in image.shape[:2])
        gt = np.ascontiguousarray(image[:height, :width])
        lq = downsample(gt, scale, "matlab")
        enlarged = rescale(lq.astype(np.float32), height, width).clip(0, 255)
        record("true", gt, gt, lq)
        record("bicubic", np.floor(enlarged + 0.5).astype(np.uint8), gt, lq)
        for temperature in map(float, options.temperatures.split(",")):
            found: list[Tensor] = []
            request = SampleRequest([LatentNoise(0, path.name)], [temperature])
            sampler.restore(to_tensor(lq), request, lambda _, window, piece, f=found: f.append(piece))
            record(f"T = {temperature:g}", to_pixels(found[0]), gt, lq, strayed_share(found[0]))
    print("| | PSNR dB | LR-PSNR dB | fine detail | of all pictures | NIQE | strayed |")
    print("|---|---|---|---|---|---|---|")
    for name, values in rows.items():
        p, lr, ours, true, quality, strayed = np.array(values).T
        energy, pooled = ours / true, ours.sum() / true.sum()
        shown = f"{np.median(energy):.2f} ({energy.min():.2f} to {energy.max():.2f}) | {pooled:.2f}"
        print(
            f"| {name} | {p.mean():.2f} | {lr.mean():.1f} (lowest {lr.min():.1f}) | {shown} | "
            f"{np.nanmean(quality):.2f} | {100 * strayed.mean():.1f} % |"
        )


if __name__ == "__main__":
    main()
