"""Inputs: what every command needs, small, and how each of them is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.files import Image, to_pixels, write_image
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.presets.reader import FIT, SR, SRFLOW
from tests.inference.small import small_model, smooth_images
from tests.inference.small_srflow import started_srflow
from tests.small import small_run
from tests.workflows.restorer.srflow.test_srflow_train import small as small_srflow
from tests.workflows.restorer.test_sr_train import small as small_sr

COUNT, SIDE = 6, 64
FIT_SETTINGS = (
    "fit.iterations=6",
    "fit.report=false",
    "fit.preview_every=3",
    "fit.channel_statistics=no",
    "fit.start=constant",  # closed forms would take longer than the steps
    "fit.shift_update=gradient",
)
FORMATS = ("folders", "lmdb", "webdataset")


def write_inputs(root: Path) -> Path:
    for index in range(COUNT):
        clean, noise = smooth_images(1, SIDE, SIDE, index), torch.Generator().manual_seed(index)
        noisy = smooth_images(1, SIDE, SIDE, 100 + index) + 0.05 * torch.randn(clean.shape, generator=noise)
        write_image(root / "clean" / f"{index}.png", Image(to_pixels(clean)))
        write_image(root / "noisy" / f"{index}.png", Image(to_pixels(noisy)))
        write_image(root / "pairs/gt" / f"{index:07d}.png", Image(to_pixels(clean)))
        write_image(root / "pairs/lq" / f"{index:07d}.png", Image(to_pixels(noisy[..., ::2, ::2])))
        write_image(root / "small" / f"{index}.png", Image(to_pixels(clean[..., ::4, ::4])))
        for sample in range(2):
            write_image(
                root / "samples" / f"{index}_s{sample:02d}.png", Image(to_pixels(noisy + 0.01 * sample))
            )
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[16:32, 16:32] = 255
    write_image(root / "mask.png", Image(mask))
    save_model(root / "model.safetensors", small_model(), {"step": 1})
    torch.manual_seed(0)
    save_restorer(root / "esrgan.safetensors", RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1)), {})
    save_srflow(root / "srflow.safetensors", started_srflow(), {})
    (root / "fit.toml").write_text(FIT.to_toml(small_run(*FIT_SETTINGS)))
    (root / "sr.toml").write_text(SR.to_toml(small_sr()))
    (root / "srflow.toml").write_text(SRFLOW.to_toml(small_srflow()))
    return root


def trainings(inputs: Path, out: Path) -> dict[str, list[object]]:
    """Commands that train, by name, into a folder."""
    pairs, cpu = inputs / "pairs", ["--device", "cpu"]
    folders = [inputs / "clean", inputs / "noisy"]
    return {
        "fit": ["fit", *folders, "--preset", inputs / "fit.toml", "--out", out, *cpu],
        "sr-train": ["sr-train", pairs, "--preset", inputs / "sr.toml", "--out", out, *cpu],
        "srflow": ["sr-train", pairs, "--preset", inputs / "srflow.toml", "--out", out, *cpu],
    }


def data_sets(inputs: Path, out: Path) -> dict[str, list[object]]:
    """Commands that make pairs, by the format's name."""
    given = ["make-pairs", inputs / "clean", out, "--model", inputs / "model.safetensors", "--device", "cpu"]
    return {
        f"make-pairs, {name}": [*given, "--scale", 2, "--workers", 2, "--format", name] for name in FORMATS
    }


@dataclass(frozen=True)
class Command:
    """A command that writes to ``out`` of a folder. file: whether that is a file. result: also on stdout."""

    words: list[object]
    is_file: bool = False
    prints: bool = False


def writers(inputs: Path, folder: Path) -> dict[str, Command]:
    """Every command that writes files, by name."""
    cpu, out, clean, noisy = ["--device", "cpu"], folder / "out", inputs / "clean", inputs / "noisy"
    esrgan, srflow = (["--model", inputs / f"{name}.safetensors"] for name in ("esrgan", "srflow"))
    small, mask = inputs / "small", inputs / "mask.png"
    score = ["score", noisy, *cpu]
    quality = [*score, "--ref", clean, "--metrics", "psnr"]
    realism = [*score, "--realism", clean, "--quick"]
    space = ["score", *cpu, "--space", inputs / "samples", "--ref", clean]
    page, table, picture = folder / "out/page.html", folder / "out/table.csv", folder / "out/sheet.png"
    return {
        "degrade": Command(["degrade", clean, out, "--model", inputs / "model.safetensors", *cpu]),
        "restore": Command(["restore", clean, out, *esrgan, *cpu]),
        "restore, samples": Command(["restore", small, out, *srflow, "--sheet", picture, *cpu]),
        "edit": Command(["edit", "vary", clean, out, *srflow, "--mask", mask, *cpu]),
        "score, table": Command([*quality, "--csv", table], prints=True),
        "score, page": Command([*quality, "--html", page], prints=True),
        "score --realism, table": Command([*realism, "--csv", table], prints=True),
        "score --realism, page": Command([*realism, "--html", page], prints=True),
        "score --space, table": Command([*space, "--csv", table], prints=True),
        "score --space, page": Command([*space, "--html", page], prints=True),
        "export": Command(["export", inputs / "esrgan.safetensors", out / "x.pth"]),
        "export, srflow": Command(["export", inputs / "srflow.safetensors", out / "x.safetensors"]),
        "report": Command(["report", inputs / "model.safetensors", "--out", page, "--clean", clean, *cpu]),
        **{name: Command(words) for name, words in data_sets(inputs, out).items()},
        **{name: Command(words) for name, words in trainings(inputs, out).items()},
    }
