"""Matching: the images of several methods, each with its partner among the references."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deflow_cli.data.images.folders import inspect_size
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.errors import ConfigError, DataError

MATCHINGS = ("name", "order")
_SCALE_MARK = re.compile(r"(?<=[^/])x(2|3|4|8|16)$")  # DIV2K's 0001x4.png is made of 0001.png


@dataclass(frozen=True)
class MatchedImage:
    """An image to score. name: shared by its partners in other methods.

    size: upright (width, height) by the header; None where that cannot be read.
    """

    name: str
    path: Path
    reference: Path | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class MethodImages:
    """The images of one method, sorted by name. name: unique among the methods. source: what was given."""

    name: str
    source: Path
    images: tuple[MatchedImage, ...]


@dataclass(frozen=True)
class _Source:
    """Images as given. picked: single files, so nothing is said of the others in their folder."""

    path: Path
    files: tuple[Path, ...]
    picked: bool


def match_references(
    outputs: Sequence[Path], reference: Path | None = None, pairing: str = "name"
) -> tuple[MethodImages, ...]:
    """The methods given as folders (recursive) or single images, with references of the same names.

    Names are relative paths without suffix; ``pairing="order"`` pairs the n-th with the n-th of the sorted
    paths instead. Each single image is a method, except with a folder of references: there the images
    of one folder are a method. Only headers are read; a broken file stays in the list, without a size. Raises
    ConfigError for an unknown pairing, DataError naming files that have no partner, two candidates or
    another size.
    """
    if pairing not in MATCHINGS:
        raise ConfigError(f"pairing is {pairing!r}", next_step=f"use {' or '.join(MATCHINGS)}")
    sources = _sources(outputs, reference)
    names = method_names([source.path for source in sources])
    if reference is not None and not reference.exists():
        raise DataError(f"{reference}: no such file or folder", next_step="pass the references as --ref")
    if reference is None:
        named = _named_among_themselves(sources, pairing)
    elif reference.is_dir():
        named = _named_by_folder(sources, reference, pairing)
    else:
        named = _named_by_file(sources, reference)
    return _with_sizes(sources, names, named)


def without_scale_mark(stem: str) -> str:
    """A stem without a scale at its end.

    >>> without_scale_mark("valid/0001x4"), without_scale_mark("x4")
    ('valid/0001', 'x4')
    """
    return _SCALE_MARK.sub("", stem)


def scaled_partners(ours: Collection[str], theirs: Collection[str]) -> dict[str, str]:
    """Of our stems without a partner, those that have one but for the scale at their end, and which.

    >>> scaled_partners(["0001x4", "0002x2", "0002x4", "0003"], ["0001", "0002", "0003"])
    {'0001x4': '0001'}
    """
    alone = [stem for stem in ours if stem not in theirs]
    counts = Counter(without_scale_mark(stem) for stem in alone)
    return {
        stem: name
        for stem in alone
        if (name := without_scale_mark(stem)) in theirs and name not in ours and counts[name] == 1
    }


def missing_names(methods: Sequence[MethodImages]) -> tuple[str, ...]:
    """Which methods lack images that others have, a line each; empty where all hold the same names."""
    union: dict[str, None] = {}
    for method in methods:
        union.update((image.name, None) for image in method.images)
    lines = []
    for method in methods:
        lacking = sorted(union.keys() - {image.name for image in method.images})
        if lacking:
            lines.append(f"{method.name} lacks {len(lacking)} of {len(union)} images: {name_some(lacking)}")
    return tuple(lines)


def method_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many parents as make equal names unique.

    Raises DataError if a path is given twice.
    """
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    twice = [path for index, path in enumerate(paths) if parts[index] in parts[:index]]
    if twice:
        raise DataError(f"{twice[0]}: given twice", next_step="pass each folder once")
    depths = [1] * len(parts)
    while True:
        names = ["/".join(each[-depth:]) for each, depth in zip(parts, depths, strict=True)]
        equal = [index for index, name in enumerate(names) if names.count(name) > 1]
        if not equal:
            return names
        for index in equal:
            depths[index] += 1


