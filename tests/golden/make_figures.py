"""Figures: compact JSON out of the full tensors: DEFLOW_GOLDEN=DIR python -m tests.golden.make_figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.golden.full import FOLDER, Golden, load_golden
from tests.golden.parity import NAMES
from tests.golden.srflow import load_srflow_golden

HERE = Path(__file__).parent
LATENT_VALUES = 16
FIGURES_OF_SRFLOW = "srflow_small_x4"
SIZE_OF = {"small_x4": "s0", "small_x4_L2": "s1"}  # one square, one not


def short(tensor: Tensor) -> list[float] | list[int]:
    """Flat list: integers as they are, floats in the fewest digits that name the same float."""
    if not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor.flatten().tolist()
    return [float(str(value)) for value in tensor.flatten().numpy()]


def batch(golden: Golden, name: str) -> dict[str, Any]:
    image = golden.io[f"{name}.gt_u8"]
    lr = golden.io[f"{name}.lr_u8"]
    return {
        "image_shape": list(image.shape),
        "h_shape": list(lr.shape),
        "image_u8": short(image),
        "h_u8": short(lr),
    }


def spread(tensor: Tensor, count: int = LATENT_VALUES) -> dict[str, Any]:
    """Values at flat indices spread over a tensor."""
    index = torch.linspace(0, tensor.numel() - 1, count).long()
    return {"shape": list(tensor.shape), "index": index.tolist(), "value": short(tensor.flatten()[index])}


def one_position(golden: Golden, size: str) -> list[dict[str, Any]]:
    """Noise and translated latent of image 1 at position (2, 3), per latent."""
    pairs = zip(golden.listed(f"{size}.t01.noise"), golden.listed(f"{size}.t01.z"), strict=True)
    return [{"noise": short(e[1, :, 2, 3]), "z": short(z[1, :, 2, 3])} for e, z in pairs]


def figures(name: str) -> dict[str, Any]:
    golden, size = load_golden(name), SIZE_OF[name]
    io, info = golden.io, golden.info
    result: dict[str, Any] = {
        "config": {key: info["config"][key] for key in ("scale", "K", "L", "nb", "hidden")},
        "seed": info["seed"],
        "state_sha256": info["sd_sha256"],
        "actnorm": {key: short(value) for key, value in golden.under("sd.").items()},
        "batch": batch(golden, size) | {"labels": short(io[f"{size}.labels"])},
        "nll": short(io[f"{size}.enc.nll"]),
        "log_det": short(io[f"{size}.enc.logdet"]),
        "nll_float64": short(io[f"{size}.f64.nll"]),
        "log_det_float64": short(io[f"{size}.f64.logdet"]),
        "latents": [spread(z) for z in golden.listed(f"{size}.enc.eps")],
        "posterior": [
            {"gain": spread(golden.io[f"t10.prec{i}"]), "covariance": spread(golden.io[f"t10.cond_cov{i}"])}
            for i in range(len(golden.listed(f"{size}.enc.eps")))
        ],
    }
    if size == "s0":  # with quantisation noise, gradients, and the start from data
        result["uniform_24_bit"] = short((io["s0.u"].double() * 2**24).long())
        result["nll_with_noise"] = short(io["s0.encu.nll"])
        result["latents_with_noise"] = [spread(z) for z in golden.listed("s0.encu.eps")]
        result["translation"] = one_position(golden, size)
        result["gradient_norms"] = {
            key: float(f"{value[0]:.8g}") for key, value in info["grad_step1"].items() if value is not None
        }
        result["losses"] = [*info["losses_3steps"], info["loss_after_3steps"]]
        result["start"] = batch(golden, "init") | {
            "labels": info["init_labels"],
            "nll": short(io["init.nll"]),
        }
    return result


def srflow_figures(name: str) -> dict[str, Any]:
    golden = load_srflow_golden(name)
    io, info = golden.io, golden.info
    return {
        "config": {key: info["config"][key] for key in ("scale", "K", "L", "nb", "blocks", "hidden")},
        "seed": info["seed"],
        "state_sha256": info["sd_sha256"],
        "actnorm": {key: short(value) for key, value in golden.under("sd.").items()},
        "batch": batch(golden, "s0"),
        "nll": short(io["s0.enc.nll"]),
        "log_det": short(io["s0.enc.logdet"]),
        "nll_float64": short(io["s0.f64.nll"]),
        "log_det_float64": short(io["s0.f64.logdet"]),
        "latents": [spread(z) for z in golden.listed("s0.enc.eps")],
        "image_at_zero": spread(io["s0.t00.img"]),
        "gradient_norms": {
            key: float(f"{value[0]:.8g}") for key, value in golden.gradients[1].items() if value is not None
        },
    }


def layout_sha256(layout: Mapping[str, Any]) -> str:
    """Of the sorted lines "key shape"."""
    lines = sorted(f"{key} {'x'.join(map(str, shape))}" for key, shape in layout.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def layouts() -> dict[str, Any]:
    """Of the published full-size models."""
    result = {}
    for preset in ("aim", "ntire"):
        info = json.loads((Path(FOLDER) / f"keys_{preset.upper()}.json").read_text())
        result[preset] = {
            "layout_sha256": layout_sha256(info["keys"]),
            "tensors": info["state_dict_tensors"],
            "elements": info["state_dict_elements"],
            "parameters": info["parameters_total"],
            "first_keys": dict(list(info["keys"].items())[:4]),
        }
    return result


def write(path: Path, content: dict[str, Any]) -> None:
    lines = []
    for key, value in content.items():
        lines.append(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    for each in NAMES:
        write(HERE / f"{each}.json", figures(each))
    write(HERE / f"{FIGURES_OF_SRFLOW}.json", srflow_figures(FIGURES_OF_SRFLOW))
    write(HERE / "layouts.json", layouts())
