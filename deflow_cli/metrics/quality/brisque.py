"""BRISQUE: a support-vector regression on a picture's natural-scene statistics.

Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", 2012; follows LIVE's
release. Its support vectors ship in no package: they are read from LIVE's ``allmodel``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deflow_cli.errors import CheckpointError
from deflow_cli.metrics.base import Metric, Score
from deflow_cli.metrics.nss import (
    aggd,
    check_images,
    ggd,
    half_scale,
    matlab_gray,
    mscn,
    neighbour_products,
    one_by_one,
)
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.metrics.registry import ScorerContext

BRISQUE_FEATURES = 36
LIVE_RANGES = (
    *((0.338, 10), (0.017204, 0.806612), (0.236, 1.642), (-0.123884, 0.20293), (0.000155, 0.712298)),
    *((0.001122, 0.470257), (0.244, 1.641), (-0.123586, 0.179083), (0.000152, 0.710456)),
    *((0.000975, 0.470984), (0.249, 1.555), (-0.135687, 0.100858), (0.000174, 0.684173)),
    *((0.000913, 0.534174), (0.258, 1.561), (-0.143408, 0.100486), (0.000179, 0.685696)),
    *((0.000888, 0.536508), (0.471, 3.264), (0.012809, 0.703171), (0.218, 1.046), (-0.094876, 0.187459)),
    *((1.5e-5, 0.442057), (0.001272, 0.40803), (0.222, 1.042), (-0.115772, 0.162604), (1.6e-5, 0.444362)),
    *((0.001374, 0.40243), (0.227, 0.996), (-0.117188, 0.098323), (3e-5, 0.531903), (0.001122, 0.369589)),
    *((0.228, 0.99), (-0.12243, 0.098658), (2.8e-5, 0.530092), (0.001118, 0.370399)),
)
"""Least and largest value of each feature over LIVE's training images: what -1 and 1 stand for."""
LIVE_SHA256 = "8b04d6045f1b27261610c8ab1730fdcc14ec80bfab0f1ab5f703bbc2927314de"
"""Of LIVE's ``allmodel``, 774 support vectors."""
HEADER = {"svm_type": "epsilon_svr", "kernel_type": "rbf"}


@dataclass(frozen=True)
class BrisqueModel:
    """An epsilon-SVR with a Gaussian kernel, float64.

    vectors: n x 36; coefficients: n; minimum, maximum: 36, the range that maps to -1..1; origin: whose.
    """

    vectors: Tensor
    coefficients: Tensor
    gamma: float
    rho: float
    minimum: Tensor
    maximum: Tensor
    origin: str

    def predict(self, features: Tensor) -> Tensor:
        """sum_i a_i exp(-gamma |x - v_i|^2) - rho of features B x 36, scaled without clipping: float64 B."""
        span = self.maximum - self.minimum
        scaled = -1.0 + 2.0 * (features - self.minimum) / span
        distance = (scaled[:, None] - self.vectors).square().sum(-1)
        return (self.coefficients * torch.exp(-self.gamma * distance)).sum(-1) - self.rho


