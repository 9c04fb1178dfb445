"""Aligned pictures: one scene clean and noisy, of one size, matched by name and cut at the same place.

They join the training of a degradation model. The pairs that a restorer is trained on, whose sides differ in
size, are in ``records``; an output and its reference, which are only measured, in ``reference_matching``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deflow_cli.data.images.folders import PAIR_LAYOUTS, inspect_size, reason_of
from deflow_cli.data.images.image_cache import GIB, ImageCache
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.unpaired import Drops, cut_patch, draw_image, take_patch
from deflow_cli.errors import DataError


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder, aliases=True):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise DataError(
                f"{path}: {found[stem].name} in the same folder has the same name but for its suffix",
                next_step="keep one of the two",
            )
        found[stem] = path
    return found


def scan_aligned(folder: Path) -> list[tuple[Path, Path]]:
    """Pairs (clean, noisy) of DIR/clean and DIR/noisy, or DIR/gt and DIR/lq, matched by relative stem.

    Raises DataError naming the file for a missing partner, two candidates, sizes that differ or a file
    that cannot be read, and naming the folder if neither layout is there or it is empty.
    """
    folder = Path(folder)
    layouts = [names for names in PAIR_LAYOUTS if all((folder / name).is_dir() for name in names)]
    if not layouts:
        raise DataError(
            f"{folder}: holds neither clean/ and noisy/ nor gt/ and lq/",
            next_step="put the pairs there, under the same names",
        )
    clean_folder, noisy_folder = (folder / name for name in layouts[0])
    clean, noisy = _by_stem(clean_folder), _by_stem(noisy_folder)
    for stem in sorted(clean.keys() ^ noisy.keys()):
        lonely, other = (clean[stem], noisy_folder) if stem in clean else (noisy[stem], clean_folder)
        raise DataError(
            f"{lonely}: has no partner named {stem} in {other}", next_step="add it or remove this file"
        )
    if not clean:
        raise DataError(f"{folder}: holds no pairs", next_step="add images to both folders")
    pairs = []
    for stem in sorted(clean):
        ours, theirs = inspect_size(clean[stem]), inspect_size(noisy[stem])
        if ours != theirs:
            raise DataError(
                f"{noisy[stem]}: {theirs[0]}x{theirs[1]}, but its clean partner is {ours[0]}x{ours[1]}",
                next_step="pairs must have the same size",
            )
        pairs.append((clean[stem], noisy[stem]))
    return pairs


class AlignedSampler:
    """Random patches cut at the same place of clean and noisy, without state, as ``UnpairedSampler``.

    ``dropped`` lists (path, reason) of images that turned out broken, small or of another size.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        *,
        patch_size: int,
        align: int = 1,
        flips: bool = True,
        seed: int,
        cache_bytes: int = GIB,
    ) -> None:
        assert pairs
        self.clean = ImageCache([clean for clean, _ in pairs], cache_bytes // 2)
        self.noisy = ImageCache([noisy for _, noisy in pairs], cache_bytes // 2)
        self._index = {path: index for index, path in enumerate(self.clean.paths)}
        self.patch_size, self.align, self.flips, self.seed = patch_size, align, flips, seed
        self._drops = Drops()

    @property
    def dropped(self) -> list[tuple[Path, str]]:
        return self._drops.records

    def batch(self, step: int, batch_size: int, places: range | None = None) -> tuple[Tensor, Tensor]:
        """Clean and noisy patches, each batch_size x 3 x P x P uint8. Raises DataError if none is left.

        places: those of the batch that are made; None: all of them.
        """
        places = range(batch_size) if places is None else places
        out = torch.empty(2, len(places), 3, self.patch_size, self.patch_size, dtype=torch.uint8)
        for row, i in enumerate(places):
            rng = np.random.Generator(np.random.PCG64([self.seed, step, i, 2]))
            while True:
                path, clean = draw_image(self.clean, self.patch_size, rng, self._drops)
                try:
                    noisy = self.noisy.get(self._index[path])
                except DataError as error:
                    self._drops.add(path, f"its noisy partner: {reason_of(error, path)}")
                    continue
                if noisy.shape == clean.shape:
                    break
                self._drops.add(path, "its noisy partner has another size")
            corner, turned = cut_patch(clean, self.patch_size, self.align, self.flips, rng)
            for side, image in enumerate((clean, noisy)):
                out[side, row].numpy()[...] = take_patch(image, self.patch_size, corner, turned)
        return out[0], out[1]
