"""Samples: the files of a space of super-resolutions, by temperature and image, with their references."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deflow_cli.data.images.folders import inspect_size
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.data.samples.names import (
    LAYOUTS,
    Layout,
    SampleName,
    folder_temperature,
    resolve_images,
    stem_of,
)
from deflow_cli.errors import DataError

MULTIPLE = 8  # the challenges crop references to a multiple of so many pixels
NAMING = (
    "name samples NAME_s01.png, or 000000_sample00000.png as NTIRE does, or put them in a folder for every"
    " image or for every sample; temperatures in folders such as t0.80"
)

Size = tuple[int, int]


@dataclass(frozen=True)
class SampleSource:
    """A folder of samples, all of one temperature; None: its folders and names tell, or there is one only."""

    folder: Path
    temperature: float | None = None


@dataclass(frozen=True)
class SampledImage:
    """An image with its samples. Sizes are upright (width, height) by the headers, None where unreadable.

    low: the low-resolution image that the samples were made from.
    """

    name: str
    samples: tuple[Path, ...]
    reference: Path
    low: Path | None = None
    sample_size: Size | None = None
    reference_size: Size | None = None
    low_size: Size | None = None


@dataclass(frozen=True)
class SampleSet:
    """The samples of one temperature; every image has equally many. temperature: None where not said."""

    temperature: float | None
    source: Path
    images: tuple[SampledImage, ...]

    @property
    def samples(self) -> int:
        """How many samples each image has."""
        return len(self.images[0].samples)


def match_samples(
    sources: Sequence[SampleSource], reference: Path, low: Path | None = None
) -> tuple[SampleSet, ...]:
    """The sets of samples, sorted by temperature, each image with its reference.

    reference, low: folders with the images' names, or one image each. Only headers are read. Raises DataError
    naming the folder and the files: names that fit no layout or two, samples without a reference and
    references without samples, images with fewer samples than others, and sizes that cannot belong together.
    """
    references = _by_name(reference, "--ref")
    lows = _lows(low, references)
    grouped: dict[float | None, tuple[Path, dict[str, list[Path]]]] = {}
    for source in sources:
        for temperature, found in _assigned(source, references, reference).items():
            if temperature in grouped:
                which = "" if temperature is None else f" of temperature {temperature:g}"
                raise DataError(
                    f"{source.folder}: {grouped[temperature][0]} has samples{which} too",
                    next_step="pass each temperature once, as --space T=DIR",
                )
            grouped[temperature] = source.folder, found
    sizes = _Sizes()
    sets = []
    for temperature in sorted(grouped, key=lambda t: -1.0 if t is None else t):
        folder, found = grouped[temperature]
        _check_counts(folder, found, references, reference)
        images = tuple(
            _image(name, tuple(files), references[name], lows.get(name), sizes)
            for name, files in sorted(found.items())
        )
        sets.append(SampleSet(temperature, folder, images))
    return tuple(sets)


def scale_of(images: Iterable[SampledImage]) -> int:
    """How many times larger references are than the low resolutions, a whole number.

    A reference may be larger by less than one low-resolution pixel. Raises DataError where an image has no
    such scale, or two images have different ones.
    """
    first: tuple[int, str] | None = None
    for image in images:
        if image.low_size is None or image.reference_size is None:
            continue
        (low_width, low_height), (width, height) = image.low_size, image.reference_size
        scale = round(width / low_width)
        if scale < 1 or abs(width - scale * low_width) >= scale or abs(height - scale * low_height) >= scale:
            raise DataError(
                f"{image.low} is {low_width}x{low_height}, its reference {width}x{height}: no whole scale",
                next_step="pass the low resolutions that the samples were made from as --lq",
            )
        if first is not None and first[0] != scale:
            raise DataError(
                f"the scale of {image.name} is {scale}, that of {first[1]} is {first[0]}",
                next_step="score images of one scale at a time",
            )
        first = first or (scale, image.name)
    if first is None:
        raise DataError("no low-resolution image can be read", next_step="check the files of --lq")
    return first[0]


def _by_name(source: Path, option: str) -> dict[str, Path]:
    """Files by their relative path without suffix, sorted. Raises DataError for none, or two of one name."""
    if not source.is_dir():
        if not source.exists():
            raise DataError(f"{source}: no such file or folder", next_step=f"pass {option} DIR")
        return {source.stem: source}
    found: dict[str, Path] = {}
    for path in list_images(source, aliases=True):
        stem = stem_of(PurePosixPath(path.relative_to(source).as_posix()))
        if stem in found:
            raise DataError(
                f"{source}: two candidates for one name: {found[stem].name} and {path.name}",
                next_step="keep one of the two, or move the other elsewhere",
            )
        found[stem] = path
    if not found:
        raise DataError(
            f"{source}: holds no images (PNG, JPEG, TIFF, WebP or BMP)",
            next_step="check the path of the folder",
        )
    return found


def _lows(low: Path | None, references: Mapping[str, Path]) -> dict[str, Path]:
    """The low resolution of every reference. Raises DataError naming those that have none."""
    if low is None:
        return {}
    found = _by_name(low, "--lq")
    if len(found) == len(references) == 1:
        return dict(zip(references, found.values(), strict=True))
    images = resolve_images(found, list(references))
    lows = {image: found[name] for name, image in images.items()}
    lacking = [name for name in references if name not in lows]
    if lacking:
        raise DataError(
            f"{low}: {len(lacking)} of {len(references)} references have no low resolution:"
            f" {name_some(lacking)}",
            next_step="pass a folder with the names of the references (0801 or 0801x4) as --lq",
        )
    return lows


_Assigned = dict[float | None, dict[str, list[Path]]]  # temperature, image, samples in order


def _assigned(source: SampleSource, references: Mapping[str, Path], reference: Path) -> _Assigned:
    """The files of a folder by temperature and image, by the one layout that fits all of them."""
    folder = source.folder
    files = _by_name(folder, "--space")
    split = {stem: folder_temperature(stem, references) for stem in files}
    beside = [stem for stem, found in split.items() if found is None]
    in_folders = len(beside) < len(files) and source.temperature is None
    if in_folders and beside:
        raise DataError(
            f"{folder}: {len(beside)} of {len(files)} images lie beside the folders of temperatures:"
            f" {name_some(beside)}",
            next_step="move them into the folder of their temperature",
        )
    rests = {stem: found[1] if in_folders and found is not None else stem for stem, found in split.items()}
    names = _by_layout(folder, rests, references, reference)
    assigned: _Assigned = defaultdict(lambda: defaultdict(list))
    for stem, name in sorted(names.items(), key=lambda item: item[1].sample):
        found = split[stem]
        temperature = found[0] if in_folders and found is not None else name.temperature
        if source.temperature is not None:
            temperature = source.temperature
        assigned[temperature][name.image].append(files[stem])
    return assigned


def _by_layout(
    folder: Path, rests: Mapping[str, str], references: Mapping[str, Path], reference: Path
) -> dict[str, SampleName]:
    """What every file is, by the layout that explains all files and references; ``rests`` without
    temperature folders."""
    fitting: list[tuple[Layout, dict[str, SampleName]]] = []
    partial: dict[str, SampleName] = {}
    for layout in LAYOUTS:
        found = _read(layout, rests, references)
        if len(found) > len(partial):
            partial = found
        complete = {name.image for name in found.values()} == set(references)
        # A layout with temperatures in names is only tried where none without them fits.
        if len(found) == len(rests) and complete and not (layout.in_names and fitting):
            fitting.append((layout, found))
    if len(fitting) == 1:
        return fitting[0][1]
    if fitting:
        words = " or ".join(layout.words for layout, _ in fitting)
        raise DataError(
            f"{folder}: its names can be read as {words}", next_step="name the samples NAME_s01.png instead"
        )
    lost = [stem for stem in rests if stem not in partial]
    covered = {name.image for name in partial.values()}
    lacking = [name for name in references if name not in covered]
    problems = []
    if lost:
        problems.append(
            f"{len(lost)} of {len(rests)} images are samples of no image in {reference}: {name_some(lost)}"
        )
    if lacking and partial:
        problems.append(
            f"{len(lacking)} of {len(references)} references have no samples: {name_some(lacking)}"
        )
    step = NAMING if lost else "add the samples, or remove the references that have none"
    raise DataError(f"{folder}: {'; '.join(problems)}", next_step=step)


def _read(layout: Layout, rests: Mapping[str, str], references: Mapping[str, Path]) -> dict[str, SampleName]:
    """The files that a layout explains. With a single reference, samples of one name are its own."""
    names = dict(zip(rests, layout.read_all(rests.values()), strict=True))
    wanted = {name.image for name in names.values() if name is not None}
    images = resolve_images(sorted(wanted), list(references))
    if len(references) == 1 and len(wanted) == 1 and not images and layout is LAYOUTS[0]:
        images = {next(iter(wanted)): next(iter(references))}
    return {
        stem: SampleName(images[name.image], name.sample, name.temperature)
        for stem, name in names.items()
        if name is not None and name.image in images
    }


def _check_counts(
    folder: Path, found: Mapping[str, Sequence[Path]], references: Mapping[str, Path], reference: Path
) -> None:
    """Raise DataError where an image has none or fewer samples than others: scores depend on their number."""
    lacking = [name for name in references if name not in found]
    if lacking:
        raise DataError(
            f"{folder}: {len(lacking)} of {len(references)} references in {reference} have no samples:"
            f" {name_some(lacking)}",
            next_step="add the samples, or remove the references that have none",
        )
    counts = Counter(len(files) for files in found.values())
    if len(counts) > 1:
        usual = max(counts, key=lambda count: (counts[count], count))
        odd = [f"{name} ({len(files)})" for name, files in sorted(found.items()) if len(files) != usual]
        raise DataError(
            f"{folder}: {len(odd)} of {len(found)} images do not have {usual} samples as the others do:"
            f" {name_some(odd)}",
            next_step="give every image the same number of samples; the diversity score depends on it",
        )


class _Sizes:
    """Sizes by the headers, each file looked at once; None where decoding will say what is wrong."""

    def __init__(self) -> None:
        self._known: dict[Path, Size | None] = {}

    def __call__(self, path: Path) -> Size | None:
        if path not in self._known:
            try:
                self._known[path] = inspect_size(path)
            except DataError:
                self._known[path] = None
        return self._known[path]


def _image(
    name: str, samples: tuple[Path, ...], reference: Path, low: Path | None, sizes: _Sizes
) -> SampledImage:
    """An image with its sizes. Raises DataError for samples of different sizes or not the reference's."""
    truth, small = sizes(reference), None if low is None else sizes(low)
    known = [(path, size) for path in samples if (size := sizes(path)) is not None]
    size = known[0][1] if known else None
    for path, other in known:
        if other != size:
            raise DataError(
                f"{path}: {other[0]}x{other[1]}, but {known[0][0].name} is {known[0][1][0]}x{known[0][1][1]}",
                next_step="the samples of an image need one size",
            )
    if size is not None and truth is not None:
        # Super-resolutions miss or exceed the reference by what the division by the scale leaves.
        slack = MULTIPLE if small is None else max(MULTIPLE, -(-truth[0] // small[0]))
        if max(abs(size[0] - truth[0]), abs(size[1] - truth[1])) >= slack:
            raise DataError(
                f"{known[0][0]}: {size[0]}x{size[1]}, but its reference {reference} is {truth[0]}x{truth[1]}",
                next_step="pass samples of the references' size (outputs of a super-resolution, not inputs)",
            )
    return SampledImage(name, samples, reference, low, size, truth, small)
