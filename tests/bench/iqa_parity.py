"""Our scores beside the official ones, as a table.

    python tests/bench/iqa_parity.py --data DIR

DIR/iqa holds the published calibration pictures, `official_values.csv` (metric, image, ref, value, source,
note) and `params/` with LIVE's model of BRISQUE. Rows of MathWorks' own models, whose parameters are not
published, and of LPIPS where its weights are not here, are left out and named.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deflow_cli.errors import DeflowError
from deflow_cli.metrics.base import Scorer
from deflow_cli.metrics.nss import matlab_gray
from deflow_cli.metrics.quality.brisque import Brisque, read_brisque_model
from deflow_cli.metrics.quality.fidelity import Psnr, Ssim, ssim_gaussian
from deflow_cli.metrics.quality.niqe import Niqe, read_niqe_model
from deflow_cli.metrics.quality.piqe import Piqe
from deflow_cli.paths import weights_folder

Score = Callable[[Tensor, Tensor | None], float]


def read(path: Path) -> Tensor:
    with Image.open(path) as opened:
        return torch.from_numpy(np.asarray(opened.convert("RGB")).copy()).permute(2, 0, 1)[None]


def by(scorer: Scorer) -> Score:
    return lambda image, reference: scorer(image, reference)[0].value


def gray_ssim(image: Tensor, reference: Tensor | None, halved: bool = False) -> float:
    """ssim.m on gray; ``halved``: with its own averaging and decimation by two."""
    assert reference is not None
    planes = [matlab_gray(side)[0].numpy() for side in (image, reference)]
    if halved:
        planes = [
            cv2.blur(plane, (2, 2), anchor=(0, 0), borderType=cv2.BORDER_REFLECT)[::2, ::2]
            for plane in planes
        ]
    first, second = (torch.from_numpy(np.ascontiguousarray(plane))[None, None] for plane in planes)
    return float(ssim_gaussian(first, second))


def scores(data: Path) -> dict[str, Score]:
    """Metric, or metric:folder where a folder's values were computed in another way."""
    found: dict[str, Score] = {
        "psnr": by(Psnr()),
        "ssim": gray_ssim,
        "ssim:piq": lambda image, reference: gray_ssim(image, reference, halved=True),
        "psnr:basicsr": by(Psnr(4)),
        "ssim:basicsr": by(Ssim("gaussian", 4)),
        "psnr_y:basicsr": by(Psnr(4, "y")),
        "ssim_y:basicsr": by(Ssim("gaussian", 4, "y")),
        "niqe": by(Niqe(read_niqe_model(weights_folder() / "niqe-live.safetensors"))),
        "brisque": by(Brisque(read_brisque_model(data / "iqa" / "params" / "brisque_allmodel"))),
        "piqe": by(Piqe()),
    }
    try:
        from deflow_cli.checkpoints.hub import locate
        from deflow_cli.metrics.quality.lpips import Lpips

        found["lpips"] = by(Lpips(locate("alexnet")))
    except DeflowError:
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds iqa/")
    options = parser.parse_args()
    folder = options.data / "iqa"
    known, left_out = scores(options.data), []
    print("| metric | picture | official | ours | difference | flat pixels |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for row in csv.DictReader((folder / "official_values.csv").open(encoding="utf-8")):
        place = row["image"].split("/")[0]
        score = known.get(f"{row['metric']}:{place}", known.get(row["metric"]))
        if score is None:
            left_out.append(f"{row['metric']} of {Path(row['image']).stem}")
            continue
        image = read(folder / row["image"])
        ours = score(image, read(folder / row["ref"]) if row["ref"] else None)
        digits = min(len(row["value"].partition(".")[2].rstrip("0")), 6) + 2
        official = float(row["value"])
        print(
            f"| {row['metric']} | {Path(row['image']).stem} | {official:.{digits - 2}f} | {ours:.{digits}f} "
            f"| {ours - official:+.1e} | {flat_share(image):.1%} |"
        )
    print("\nleft out:", ", ".join(left_out))


def flat_share(image: Tensor) -> float:
    """Share of pixels whose 7 x 7 neighbourhood is one gray."""
    gray = matlab_gray(image)[0].numpy()
    kernel = np.ones((7, 7), np.uint8)
    return float((cv2.dilate(gray, kernel) == cv2.erode(gray, kernel)).mean())


if __name__ == "__main__":
    main()
