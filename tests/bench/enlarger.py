"""What the embedded restorer that enlarges by two is worth beside bicubic interpolation.

    python tests/bench/enlarger.py PICTURES [--every 3]

Clean pictures, their upper left 320 x 320 px, are made small by MATLAB's bicubic, with camera noise and
without, and enlarged again. PSNR in dB away from the borders; gain: ours less bicubic's, least, median and
greatest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from realism_data import files, read

from deflow_cli.arrays import Pixels
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.data.camera_noise import camera_noise
from deflow_cli.data.images.resize import downsample
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.paths import weights_folder

SIDE, BORDER = 320, 8


def enlarged(model: RRDBNet, small: Pixels) -> Pixels:
    image = torch.from_numpy(small / np.float32(255)).permute(2, 0, 1)[None]
    with torch.no_grad():
        result = model(image)[0].permute(1, 2, 0).clamp(0, 1)
    return (result * 255).round().to(torch.uint8).numpy()


def bicubic(small: Pixels) -> Pixels:
    size = (2 * small.shape[1], 2 * small.shape[0])
    large = cv2.resize(small.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def psnr(image: Pixels, truth: Pixels) -> float:
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    error = image[inner].astype(np.float64) - truth[inner]
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--every", type=int, default=3)
    options = parser.parse_args()
    model = load_restorer(weights_folder() / "enlarger.safetensors")[0].eval()
    assert isinstance(model, RRDBNet)
    print("| input | pictures | bicubic | ours | gain |\n| --- | ---: | ---: | ---: | --- |")
    for kind in ("noisy", "clean"):
        rows = []
        for number, path in enumerate(files(options.pictures)[:: options.every]):
            truth = read(path)[:SIDE, :SIDE]
            truth = truth[: truth.shape[0] // 2 * 2, : truth.shape[1] // 2 * 2]
            small = downsample(truth, 2, "matlab")
            if kind == "noisy":
                small = camera_noise(small, np.random.default_rng(number))
            rows.append((psnr(bicubic(small), truth), psnr(enlarged(model, small), truth)))
        plain, ours = np.array(rows).T
        gain = "{:+.2f}, {:+.2f}, {:+.2f}".format(*np.quantile(ours - plain, [0, 0.5, 1]))
        print(f"| {kind} | {len(rows)} | {plain.mean():.2f} | {ours.mean():.2f} | {gain} |")


if __name__ == "__main__":
    main()