def _sources(outputs: Sequence[Path], reference: Path | None) -> list[_Source]:
    """Folders as they are; single images alone, or by their folder where references are a folder."""
    given = [*outputs] if reference is None else [*outputs, reference]
    sources: list[_Source] = []
    picked: dict[Path, list[Path]] = {}
    for path in outputs:
        if path.is_dir():
            sources.append(_Source(path, tuple(_files_of(path, given)), picked=False))
        elif not path.exists():
            raise DataError(
                f"{path}: no such file or folder", next_step="pass an image or a folder of images as OUT"
            )
        elif reference is not None and reference.is_dir():
            if path.parent not in picked:
                sources.append(_Source(path.parent, (), picked=True))
            picked.setdefault(path.parent, []).append(path)
        else:
            sources.append(_Source(path, (path,), picked=True))
    return [
        _Source(source.path, tuple(sorted(picked[source.path])), picked=True) if not source.files else source
        for source in sources
    ]


def _files_of(folder: Path, given: Sequence[Path]) -> list[Path]:
    """Images below a folder, without those of other given folders that lie inside it. DataError if none."""
    root = folder.resolve()
    inner = [other.resolve() for other in given if other.is_dir()]
    inner = [other for other in inner if other != root and other.is_relative_to(root)]
    files = [
        path
        for path in list_images(folder, aliases=True)
        if not any(path.resolve().is_relative_to(other) for other in inner)
    ]
    if not files:
        raise DataError(
            f"{folder}: holds no images (PNG, JPEG, TIFF, WebP or BMP)",
            next_step="check the path of the folder",
        )
    return files


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _by_stem(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Files by relative path without suffix. Raises DataError for two candidates of one name."""
    found: dict[str, Path] = {}
    clashes = []
    for path in files:
        stem = _stem(path, folder)
        if stem in found:
            clashes.append(f"{found[stem].name} and {path.name}")
        else:
            found[stem] = path
    if clashes:
        raise DataError(
            f"{folder}: two candidates for one name: {name_some(clashes)}",
            next_step="keep one of each two, or move the others elsewhere",
        )
    return found


_Named = list[tuple[str, Path, Path | None]]  # name, image, reference


def _named_among_themselves(sources: Sequence[_Source], pairing: str) -> list[_Named]:
    """Without references: names by which methods find each other."""
    if all(source.picked for source in sources):
        stems = {source.path.stem for source in sources}
        shared = stems.pop() if len(stems) == 1 else "image"
        return [[(shared, source.path, None)] for source in sources]
    if len(sources) == 1:  # no partner is needed, so a.png and a.jpg may both be there
        (source,) = sources
        stem_counts = Counter(_stem(path, source.path) for path in source.files)
        keys = [path.relative_to(source.path) for path in source.files]
        unique = [
            key.with_suffix("") if stem_counts[key.with_suffix("").as_posix()] == 1 else key for key in keys
        ]
        return [[(key.as_posix(), path, None) for key, path in zip(unique, source.files, strict=True)]]
    if any(source.picked for source in sources):
        raise DataError(
            f"{next(s.path for s in sources if s.picked)} is an image, others are folders",
            next_step="pass folders only, or single images only",
        )
    if pairing == "name":
        return [
            [(stem, path, None) for stem, path in _by_stem(source.files, source.path).items()]
            for source in sources
        ]
    first = sources[0]
    for source in sources[1:]:
        _check_counts(source, len(first.files), first.path)
    names = [path.relative_to(first.path).as_posix() for path in first.files]
    return [[(n, p, None) for n, p in zip(names, source.files, strict=True)] for source in sources]


def _named_by_file(sources: Sequence[_Source], reference: Path) -> list[_Named]:
    """One reference image: every method is a single image too."""
    for source in sources:
        if len(source.files) != 1:
            raise DataError(
                f"{source.path}: holds {len(source.files)} images, but {reference} is one image",
                next_step="pass the folder of references as --ref",
            )
    return [[(reference.stem, source.files[0], reference)] for source in sources]


def _named_by_folder(sources: Sequence[_Source], reference: Path, pairing: str) -> list[_Named]:
    given = [*(source.path for source in sources if not source.picked), reference]
    theirs = _files_of(reference, given)
    if pairing == "order":
        keys = [path.relative_to(reference).as_posix() for path in theirs]
        for source in sources:
            _check_counts(source, len(theirs), reference)
        return [
            [(key, path, partner) for key, path, partner in zip(keys, s.files, theirs, strict=True)]
            for s in sources
        ]
    partners = _by_stem(theirs, reference)
    return [
        _picked_partners(source, partners, reference)
        if source.picked
        else _all_partners(source, partners, reference)
        for source in sources
    ]


def _check_counts(source: _Source, count: int, other: Path) -> None:
    if len(source.files) != count:
        raise DataError(
            f"{source.path}: {len(source.files)} images, but {other} holds {count}; order pairs the n-th with"
            " the n-th",
            next_step="add what is missing or remove what is too many",
        )


def _picked_partners(source: _Source, partners: Mapping[str, Path], reference: Path) -> _Named:
    """References of single images: the one whose last part is the image's name."""
    _by_stem(source.files, source.path)  # refuses a.png beside a.jpg
    named: _Named = []
    for path in source.files:
        stems = [stem for stem in partners if stem.rpartition("/")[2] == path.stem]
        if not stems:
            name = without_scale_mark(path.stem)
            stems = [stem for stem in partners if stem.rpartition("/")[2] == name]
        if len(stems) != 1:
            what = "has no partner" if not stems else f"has {len(stems)} candidates ({name_some(stems)})"
            raise DataError(f"{path}: {what} named {path.stem} in {reference}", next_step="pass it as --ref")
        named.append((stems[0], path, partners[stems[0]]))
    return named


def _all_partners(source: _Source, partners: Mapping[str, Path], reference: Path) -> _Named:
    """References of a folder: all of one must be in the other, for a forgotten output flatters a mean."""
    ours = _by_stem(source.files, source.path)
    partner_of = scaled_partners(ours.keys(), partners.keys())
    ours = {partner_of.get(stem, stem): path for stem, path in ours.items()}
    lonely, forgotten = sorted(ours.keys() - partners.keys()), sorted(partners.keys() - ours.keys())
    if lonely or forgotten:
        problems = []
        if lonely:
            problems.append(
                f"{len(lonely)} of {len(ours)} images have no reference in {reference}: {name_some(lonely)}"
            )
        if forgotten:
            problems.append(
                f"{len(forgotten)} of {len(partners)} references have no output: {name_some(forgotten)}"
            )
        step = "add what is missing, or remove what has no partner"
        if forgotten and not lonely:
            step += "; to score these alone, pass the images instead of the folder"
        if len(ours) == len(partners):
            step += "; if both sides correspond in sorted order, add --pairing order"
        raise DataError(f"{source.path}: {'; '.join(problems)}", next_step=step)
    return [(stem, ours[stem], partners[stem]) for stem in ours]


def _with_sizes(
    sources: Sequence[_Source], names: Sequence[str], named: Sequence[_Named]
) -> tuple[MethodImages, ...]:
    """Methods with sizes by the headers. Raises DataError for images of another size than their reference."""
    sizes: dict[Path, tuple[int, int] | None] = {}
    for path in {path for entries in named for _, *paths in entries for path in paths if path is not None}:
        try:
            sizes[path] = inspect_size(path)
        except DataError:  # decoding will say what is wrong with this one image
            sizes[path] = None
    methods = []
    for name, source, entries in zip(names, sources, named, strict=True):
        wrong = []
        for _, path, reference in entries:
            ours, theirs = sizes[path], sizes[reference] if reference is not None else None
            if ours and theirs and ours != theirs:
                wrong.append(f"{path.name} ({ours[0]}x{ours[1]}, not {theirs[0]}x{theirs[1]})")
        if wrong:
            raise DataError(
                f"{source.path}: {len(wrong)} of {len(entries)} images have another size than their"
                f" references: {name_some(wrong)}",
                next_step="score images of the references' size (of a super-resolution its outputs, not its"
                " inputs)",
            )
        images = tuple(MatchedImage(key, path, partner, sizes[path]) for key, path, partner in entries)
        methods.append(MethodImages(name, source.path, images))
    return tuple(methods)
