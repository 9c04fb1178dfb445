"""Compression: how the noisy folder was JPEG compressed, where that is part of its degradation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.data.folder_sample import evenly_spread
from deflow_cli.data.jpeg_history import (
    FolderCompression,
    compress_alike,
    folder_compression,
    read_history,
)
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Reporter

PROBE = 8  # pictures, among which one at least must show a compression for the others to be read
MOST_EXAMINED = 48  # pictures of a folder; pixels take about 0.2 s each, headers nothing
LEAST_SHARE = 0.5  # of the pictures examined that show a compression


def choose_compression(
    clean: Sequence[Path], noisy: Sequence[Path], reporter: Reporter
) -> FolderCompression | None:
    """The compression of the noisy pictures that samples are to be given; None where there is none to give.

    At least half of the noisy pictures must show one. Where the clean pictures show one of the same chroma
    subsampling and of the same or a lower quality, it is no part of the difference between the folders; what
    came by another way, such as crops that were saved again, shows another. Pictures that cannot be read are
    left out.
    """
    found = _examine(noisy)
    if found is None:
        return None
    share = f"{found.found} of {found.examined} images" + (
        "" if found.examined == len(noisy) else " looked at"
    )
    text = f"noisy: {share} are JPEGs of {found.text}"
    there = _examine(clean)
    if there is not None and _has_it_too(there, found):
        reporter.note(f"{text}, clean ones alike: samples will not be compressed")
        return None
    reporter.note(f"{text}: samples will be compressed alike")
    return found


def compression_step(facts: Mapping[str, Any], seed: int) -> Callable[[Pixels, int], Pixels] | None:
    """The last step of degrading, drawn by a number; None where a fit's facts tell of no compression."""
    if "compression" not in facts:
        return None
    compression = FolderCompression.from_dict(facts["compression"])
    return lambda pixels, number: compress_alike(pixels, compression, np.random.default_rng([seed, number]))


def _examine(paths: Sequence[Path]) -> FolderCompression | None:
    """The compression of a folder's pictures; None where fewer than half of them show one."""
    if _read(evenly_spread(paths, PROBE)).share == 0:
        return None
    found = _read(evenly_spread(paths, MOST_EXAMINED))
    return found if found.share >= LEAST_SHARE else None


def _read(paths: Sequence[Path]) -> FolderCompression:
    histories = []
    for path in paths:
        try:
            histories.append(read_history(path))
        except DataError:
            continue  # training leaves such a picture out too, and warns of it
    return folder_compression(histories)


def _has_it_too(clean: FolderCompression, noisy: FolderCompression) -> bool:
    """Whether the clean pictures have the same chroma subsampling as the noisy ones, and steps as coarse."""
    ours, theirs = clean.usual_quality, noisy.usual_quality
    assert ours is not None
    assert theirs is not None
    return clean.subsamplings[:1] == noisy.subsamplings[:1] and ours <= theirs
