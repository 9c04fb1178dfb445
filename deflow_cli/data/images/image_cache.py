"""Decoded images, cached in memory within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.images.files import read_rgb8

GIB = 1 << 30


class ImageCache:
    """Images as H x W x 3 uint8, decoded on demand; the least recently used leave beyond ``cache_bytes``.

    Safe to use from several threads. An image above the bound is decoded anew each time.
    """

    def __init__(self, paths: Sequence[Path], cache_bytes: int = 2 * GIB) -> None:
        self.paths = tuple(Path(path) for path in paths)
        self.cache_bytes = cache_bytes
        self._images: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def used_bytes(self) -> int:
        return self._used

    def get(self, index: int) -> NDArray[np.uint8]:
        """Read-only H x W x 3 uint8 pixels. Raises DataError naming the file if it cannot be decoded."""
        with self._lock:
            image = self._images.get(index)
            if image is not None:
                self._images.move_to_end(index)
                return image
        image = read_rgb8(self.paths[index])  # outside the lock: threads decode at the same time
        image.setflags(write=False)
        with self._lock:
            if index not in self._images and image.nbytes <= self.cache_bytes:
                self._images[index] = image
                self._used += image.nbytes
                while self._used > self.cache_bytes:
                    self._used -= self._images.popitem(last=False)[1].nbytes
        return image
