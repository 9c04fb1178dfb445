"""Pair crops: the same place of a clean and a degraded picture; every batch is a function of (seed, step)."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.image_cache import GIB, ImageCache
from deflow_cli.data.images.listing import name_some
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.pairs.crop_rounds import ONCE, Rounds
from deflow_cli.data.pairs.records import Pairs
from deflow_cli.errors import DataError

KERNEL_REACH = 4  # px of the small picture around a crop that MATLAB's bicubic sees, rounded up


class PairCrops(ABC):
    """Crops of pairs, mirrored and transposed at random; without state, so a resumed run goes on exactly.

    Every epoch takes one crop of each pair, in a new random order; (seed, step, row) determine where a crop
    is cut. Where ``rounds`` uses crops several times, (step, row) are those of the first use, so that the
    crop stays the same. A pair that cannot be used is named in ``dropped`` with its reason; another is drawn.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        scale: int,
        gt_size: int,
        flips: bool,
        seed: int,
        rounds: Rounds = ONCE,
    ) -> None:
        assert names
        assert gt_size % scale == 0
        self.rounds = rounds
        self.names, self.scale, self.side = tuple(names), scale, gt_size // scale
        self.flips, self.seed = flips, seed
        self.dropped: dict[str, str] = {}
        self._largest = 0  # shorter side of a small picture that was too small, px
        self._lock = threading.Lock()
        self._orders: OrderedDict[int, NDArray[np.int64]] = OrderedDict()
        self._cut: OrderedDict[tuple[int, int], tuple[Pixels, Pixels]] = OrderedDict()

    @abstractmethod
    def load(self, index: int) -> tuple[Pixels, ...]:
        """What a pair's crops are cut from. Raises DataError where it cannot be read."""

    @abstractmethod
    def size(self, loaded: tuple[Pixels, ...]) -> tuple[int, int]:
        """Height and width of the small picture."""

    @abstractmethod
    def cut(self, loaded: tuple[Pixels, ...], top: int, left: int) -> tuple[Pixels, Pixels]:
        """Clean and small crop, H x W x 3, at a corner of the small picture."""

    def batch(self, step: int, count: int, places: range | None = None) -> tuple[Tensor, Tensor]:
        """Clean crops count x 3 x P x P and small ones at 1 / scale, uint8.

        places: those of the batch that are made; None: all of them. Raises DataError if no pair is left.
        """
        return self.numbered(self.numbers(step, count, places), count)

    def numbers(self, step: int, count: int, places: range | None = None) -> list[int]:
        """The numbers of a step's crops; n is first used at row n % count of batch n // count."""
        numbers = self.rounds.numbers(step, count, self.seed)
        return numbers if places is None else [numbers[place] for place in places]

    def numbered(self, numbers: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
        """As ``batch``, the crops of these numbers, which count crops in batches of ``count``."""
        large, small = self.side * self.scale, self.side
        gt = torch.empty(len(numbers), 3, large, large, dtype=torch.uint8)
        lq = torch.empty(len(numbers), 3, small, small, dtype=torch.uint8)
        for row, number in enumerate(numbers):
            for out, crop in zip((gt, lq), self._crop(number, count), strict=True):
                out[row].numpy()[...] = crop
        return gt, lq

    def _crop(self, number: int, count: int) -> tuple[Pixels, Pixels]:
        """Clean and small crop, 3 x P x P; crops that are used again stay in memory for their round."""
        if self.rounds.uses == 1:
            return self._new_crop(number, count)
        with self._lock:
            if (number, count) in self._cut:
                return self._cut[number, count]
        gt, lq = (np.ascontiguousarray(part) for part in self._new_crop(number, count))
        with self._lock:
            self._cut[number, count] = gt, lq
            while len(self._cut) > self.rounds.steps * count:
                self._cut.popitem(last=False)
        return gt, lq

    def _new_crop(self, number: int, count: int) -> tuple[Pixels, Pixels]:
        rng = np.random.Generator(np.random.PCG64([self.seed, *divmod(number, count), 5]))
        loaded = self._usable(number, rng)
        height, width = self.size(loaded)
        top, left = (int(rng.integers(side - self.side + 1)) for side in (height, width))
        turns = rng.integers(2, size=3) if self.flips else (0, 0, 0)
        gt, lq = self.cut(loaded, top, left)
        return _turned(gt, turns), _turned(lq, turns)

    def _usable(self, place: int, rng: np.random.Generator) -> tuple[Pixels, ...]:
        """The pair at a place of the endless order, else one drawn at random; the unusable are recorded."""
        count = len(self.names)
        index = int(self._order(place // count)[place % count])
        while True:
            name = self.names[index]
            if name not in self.dropped:
                try:
                    loaded = self.load(index)
                    height, width = self.size(loaded)
                    if min(height, width) >= self.side:
                        return loaded
                    large = f"{width * self.scale}x{height * self.scale}"
                    reason = f"{large} is smaller than the crop of {self.side * self.scale} px"
                except DataError as error:
                    reason = str(error)
                    height = width = 0
                with self._lock:
                    self.dropped[name] = reason
                    self._largest = max(self._largest, min(height, width))
            if len(self.dropped) == count:
                reasons = name_some(f"{n}: {r}" for n, r in self.dropped.items())
                smaller = self._largest * self.scale
                way_out = f"pass --set sr.gt_size={smaller}" if smaller >= 8 else "mend the pairs"
                raise DataError(f"no pair is left to train on ({reasons})", next_step=way_out)
            index = int(rng.integers(count))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        with self._lock:
            if epoch not in self._orders:
                rng = np.random.Generator(np.random.PCG64([self.seed, epoch, 6]))
                self._orders[epoch] = rng.permutation(len(self.names))
                while len(self._orders) > 3:
                    self._orders.popitem(last=False)
            return self._orders[epoch]


def _turned(crop: Pixels, turns: Sequence[int] | NDArray[np.int64]) -> Pixels:
    """H x W x 3 as 3 x H x W, upside down, mirrored, transposed."""
    turned = crop[:: -1 if turns[0] else 1, :: -1 if turns[1] else 1].transpose(2, 0, 1)
    return turned.swapaxes(1, 2) if turns[2] else turned


class StoredCrops(PairCrops):
    """Crops of pairs on disk. indices: of those to use. Decoded pairs stay in memory to ``cache_bytes``."""

    def __init__(
        self,
        pairs: Pairs,
        indices: Sequence[int],
        *,
        gt_size: int,
        flips: bool,
        seed: int,
        cache_bytes: int = GIB,
    ) -> None:
        names = [pairs.keys[index] for index in indices]
        super().__init__(names, scale=pairs.scale, gt_size=gt_size, flips=flips, seed=seed)
        self.pairs, self.indices, self.cache_bytes = pairs, tuple(indices), cache_bytes
        self._decoded: OrderedDict[int, tuple[Pixels, Pixels]] = OrderedDict()
        self._used = 0

    def size(self, loaded: tuple[Pixels, ...]) -> tuple[int, int]:
        height, width = loaded[1].shape[:2]
        return height, width

    def cut(self, loaded: tuple[Pixels, ...], top: int, left: int) -> tuple[Pixels, Pixels]:
        gt, lq = loaded
        rows, columns = slice(top, top + self.side), slice(left, left + self.side)
        s = self.scale
        return gt[top * s : rows.stop * s, left * s : columns.stop * s], lq[rows, columns]

    def load(self, index: int) -> tuple[Pixels, ...]:
        with self._lock:
            if index in self._decoded:
                self._decoded.move_to_end(index)
                return self._decoded[index]
        pair = self.pairs[self.indices[index]]  # outside the lock: threads decode at the same time
        decoded = (pair.gt, pair.lq)
        size = pair.gt.nbytes + pair.lq.nbytes
        with self._lock:
            if index not in self._decoded and size <= self.cache_bytes:
                self._decoded[index] = decoded
                self._used += size
                while self._used > self.cache_bytes:
                    self._used -= sum(part.nbytes for part in self._decoded.popitem(last=False)[1])
        return decoded


class CleanCrops(PairCrops):
    """Crops of clean pictures and of their small versions by MATLAB's bicubic, to be degraded.

    The small crop is that of the whole picture made small: what its kernel sees around the crop is cut too.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        scale: int,
        gt_size: int,
        flips: bool,
        seed: int,
        cache_bytes: int = GIB,
        rounds: Rounds = ONCE,
    ) -> None:
        names = [str(path) for path in paths]
        super().__init__(names, scale=scale, gt_size=gt_size, flips=flips, seed=seed, rounds=rounds)
        self.cache = ImageCache(paths, cache_bytes)

    def load(self, index: int) -> tuple[Pixels, ...]:
        return (self.cache.get(index),)

    def size(self, loaded: tuple[Pixels, ...]) -> tuple[int, int]:
        height, width = loaded[0].shape[:2]
        return height // self.scale, width // self.scale

    def cut(self, loaded: tuple[Pixels, ...], top: int, left: int) -> tuple[Pixels, Pixels]:
        image, s, (height, width) = loaded[0], self.scale, self.size(loaded)
        gt = image[top * s : (top + self.side) * s, left * s : (left + self.side) * s]
        if s == 1:
            return gt, gt
        y, x = max(top - KERNEL_REACH, 0), max(left - KERNEL_REACH, 0)
        below = min(top + self.side + KERNEL_REACH, height)
        right = min(left + self.side + KERNEL_REACH, width)
        small = downsample(np.ascontiguousarray(image[y * s : below * s, x * s : right * s]), s, "matlab")
        return gt, small[top - y : top - y + self.side, left - x : left - x + self.side]
