"""A NIQE model of one's own, as LIVE made theirs: it shows that features and distance fit the definition."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from deflow_cli.errors import DataError
from deflow_cli.metrics.nss import check_images
from deflow_cli.metrics.quality.niqe import (
    NIQE_BLOCK,
    NIQE_FEATURES,
    SHARPNESS,
    NiqeModel,
    _mean_and_covariance,
    niqe_features,
)


def fit_niqe_model(images: Iterable[Tensor], origin: str = "own") -> NiqeModel:
    """Pristine statistics of uint8 B x 3 x H x W batches, any sizes, from their sharp blocks, as LIVE's.

    Raises DataError where fewer than two blocks can be measured; LIVE used 125 photographs.
    """
    kept = []
    for batch in images:
        check_images(batch)
        if min(batch.shape[-2:]) < NIQE_BLOCK:
            continue
        features, sharpness = niqe_features(batch)
        sharp = sharpness > SHARPNESS * sharpness.amax(dim=1, keepdim=True)
        kept.append(features[sharp].cpu())
    pooled = torch.cat(kept) if kept else torch.empty(0, NIQE_FEATURES)
    if int((~pooled.isnan().any(dim=1)).sum()) < 2:
        raise DataError(
            f"too few sharp, textured blocks of {NIQE_BLOCK} px ({len(pooled)}); "
            "a NIQE model needs at least two",
            next_step="give more or larger pristine photographs",
        )
    return NiqeModel(*_mean_and_covariance(pooled), origin)
