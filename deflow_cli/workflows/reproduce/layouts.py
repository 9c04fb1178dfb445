"""Layouts: where the folders of a challenge lie below a user's, what they hold, and what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deflow_cli.data.contents import folder_contents
from deflow_cli.data.images.files import read_header, read_rgb8
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.errors import DataError
from deflow_cli.metrics.filters import high_pass
from deflow_cli.texts import encoded
from deflow_cli.workflows.reproduce.experiments import Experiment, PartOfData, Role

LOOKED_AT = 12  # images of each side that are compared, to see whether the sides are swapped
_PATCH = 32  # px
_DEEPEST = 3  # folders below the one given


@dataclass(frozen=True)
class FoundPart:
    """A folder of the data. pixels: of all images, by their headers; 0 where those cannot be read."""

    role: Role
    folder: Path
    images: tuple[Path, ...]
    pixels: int

    @property
    def text(self) -> str:
        """What was read, in words."""
        count, megapixels = len(self.images), self.pixels / 1e6
        size = f"{megapixels:.1f} megapixels" if self.pixels else "sizes unknown"
        names = f"{self.images[0].name} to {self.images[-1].name}"
        return f"{count} image{'s' if count > 1 else ''} ({names}), {size}, in {self.folder}"

    def fingerprint(self) -> str:
        """A digest of the images' names, sizes and both ends of each file."""
        contents = folder_contents(self.folder, self.images)
        lines = "\n".join(f"{name} {text}" for name, text in sorted(contents.items()))
        return hashlib.sha256(encoded(lines)).hexdigest()[:16]


@dataclass(frozen=True)
class ChallengeLayout:
    """The folders that were found, by role, and sentences about those that are missing."""

    data: Path
    parts: Mapping[str, FoundPart]
    missing: tuple[str, ...]

    def require(self) -> None:
        """Raise DataError naming every part that is missing."""
        if self.missing:
            raise DataError(
                f"{self.data}: {'; '.join(self.missing)}",
                next_step="unpack the challenge's archives there, each with or without its folder",
            )


def find_layout(data: Path, experiment: Experiment) -> ChallengeLayout:
    """Find the folders of an experiment. Raises DataError where ``data`` is no folder.

    A folder is found under each of its names, directly below ``data`` or up to three levels down, as archives
    are unpacked with or without a folder of their own. Of a folder with DeFlow's scales, ``1x`` is taken.
    """
    if not data.is_dir():
        what = "is a file, not a folder" if data.exists() else "no such folder"
        raise DataError(f"{data}: {what}", next_step="pass the folder of the challenge's archives as DATA")
    folders = _folders_by_name(data)
    parts: dict[str, FoundPart] = {}
    missing = []
    for part in experiment.parts:
        found = _find(part, folders)
        if found is None and part.needed:
            missing.append(f"no {part.what}: a folder {' or '.join(part.names)} with images")
        elif found is not None:
            parts[part.role] = found
    missing += _unpaired(parts)
    return ChallengeLayout(data, parts, tuple(missing))


def _folders_by_name(data: Path) -> dict[str, list[Path]]:
    """All folders down to `_DEEPEST` levels, by name in small letters, the outermost first."""
    found: dict[str, list[Path]] = {}
    level = [data]
    for _ in range(_DEEPEST):
        level = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir()]
        for path in level:
            found.setdefault(path.name.lower(), []).append(path)
    return found


def _find(part: PartOfData, folders: Mapping[str, list[Path]]) -> FoundPart | None:
    for name in part.names:
        for folder in folders.get(name.lower(), []):
            inner = folder / "1x"
            chosen = inner if inner.is_dir() else folder
            images = list_images(chosen)
            if images:
                return FoundPart(part.role, chosen, tuple(images), sum(map(_pixels, images)))
    return None


def _pixels(path: Path) -> int:
    """By the header; 0 for a file that has none, as the empty files of a rehearsal."""
    try:
        header = read_header(path)
    except DataError:
        return 0
    return header.width * header.height


def _unpaired(parts: Mapping[str, FoundPart]) -> list[str]:
    """Validation images without a partner of the same name."""
    if "valid_input" not in parts or "valid_truth" not in parts:
        return []
    inputs, truths = ({path.stem for path in parts[role].images} for role in ("valid_input", "valid_truth"))
    lacking = sorted(inputs - truths)
    if not lacking:
        return []
    folder = parts["valid_truth"].folder
    return [f"{folder} lacks the clean images of {len(lacking)} inputs: {name_some(lacking)}"]


def warn_of_swapped_sides(clean: Sequence[Path], noisy: Sequence[Path]) -> str:
    """A warning where the clean images have more fine detail in their flattest parts than the noisy ones.

    Empty where they have not. Compared is the standard deviation of what a 9 x 9 blur takes away, over the
    brightness, in the flattest quarter of each image's patches; the median over some images of each side.
    """
    levels = [_noise_over_brightness(paths) for paths in (clean, noisy)]
    if levels[0] <= levels[1]:
        return ""
    return (
        f"the clean images have more fine noise in flat parts than the noisy ones ({levels[0]:.4f} and "
        f"{levels[1]:.4f} of the brightness): are the two folders swapped?"
    )


def _noise_over_brightness(paths: Sequence[Path]) -> float:
    places = np.unique(np.linspace(0, len(paths) - 1, LOOKED_AT).round().astype(int))
    return float(np.median([_noise_of_image(read_rgb8(paths[place])) for place in places]))


def _noise_of_image(pixels: np.ndarray) -> float:
    middle = pixels[: 16 * _PATCH, : 16 * _PATCH]
    rows, columns = (max(side // _PATCH, 1) for side in middle.shape[:2])
    fine = np.asarray(high_pass(middle), dtype=np.float64)
    ratios = []
    for row in range(rows):
        for column in range(columns):
            window = slice(row * _PATCH, (row + 1) * _PATCH), slice(column * _PATCH, (column + 1) * _PATCH)
            ratios.append(fine[window].std() / max(middle[window].mean() / 255.0, 1 / 255.0))
    return float(np.mean(sorted(ratios)[: max(len(ratios) // 4, 1)]))
