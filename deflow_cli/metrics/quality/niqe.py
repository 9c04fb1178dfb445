"""NIQE: distance of a picture's block statistics from those of pristine photographs.

Mittal, Soundararajan and Bovik, "Making a Completely Blind Image Quality Analyzer", 2012; follows LIVE's
release, whose values it reproduces to 14 digits on images without flat areas (nss.py tells about those).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.errors import CheckpointError
from deflow_cli.metrics.base import Metric, Score
from deflow_cli.metrics.nss import (
    aggd,
    check_images,
    cut_blocks,
    half_scale,
    matlab_gray,
    mscn,
    neighbour_products,
    one_by_one,
)
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.metrics.registry import ScorerContext
from deflow_cli.paths import weights_folder
from deflow_cli.tensor_files import read_safetensors

NIQE_BLOCK = 96
NIQE_FEATURES = 36
SHARPNESS = 0.75
"""A pristine block is kept where its mean local sigma exceeds this share of its image's largest."""
KEYS = (("mean", "covariance"), ("mu_prisparam", "cov_prisparam"), ("mu_pris_param", "cov_pris_param"))
"""Names of the two arrays in our safetensors, LIVE's .mat and BasicSR's .npz."""
METADATA_KEY = "deflow.niqe"
"""Of our safetensors: JSON with ``origin``, and with LIVE's notice where the figures are theirs."""
PACKAGED_FIGURES = "niqe-live.safetensors"


@dataclass(frozen=True)
class NiqeModel:
    """Pristine statistics: mean (36) and covariance (36 x 36), float64; origin: whose, in a word or two."""

    mean: Tensor
    covariance: Tensor
    origin: str


def read_niqe_model(path: Path) -> NiqeModel:
    """Read our safetensors, LIVE's .mat (version 5) or BasicSR's .npz.

    The file's metadata, or else its name, becomes the origin. Raises CheckpointError for a file that is
    missing, of another kind, or whose figures cannot be a mean and a covariance.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such NIQE model", next_step="leave it out to use the packaged figures of LIVE"
        )
    arrays, origin = _read_arrays(path)
    for mean_key, covariance_key in KEYS:
        if mean_key in arrays and covariance_key in arrays:
            return _checked(arrays[mean_key], arrays[covariance_key], origin or path.name, path)
    wanted = " or ".join(" and ".join(pair) for pair in KEYS)
    raise CheckpointError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; expected {wanted}")


def _read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], str]:
    try:
        if path.suffix == ".mat":
            from scipy.io import loadmat

            return {k: v for k, v in loadmat(path).items() if not k.startswith("__")}, ""
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file), ""
        tensors, metadata = read_safetensors(path)
        facts = json.loads(metadata.get(METADATA_KEY, "{}"))
        return {key: value.numpy() for key, value in tensors.items()}, str(facts.get("origin", ""))
    except Exception as error:  # each reader has errors of its own kind for a broken file
        raise CheckpointError(
            f"{path}: cannot be read as a NIQE model ({str(error).removeprefix(f'{path}: ')})",
            next_step="pass a .safetensors of deflow, LIVE's .mat or BasicSR's .npz",
        ) from error


def _checked(mean: NDArray[Any], covariance: NDArray[Any], origin: str, path: Path) -> NiqeModel:
    if mean.size != NIQE_FEATURES or covariance.shape != (NIQE_FEATURES, NIQE_FEATURES):
        raise CheckpointError(
            f"{path}: mean of {mean.size} and covariance {covariance.shape}; expected 36 and (36, 36)"
        )
    if mean.dtype.kind not in "fiu" or covariance.dtype.kind not in "fiu":
        raise CheckpointError(f"{path}: {mean.dtype} and {covariance.dtype}; expected numbers")
    mean, covariance = mean.astype(np.float64).reshape(-1), covariance.astype(np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise CheckpointError(f"{path}: holds figures that are not finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9) or (covariance.diagonal() < 0).any():
        raise CheckpointError(f"{path}: its covariance is not symmetric with a positive diagonal")
    return NiqeModel(torch.from_numpy(mean), torch.from_numpy(covariance), origin)


def niqe_features(images_bchw: Tensor) -> tuple[Tensor, Tensor]:
    """Features B x N x 36 of each image's N whole 96x96 blocks, and their sharpness B x N.

    The image is cut to whole blocks from its top-left corner, normalised, and only then cut into blocks; the
    half-scale image likewise, into 48x48. Features of a block that is too flat for a fit are NaN.
    """
    gray = matlab_gray(images_bchw)
    height, width = (size // NIQE_BLOCK * NIQE_BLOCK for size in gray.shape[1:])
    gray = gray[:, :height, :width]
    normalised, sigma = mscn(gray)
    sharpness = cut_blocks(sigma, NIQE_BLOCK).mean((-2, -1))
    fine = _block_features(cut_blocks(normalised, NIQE_BLOCK))
    coarse = _block_features(cut_blocks(mscn(half_scale(gray))[0], NIQE_BLOCK // 2))
    return torch.cat((fine, coarse), dim=-1), sharpness


def _block_features(blocks: Tensor) -> Tensor:
    """18 features of each B x N x side x side block: the shape and width of the MSCN values, then four
    neighbour products' shape, mean and two widths."""
    fit = aggd(blocks, dims=2)
    columns = [fit.alpha, (fit.left + fit.right) * fit.scale / 2]
    for product in neighbour_products(blocks):
        fit = aggd(product, dims=2)
        left, right = fit.left * fit.scale, fit.right * fit.scale
        columns += [fit.alpha, (right - left) * fit.ratio, left, right]
    return torch.stack(columns, dim=-1)