def read_brisque_model(path: Path) -> BrisqueModel:
    """Read LIVE's libsvm text ``allmodel``.

    Ranges are read from the file beside it that has "range" for "model" in its name, or from ``allrange``,
    or else from the only other file with "range" in its name; without one, LIVE's are built in. Raises
    CheckpointError, with file, line and expectation, for anything malformed.
    """
    lines = _read_lines(path)
    header = _read_header(path, lines)
    rows = [_read_vector(path, number, line) for number, line in lines]
    if len(rows) != header["total_sv"]:
        raise CheckpointError(
            f"{path}: {len(rows)} support vectors; its header says total_sv {header['total_sv']:g}",
            next_step="the file may be cut short: fetch it again",
        )
    ranges_path = _find_ranges(path)
    ranges = LIVE_RANGES if ranges_path is None else _read_ranges(ranges_path)
    minimum, maximum = torch.tensor(ranges, dtype=torch.float64).unbind(1)
    return BrisqueModel(
        torch.tensor([vector for _, vector in rows], dtype=torch.float64),
        torch.tensor([coefficient for coefficient, _ in rows], dtype=torch.float64),
        header["gamma"],
        header["rho"],
        minimum,
        maximum,
        "LIVE" if hashlib.sha256(path.read_bytes()).hexdigest() == LIVE_SHA256 else path.name,
    )


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines from 1, blank ones left out."""
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a libsvm text ({error})",
            next_step="pass LIVE's allmodel with --brisque-model, or run: deflow weights pull brisque",
        ) from error
    return iter([(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()])


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, float]:
    """gamma, rho and total_sv; takes the lines up to ``SV``."""
    values: dict[str, float] = {}
    for number, line in lines:
        key, _, value = line.strip().partition(" ")
        if key == "SV":
            break
        if key in HEADER and value.strip() != HEADER[key]:
            raise CheckpointError(f"{path}:{number}: {key} is {value.strip()!r}; expected {HEADER[key]}")
        if key in ("gamma", "rho", "total_sv"):
            values[key] = _number(value, path, number, f"a number after {key}")
    else:
        raise CheckpointError(f"{path}: has no line SV; expected a libsvm model, as LIVE's allmodel")
    missing = [key for key in ("gamma", "rho", "total_sv") if key not in values]
    if missing:
        raise CheckpointError(f"{path}: {', '.join(missing)} not found above the line SV")
    return values


def _read_vector(path: Path, number: int, line: str) -> tuple[float, list[float]]:
    """Coefficient and 36 figures of ``coefficient 1:value 2:value ...``; libsvm leaves out zeros."""
    expected = f"'coefficient 1:value ... {BRISQUE_FEATURES}:value'"
    coefficient, *pairs = line.split()
    vector = [0.0] * BRISQUE_FEATURES
    for pair in pairs:
        index, colon, value = pair.partition(":")
        if not (colon and index.isdigit() and 1 <= int(index) <= BRISQUE_FEATURES):
            raise CheckpointError(f"{path}:{number}: {pair!r}; expected {expected}")
        vector[int(index) - 1] = _number(value, path, number, expected)
    return _number(coefficient, path, number, expected), vector


def _find_ranges(model: Path) -> Path | None:
    folder, swapped = model.parent, model.name.replace("model", "range")
    for candidate in (folder / swapped, folder / "allrange"):
        if candidate != model and candidate.is_file():
            return candidate
    named = [p for p in folder.glob("*range*") if p != model and p.suffix in ("", ".txt") and p.is_file()]
    return named[0] if len(named) == 1 else None


def _read_ranges(path: Path) -> list[tuple[float, float]]:
    """svm-scale's text: ``x``, ``-1 1``, then ``index minimum maximum`` for each of the 36 features."""
    lines = list(_read_lines(path))
    if len(lines) < 2 or lines[0][1].strip() != "x" or lines[1][1].split() != ["-1", "1"]:
        raise CheckpointError(f"{path}:1: expected svm-scale's ranges: a line 'x', then '-1 1'")
    ranges: dict[int, tuple[float, float]] = {}
    for number, line in lines[2:]:
        expected = "'index minimum maximum'"
        fields = [_number(field, path, number, expected) for field in line.split()]
        if len(fields) != 3 or fields[1] >= fields[2]:
            raise CheckpointError(f"{path}:{number}: {line.strip()!r}; expected {expected}")
        ranges[int(fields[0])] = (fields[1], fields[2])
    if sorted(ranges) != list(range(1, BRISQUE_FEATURES + 1)):
        raise CheckpointError(f"{path}: ranges of {len(ranges)} features; expected 1 to {BRISQUE_FEATURES}")
    return [ranges[index] for index in range(1, BRISQUE_FEATURES + 1)]


def _number(text: str, path: Path, line: int, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CheckpointError(f"{path}:{line}: {text.strip()!r}; expected {expected}")
    return value


def brisque_features(images_bchw: Tensor) -> Tensor:
    """The 36 features of uint8 B x 3 x H x W images, float64 B x 36, unscaled; NaN where a fit is undefined.

    18 at full and 18 at half scale: shape and variance of the MSCN values (zeros around the image), then for
    each neighbour product its shape, mean and the variances of its negative and positive values.
    """
    gray = matlab_gray(images_bchw)
    columns: list[Tensor] = []
    for level in (gray, half_scale(gray)):
        normalised, _ = mscn(level, padding="zeros")
        columns += ggd(normalised, dims=2)
        for product in neighbour_products(normalised):
            fit = aggd(product, dims=2)
            mean = (fit.right - fit.left) * fit.ratio * fit.scale
            columns += [fit.alpha, mean, fit.left.square(), fit.right.square()]
    return torch.stack(columns, dim=-1)


class Brisque:
    """Scores with BRISQUE; higher is worse, nominally 0 to 100 but not clamped."""

    def __init__(self, model: BrisqueModel, device: torch.device | str = "cpu") -> None:
        self.model = model
        self.device = torch.device(device)

    @property
    def metric(self) -> Metric:
        """See metrics.base.Metric."""
        variant = f"{self.model.origin}'s model, MATLAB gray, no crop, not clamped, flat areas snapped"
        return Metric("brisque", "BRISQUE", False, False, 2, variant)

    def __call__(self, images_bchw: Tensor, references_bchw: Tensor | None = None) -> list[Score]:
        """One score per uint8 image; references are ignored. NaN with a reason for a uniform image."""
        check_images(images_bchw)
        features = one_by_one(brisque_features, images_bchw.to(self.device)).cpu()
        height, width = images_bchw.shape[-2:]
        reason = f"{width}x{height}: too uniform or too small for BRISQUE's statistics"
        values = self.model.predict(features).tolist()
        return [Score(v) if math.isfinite(v) else Score(math.nan, reason) for v in values]


def build_brisque(options: ScorerOptions, context: ScorerContext) -> Brisque:
    """BRISQUE by LIVE's model, which must be brought. Raises CheckpointError where it is not here."""
    path = context.locate("brisque", options.brisque_model, "--brisque-model")
    return Brisque(read_brisque_model(path), context.device)
