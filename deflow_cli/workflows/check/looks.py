"""Looks: what is seen of each pair of a data set, read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.pairs.records import SIDES, Pairs, decode_rgb8
from deflow_cli.errors import DataError
from deflow_cli.metrics.alignment import Displacement, displacement, luma_of

_WINDOW = 256  # side of the middle of a low-resolution picture that is compared, pixels
_LEAST_SIDE = 16
_THUMBNAIL = 24
_LEAST_CONTRAST = 2.0  # standard deviation of a thumbnail, grey levels: below, pictures are flat
_EQUAL = 1  # grey levels that rounding may leave between a bicubic picture and another one
_THREADS = 4
SURE = 0.5  # confidence of a displacement that is believed; below, those of real pairs scatter by a pixel
Size = tuple[int, int]


@dataclass(frozen=True)
class PairLook:
    """One pair. Sizes are (width, height). reason: why it cannot be read; then nothing else is known.

    digests: of the two files' bytes. detail: of gt, what a thumbnail holds beyond its own blur, normalised;
    None where it is flat. The others are of pairs that fit the scale and are looked at closely. shift: of lq
    against the down-sampled gt, in pixels of lq. likeness: correlation of their thumbnails once the shift is
    undone, None where gt is flat. is_clean: lq is gt's bicubic reduction.
    """

    key: str
    sizes: tuple[Size, Size] = ((0, 0), (0, 0))
    digests: tuple[str, str] = ("", "")
    reason: str = ""
    detail: NDArray[np.float32] | None = None
    shift: Displacement | None = None
    likeness: float | None = None
    is_clean: bool = False

    @property
    def scale(self) -> int | None:
        """How many times larger gt is; None where that is no whole number."""
        (width, height), (low_width, low_height) = self.sizes
        scale = width // max(low_width, 1)
        return scale if scale >= 1 and (low_width * scale, low_height * scale) == (width, height) else None


def look_at(pairs: Pairs, closely: frozenset[int]) -> Iterator[PairLook]:
    """Every pair in order. closely: indices of those whose alignment and content are compared."""
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(partial(_look, pairs, closely), range(len(pairs)))


def likeness(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Correlation of two thumbnails of equal size; 0 where one is flat."""
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _look(pairs: Pairs, closely: frozenset[int], index: int) -> PairLook:
    key = pairs.keys[index]
    try:
        files = pairs.encoded(index)
        gt, lq = (
            decode_rgb8(data, f"{pairs.path}: {side} of pair {key}")
            for side, data in zip(SIDES, files, strict=True)
        )
    except DataError as error:
        return PairLook(key, reason=str(error))
    digests = hashlib.sha256(files[0]).hexdigest(), hashlib.sha256(files[1]).hexdigest()
    look = PairLook(key, (_size(gt), _size(lq)), digests, detail=_detail(gt))
    if index not in closely or look.scale is None or min(lq.shape[:2]) < _LEAST_SIDE:
        return look
    return _closer(look, gt, lq, look.scale)


def _closer(look: PairLook, gt: Pixels, lq: Pixels, scale: int) -> PairLook:
    """The same with what a comparison of the two pictures' middles gives."""
    rows, columns = (_middle(side) for side in lq.shape[:2])
    low = lq[rows, columns]
    large = gt[_times(rows, scale), _times(columns, scale)]
    reduced = downsample(np.ascontiguousarray(large), scale) if scale > 1 else large
    shift = displacement(luma_of(reduced), luma_of(low))
    ours, theirs = (_thumbnail(part) for part in _overlap(reduced, low, shift))
    found = None if ours.std() < _LEAST_CONTRAST else likeness(ours, theirs)
    # Reducing the middle alone mirrors its border, so the outermost pixels differ from those of the whole.
    inner = (slice(4, -4), slice(4, -4))
    difference = np.abs(reduced[inner].astype(np.int16) - low[inner])
    return PairLook(
        look.key,
        look.sizes,
        look.digests,
        detail=look.detail,
        shift=shift,
        likeness=found,
        is_clean=bool(difference.max() <= _EQUAL),
    )


def _overlap(first: Pixels, second: Pixels, shift: Displacement) -> tuple[Pixels, Pixels]:
    """What both pictures show, where they agree on a displacement of up to half a side; else all of both."""
    right, down = round(shift.right), round(shift.down)
    height, width = first.shape[:2]
    if shift.confidence < SURE or 2 * abs(right) > width or 2 * abs(down) > height:
        return first, second
    return _moved(first, -right, -down), _moved(second, right, down)


def _moved(pixels: Pixels, right: int, down: int) -> Pixels:
    """Without the columns at the left and the rows at the top, or of negative numbers at the other ends."""
    height, width = pixels.shape[:2]
    return pixels[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]


def _size(pixels: Pixels) -> Size:
    return pixels.shape[1], pixels.shape[0]


def _middle(side: int) -> slice:
    start = max(0, (side - _WINDOW) // 2)
    return slice(start, min(side, start + _WINDOW))


def _times(part: slice, scale: int) -> slice:
    return slice(part.start * scale, part.stop * scale)


def _thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    small = cv2.resize(pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(luma_of(small), np.float32)


def _detail(pixels: Pixels) -> NDArray[np.float32] | None:
    thumbnail = _thumbnail(pixels)
    detail = thumbnail - cv2.blur(thumbnail, (5, 5))
    if detail.std() < _LEAST_CONTRAST:
        return None
    return np.asarray(detail / np.linalg.norm(detail), np.float32).ravel()