def _mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Column means over what is defined, and the sample covariance of the rows without any NaN."""
    whole = features[~features.isnan().any(dim=1)]
    return features.nanmean(dim=0), torch.cov(whole.T)


def niqe_distance(features: Tensor, model: NiqeModel) -> float:
    """NIQE of one image from its features N x 36, on the CPU: sqrt(d' pinv((S + S_model) / 2) d)."""
    mean, covariance = _mean_and_covariance(features)
    difference = mean - model.mean
    inverse = torch.linalg.pinv((covariance + model.covariance) / 2)
    return float((difference @ inverse @ difference).sqrt())


class Niqe:
    """Scores with NIQE; higher is worse, pristine photographs have about 2 to 4."""

    def __init__(self, model: NiqeModel, device: torch.device | str = "cpu") -> None:
        self.model = model
        self.device = torch.device(device)

    @property
    def metric(self) -> Metric:
        """See metrics.base.Metric."""
        variant = f"{self.model.origin}'s model, MATLAB gray, whole 96x96 blocks, no crop, flat areas snapped"
        return Metric("niqe", "NIQE", False, False, 4, variant)

    def __call__(self, images_bchw: Tensor, references_bchw: Tensor | None = None) -> list[Score]:
        """One score per uint8 image; references are ignored. NaN with a reason below two textured blocks."""
        check_images(images_bchw)
        height, width = images_bchw.shape[-2:]
        if (height // NIQE_BLOCK) * (width // NIQE_BLOCK) < 2:
            reason = f"{width}x{height}: NIQE needs at least two whole blocks of {NIQE_BLOCK} px"
            return [Score(float("nan"), reason)] * len(images_bchw)
        features = one_by_one(lambda part: niqe_features(part)[0], images_bchw.to(self.device)).cpu()
        return [self._score(rows) for rows in features]

    def _score(self, features: Tensor) -> Score:
        textured = int((~features.isnan().any(dim=1)).sum())
        if textured < 2:
            return Score(
                float("nan"),
                f"{textured} of {len(features)} blocks of {NIQE_BLOCK} px have texture: NIQE needs two",
            )
        return Score(niqe_distance(features, self.model))


def build_niqe(options: ScorerOptions, context: ScorerContext) -> Niqe:
    """NIQE by the figures given, else by LIVE's, which are packaged."""
    path = options.niqe_model or weights_folder() / PACKAGED_FIGURES
    return Niqe(read_niqe_model(path), context.device)
