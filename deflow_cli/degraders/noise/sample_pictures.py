"""Pictures of a folder that a degrader is estimated from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.folder_sample import MOST_IMAGES, centre, evenly_spread
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.folders import file_sha256
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.resize import Rule, downsample
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded


@dataclass
class SamplePictures:
    """Pictures H x W x 3, uint8, read one at a time, at each iteration anew.

    Files that cannot be read are left out with a warning. files: by the names that they are recorded under.
    scale: above 1 the pictures are made so many times smaller first. cropped: only the middle is used.
    """

    files: dict[str, Path]
    title: str
    reporter: Reporter
    scale: int = 1
    rule: Rule = "matlab"
    cropped: bool = True
    _hashes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_folder(cls, folder: Path, reporter: Reporter) -> SamplePictures:
        """At most 200 pictures of a folder, and of each the middle. Raises DataError if there is none."""
        files = evenly_spread(_images(folder), MOST_IMAGES)
        return cls(_named(files, folder), f"reading {folder.name}", reporter)

    @classmethod
    def whole(cls, folder: Path, reporter: Reporter) -> SamplePictures:
        """All pictures of a folder, uncropped. Raises DataError if there is none."""
        return cls(_named(_images(folder), folder), f"reading {folder.name}", reporter, cropped=False)

    @classmethod
    def made_small(cls, files: Sequence[Path], reporter: Reporter, scale: int, rule: Rule) -> SamplePictures:
        """The middles of at most 200 of some large pictures, made smaller as a data set's are."""
        files = evenly_spread(files, MOST_IMAGES)
        rule = "matlab" if rule == "matlab-double" else rule  # the estimate takes 8-bit pictures
        named = {str(number): file for number, file in enumerate(files)}
        return cls(named, "reading clean images", reporter, scale, rule)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        self._hashes = {}
        self.reporter.start(self.title, len(self.files))
        for done, (name, file) in enumerate(self.files.items(), start=1):
            try:
                pixels = read_rgb8(file)
            except DataError as error:
                self.reporter.warn(f"{error}; left out")
                continue
            self._hashes[name] = file_sha256(file)
            if self.scale > 1:
                pixels = downsample(pixels, self.scale, self.rule)
            yield centre(pixels) if self.cropped else pixels
            self.reporter.update(done)
        self.reporter.finish()

    def facts(self) -> dict[str, Any]:
        """How many were read, and a hash of their names and contents."""
        lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(self._hashes.items()))
        return {"images": len(self._hashes), "sha256": hashlib.sha256(encoded(lines)).hexdigest()}


def _images(folder: Path) -> list[Path]:
    files = list_images(folder)
    if not files:
        raise DataError(f"{folder}: holds no images", next_step="pass a folder of images")
    return files


def _named(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    return {file.relative_to(folder).as_posix(): file for file in files}
