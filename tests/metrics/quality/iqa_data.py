"""Research data of the image-quality metrics: pictures with published values, where an environment variable
names the folder."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from tests.golden.tolerances import tolerance
from tests.metrics.quality.iqa_golden import as_batch


def named_folder(variable: str) -> Path:
    """Skips the test where the variable names no folder."""
    folder = os.environ.get(variable, "")
    if not (folder and (Path(folder) / "iqa").is_dir()):
        pytest.skip(f"{variable} names no folder with iqa/")
    return Path(folder) / "iqa"


def picture(relative: str) -> Tensor:
    """uint8 1 x 3 x H x W."""
    with Image.open(named_folder("DEFLOW_DATA") / relative) as image:
        return as_batch(np.asarray(image.convert("RGB")))


def official_values(metric: str) -> list[dict[str, str]]:
    """Rows of official_values.csv: image, ref, value, source, note."""
    with (named_folder("DEFLOW_DATA") / "official_values.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == metric]
    assert rows, metric
    return rows


def golden_rows(name: str) -> list[dict[str, str]]:
    """Rows of a table of the golden folder."""
    with (named_folder("DEFLOW_GOLDEN") / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def golden_picture(row: dict[str, str]) -> Tensor:
    """The picture of a row of nr.csv: a crop of one from its top-left corner."""
    name = row["image"].split("[")[0]
    kind = name[8:]
    relative = f"calibra/{kind}/{name[4:7]}.bmp" if name.startswith("tid_") else f"basicsr/{name}_gt.png"
    return picture(relative)[..., : int(row["height"]), : int(row["width"])].contiguous()


def rounded_close(value: float, printed: str) -> bool:
    """Is it what was printed, within half a unit of the last digit?"""
    unit = 10.0 ** -len(printed.partition(".")[2])
    return abs(value - float(printed)) <= tolerance("iqa.official.rounded") * unit * (1 + 1e-9)
