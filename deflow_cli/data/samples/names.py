"""Sample names: which image, which sample and which temperature a file of a space belongs to.

A space of super-resolutions is a folder with several samples of every image. Its layouts, where NAME is that
of the reference without suffix and may contain folders:

- ``NAME_s01.png``, ``NAME_s02.png``: as `deflow restore --samples` and `deflow degrade --samples` write;
  ``000000_sample00000.png``: as the NTIRE challenges ask, where the number stands for the sorted references;
- ``NAME/ANYTHING.png``: a folder for every image;
- ``ANYTHING/NAME.png``: a folder for every sample;
- ``NAME.png``: one sample of every image.

Each of them may lie in folders of temperatures (``t0.80``, ``tau=0.8`` or ``0.80``) or have the temperature
in its file name (``NAME_t0.80_s01.png``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_FOLDER = re.compile(r"(?:t|tau|temp|temperature)[=_-]?(?P<marked>\d+(?:\.\d+)?)|(?P<bare>\d+\.\d+)", re.I)
_IN_NAME = re.compile(r"(?:^|_)(?:t|tau)(\d+(?:\.\d+)?)(?=_|$)", re.I)
_SAMPLE = re.compile(r"(.+)_(?:s|sample)(\d+)", re.I)
_SCALE = re.compile(r"(.+)x\d+", re.I)
_CHALLENGE = re.compile(r"\d{6}")


@dataclass(frozen=True)
class SampleName:
    """What a file's name says. sample: sorts the samples of an image. temperature: None where not said."""

    image: str
    sample: str
    temperature: float | None = None


@dataclass(frozen=True)
class Layout:
    """A way to read the names of a folder. read: a path without suffix to its parts, None where it has none.

    words: for messages. in_names: whether file names contain temperatures.
    """

    words: str
    read: Callable[[str], SampleName | None]
    in_names: bool = False

    def read_all(self, stems: Iterable[str]) -> list[SampleName | None]:
        """Every path, with its temperature taken out of the file name first where names contain one."""
        return [self._without_temperature(stem) if self.in_names else self.read(stem) for stem in stems]

    def _without_temperature(self, stem: str) -> SampleName | None:
        folder, _, name = stem.rpartition("/")
        found = list(_IN_NAME.finditer(name))
        if not found:
            return None
        mark = found[-1]
        rest = (name[: mark.start()] + name[mark.end() :]).strip("_")
        if not rest and not folder:
            return None
        # In a folder for every image the temperature may be all that a file is named by.
        parts = self.read(f"{folder}/{rest or name}" if folder else rest)
        return None if parts is None else SampleName(parts.image, parts.sample, float(mark[1]))


def _marked(stem: str) -> SampleName | None:
    found = _SAMPLE.fullmatch(stem)
    return None if found is None else SampleName(found[1], f"{int(found[2]):06d}")


def _image_folder(stem: str) -> SampleName | None:
    folder, _, name = stem.rpartition("/")
    return SampleName(folder, _sortable(name)) if folder else None


def _sample_folder(stem: str) -> SampleName | None:
    folder, _, name = stem.partition("/")
    return SampleName(name, _sortable(folder)) if name else None


def _sortable(text: str) -> str:
    """The text with its numbers padded, so that sample 10 comes after sample 9."""
    return re.sub(r"\d+", lambda found: found[0].zfill(6), text)


_PLAIN = (
    Layout("NAME_s01", _marked),
    Layout("a folder for every image", _image_folder),
    Layout("a folder for every sample", _sample_folder),
    Layout("one sample of every image", lambda stem: SampleName(stem, "")),
)
# Names as they are come first: an image may be called scene_t2.
LAYOUTS = (*_PLAIN, *(Layout(f"{one.words}, with _t0.80", one.read, True) for one in _PLAIN))


def folder_temperature(stem: str, images: Iterable[str]) -> tuple[float, str] | None:
    """The temperature that a path's first folder names, and the rest of the path; None where it names none.

    images: names of references, whose folders are never temperatures.

    >>> folder_temperature("t0.80/0801_s01", ["0801"])
    (0.8, '0801_s01')
    >>> folder_temperature("0801/sample1", ["0801"]) is None
    True
    """
    first, _, rest = stem.partition("/")
    found = _FOLDER.fullmatch(first)
    if found is None or not rest or any(name == first or name.startswith(f"{first}/") for name in images):
        return None
    return float(found["marked"] or found["bare"]), rest


def resolve_images(names: Iterable[str], images: Sequence[str]) -> Mapping[str, str]:
    """The image that each name means, for those that mean one. images: names of references, sorted.

    A name is that of the image, or that name with the scale at its end (``0801x4``, as DIV2K names low
    resolutions). Where all names are the challenges' six-digit numbers they count the images from 0.

    >>> dict(resolve_images(["0801x4", "0802", "0900"], ["0801", "0802"]))
    {'0801x4': '0801', '0802': '0802'}
    >>> dict(resolve_images(["000001", "000000"], ["0801", "0802"]))
    {'000001': '0802', '000000': '0801'}
    """
    unique, known = list(dict.fromkeys(names)), set(images)
    found = {}
    for name in unique:
        scaled = _SCALE.fullmatch(name)
        if name in known:
            found[name] = name
        elif scaled is not None and scaled[1] in known:
            found[name] = scaled[1]
    numbered = [name for name in unique if _CHALLENGE.fullmatch(name)]
    if not found and unique and len(numbered) == len(unique):
        found = {name: images[int(name)] for name in unique if int(name) < len(images)}
    return found


def stem_of(path: PurePosixPath) -> str:
    """A relative path without its suffix, in posix form."""
    return path.with_suffix("").as_posix()
