"""Options of `deflow score`: what they are, and which of them belong together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.errors import ConfigError, DataError
from deflow_cli.metrics.registry import metrics_in_words
from deflow_cli.paths import check_writable

QUALITY, REALISM = "Image quality", "Realism of a degradation (--realism)"


def _quality(*names: str, metavar: str | None = None, help: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        *names, metavar=metavar, help=help, rich_help_panel=QUALITY
    )
    return option


Outputs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="OUT",
        help="Folders of images (recursive), a method each, or single images; with --realism, folders of"
        " synthetic noisy images.",
    ),
]
Reference = Annotated[
    Path | None,
    _quality("--ref", metavar="GT", help="The true images: a folder with the same names, or one image."),
]
Metrics = Annotated[
    str | None,
    _quality(
        metavar="A,B,...",
        help=f"Of {metrics_in_words()} (default: all that apply).",
    ),
]
Protocol = Annotated[
    str | None,
    _quality(
        metavar="rwsr|sr",
        help="rwsr: SSIM with 7x7 uniform windows, no border crop (default). sr: 11x11 Gaussian windows and"
        " 4 px of border left out.",
    ),
]
CropBorder = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=0, help="Border left out of PSNR and SSIM, in pixels.", rich_help_panel=QUALITY
    ),
]
Luma = Annotated[bool, _quality("--y", help="PSNR and SSIM on Y of YCbCr instead of RGB.")]
Pairing = Annotated[
    str | None,
    _quality(
        metavar="name|order",
        help="Partners have the same name but for the suffix (default), or the same place in sorted order.",
    ),
]
BrisqueModel = Annotated[
    Path | None, _quality("--brisque-model", metavar="FILE", help="LIVE's allmodel, allrange beside it.")
]
NiqeModel = Annotated[
    Path | None, _quality("--niqe-model", metavar="FILE", help="Other figures than LIVE's for NIQE.")
]
LpipsNet = Annotated[
    str | None, _quality("--lpips-net", metavar="alex|vgg", help="The net behind lpips (default: alex).")
]
LpipsWeights = Annotated[
    Path | None, _quality("--lpips-weights", metavar="FILE", help="Backbone of that net, as torchvision's.")
]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write every single value.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the resampling behind the intervals.")]
Realism = Annotated[
    Path | None,
    typer.Option(
        "--realism",
        metavar="REAL",
        help="Tell instead how real the noise of OUT is beside that of this folder.",
        rich_help_panel=REALISM,
    ),
]
Clean = Annotated[
    list[Path] | None,
    typer.Option(
        "--clean", metavar="DIR", help="Clean partners by name; may be repeated.", rich_help_panel=REALISM
    ),
]
InceptionWeights = Annotated[
    Path | None,
    typer.Option(
        "--inception-weights", metavar="FILE", help="Weights of Inception v3.", rich_help_panel=REALISM
    ),
]
Quick = Annotated[bool, typer.Option("--quick", help="Leave out what takes long.", rich_help_panel=REALISM)]


def refuse(given: Mapping[str, object], why: str, next_step: str) -> None:
    """Raise ConfigError for the first option of the other half that was given."""
    for option, value in given.items():
        if not (value is None or value is False or value == []):  # 0 is a value
            raise ConfigError(f"{option} {why}", next_step=next_step)


def metric_names(text: str | None) -> tuple[str, ...]:
    """``psnr, SSIM`` as names; none where nothing was given. Raises ConfigError for an empty list."""
    if text is None:
        return ()
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError(f"--metrics is {text!r}", next_step="write names such as psnr,ssim")
    return names


def check_exists(path: Path) -> None:
    """Raise DataError if there is nothing."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", next_step="pass a folder of images, or an image")


def check_target(path: Path | None, option: str) -> Path | None:
    """A file to write, as given. Raises DeflowError, before anything is computed, where it cannot be."""
    if path is None:
        return None
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a folder", next_step="pass the name of a file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ConfigError(f"{option} {path}: {folder} is a file", next_step="choose another place")
    check_writable(path)
    return path
