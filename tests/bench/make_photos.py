"""Make weights/photos: cut the packaged photographs out of freely licensed originals.

    python tests/bench/make_photos.py --wallpapers DIR --sklearn DIR

The originals are not fetched here. They come from these packages:

- Debian ``lomiri-wallpapers-16.04`` (20.04.0-2): ``apt-get download lomiri-wallpapers-16.04`` and
  ``dpkg-deb -x FILE.deb DIR``; ``--wallpapers`` is the folder with its JPEG files
  (``DIR/usr/share/backgrounds``), ``DIR/usr/share/doc/lomiri-wallpapers-16.04/copyright`` states the terms;
- PyPI ``scikit-image``: found by import; ``skimage/data/_fetchers.py`` states the terms;
- PyPI ``scikit-learn``: ``--sklearn`` is the unpacked wheel's ``sklearn/datasets/images`` (its README states
  the terms).

Each original is first shrunk (Lanczos, anti-aliased, which removes its own noise and JPEG traces; the cat
alone is kept at its size), then cropped. Half A (``clean``) and half B (``to_degrade``) share no photograph;
which goes where was chosen so that the halves agree in mean colour, contrast and high-frequency energy: the
closest of all 3432 splits of 14 photographs.

Writes the pictures, ``CARD.md`` beside them and the photographs' part of ``weights/manifest.toml``.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

CC_BY_4 = "CC-BY-4.0"
CC_BY_2 = "CC-BY-2.0"
CC0 = "CC0-1.0"
PUBLIC = "public domain"

LOMIRI = "Debian lomiri-wallpapers-16.04 20.04.0-2"
SKIMAGE = "PyPI scikit-image 0.26.0, skimage/data"
SKLEARN = "PyPI scikit-learn, sklearn/datasets/images"


HEAD = """# Every file the package carries: path under weights/, kind, size, checksum, licence, card.

"""
MARK = "# Photographs, written by tests/bench/make_photos.py; keep them last.\n\n"

CARD = """# Packaged photographs

Twenty-three pictures cut from fourteen photographs with free terms. They are what `deflow demo` fits on and
what the embedded model was fitted on: `clean/` (half A) is the clean domain; `to_degrade/` (half B, no
photograph in common with half A) becomes the noisy domain through `deflow_cli.data.camera_noise`.

Made by `python tests/bench/make_photos.py --wallpapers DIR --sklearn DIR` (its docstring says where the
originals are): each original is shrunk (Lanczos) and cropped, nothing else. The changes are those two.

## Terms

- **CC0-1.0** and **public domain**: free for any use. scikit-image states the terms in the docstrings of
  `skimage.data` (`chelsea`: \"CC0 by the photographer (Stefan van der Walt)\"; `coffee`: \"CC0 by the
  photographer (Rachel Michetti)\"; `astronaut`: \"No known copyright restrictions, released into the public
  domain\", NASA Great Images; `rocket`: \"captured by SpaceX and released in the public domain\").
- **CC-BY-4.0** (https://creativecommons.org/licenses/by/4.0/): the photographs of Aitzol Berasategi, Trevor
  \"Freespace\" and Jakub Mede, copyright 2018, from the Lomiri wallpapers
  (https://gitlab.com/ubports/development/core/lomiri-wallpapers), as stated file by file in the Debian
  package's copyright file. Shrunk and cropped by us. Clemens Engelhardt's is CC0-1.0 there.
- **CC-BY-2.0** (https://creativecommons.org/licenses/by/2.0/): `china.jpg` by danielbuechele
  (https://www.flickr.com/photos/danielbuechele/6061409035/), as stated in scikit-learn's
  `datasets/images/README.txt`. Shrunk and cropped by us.

## Files

| file | size | original | author | licence | sha256 |
| --- | --- | --- | --- | --- | --- |
TABLE
"""


@dataclass(frozen=True)
class Source:
    """One original photograph. ``cuts``: (suffix, width it is shrunk to, left, top, width, height)."""

    half: str
    name: str
    file: str
    package: str
    author: str
    licence: str
    cuts: tuple[tuple[str, int, int, int, int, int], ...]


SOURCES = (
    Source(
        "to_degrade",
        "meadow",
        "aitzgorri_by_Aitzol_Berasategi.jpg",
        LOMIRI,
        "Aitzol Berasategi",
        CC_BY_4,
        (("wide", 480, 0, 8, 448, 304), ("detail", 1030, 660, 260, 288, 288)),
    ),
    Source(
        "clean",
        "brushes",
        "Picture_1A_by_freespace.jpg",
        LOMIRI,
        'Trevor "Freespace"',
        CC_BY_4,
        (("wide", 420, 0, 10, 416, 304), ("detail", 683, 380, 230, 288, 288)),
    ),
    Source(
        "clean",
        "window",
        "friends_by_Aitzol_Berasategi.jpg",
        LOMIRI,
        "Aitzol Berasategi",
        CC_BY_4,
        (("wide", 352, 16, 60, 320, 416), ("detail", 685, 190, 180, 288, 288)),
    ),
    Source(
        "clean",
        "brook",
        "life_by_Aitzol_Berasategi.jpg",
        LOMIRI,
        "Aitzol Berasategi",
        CC_BY_4,
        (("wide", 480, 16, 8, 448, 304), ("detail", 1030, 330, 330, 288, 288)),
    ),
    Source(
        "clean", "cat", "chelsea.png", SKIMAGE, "Stefan van der Walt", CC0, (("wide", 451, 0, 0, 448, 300),)
    ),
    Source("clean", "astronaut", "astronaut.png", SKIMAGE, "NASA", PUBLIC, (("wide", 384, 0, 0, 384, 384),)),
    Source(
        "to_degrade",
        "pavilion",
        "china.jpg",
        SKLEARN,
        "danielbuechele",
        CC_BY_2,
        (("wide", 480, 16, 8, 448, 304),),
    ),
    Source(
        "to_degrade",
        "peaks",
        "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        LOMIRI,
        "Aitzol Berasategi",
        CC_BY_4,
        (("wide", 448, 0, 16, 448, 304), ("detail", 1088, 780, 250, 288, 288)),
    ),
    Source(
        "to_degrade",
        "fig",
        "Picture_0B_by_freespace.jpg",
        LOMIRI,
        'Trevor "Freespace"',
        CC_BY_4,
        (("wide", 464, 0, 4, 448, 304), ("detail", 860, 20, 290, 288, 288)),
    ),
    Source(
        "clean",
        "room",
        "Wine_by_Jakkub_Mede.jpg",
        LOMIRI,
        "Jakub Mede",
        CC_BY_4,
        (("wide", 336, 8, 40, 320, 416), ("detail", 640, 150, 60, 288, 288)),
    ),
    Source(
        "to_degrade",
        "dandelion",
        "seeding_by_Clements_Engelhardt.jpg",
        LOMIRI,
        "Clemens Engelhardt",
        CC0,
        (("wide", 560, 40, 4, 448, 304), ("detail", 1060, 150, 60, 288, 288)),
    ),
    Source(
        "clean",
        "sunrise",
        "sunset_by_Aitzol_Berasategi.jpg",
        LOMIRI,
        "Aitzol Berasategi",
        CC_BY_4,
        (("wide", 480, 16, 8, 448, 304), ("detail", 1068, 640, 400, 288, 288)),
    ),
    Source(
        "to_degrade",
        "coffee",
        "coffee.png",
        SKIMAGE,
        "Rachel Michetti",
        CC0,
        (("wide", 480, 16, 8, 448, 304),),
    ),
    Source("to_degrade", "rocket", "rocket.jpg", SKIMAGE, "SpaceX", PUBLIC, (("wide", 450, 0, 0, 448, 300),)),
)


def cut(
    image: Image.Image, width: int, left: int, top: int, crop_width: int, crop_height: int
) -> Image.Image:
    """Shrink to ``width`` (area average, anti-aliased) and crop; a crop beyond the picture is an error."""
    height = round(image.height * width / image.width)
    small = image if width == image.width else image.resize((width, height), Image.Resampling.LANCZOS)
    if left + crop_width > width or top + crop_height > height:
        raise SystemExit(
            f"the crop {left},{top} {crop_width}x{crop_height} leaves the {width}x{height} picture"
        )
    return small.crop((left, top, left + crop_width, top + crop_height))


def skimage_folder() -> Path:
    import skimage.data

    return Path(skimage.data.__file__).parent


def describe(path: Path, source: Source, out: Path) -> tuple[str, str]:
    """The file's row of the card's table and its entry in the manifest."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    relative = path.relative_to(out).as_posix()
    with Image.open(path) as image:
        size = f"{image.width}x{image.height}"
    row = (
        f"| `{relative}` | {size} | {source.file} ({source.package}) | {source.author} | {source.licence} "
        f"| `{digest}` |"
    )
    author = source.author.replace('"', "'")
    entry = (
        f'[[file]]\npath = "photos/{relative}"\nkind = "photo"\nbytes = {path.stat().st_size}\n'
        f'sha256 = "{digest}"\nlicence = "{source.licence}"\nauthor = "{author}"\ncard = "photos/CARD.md"\n'
    )
    return row, entry


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wallpapers", type=Path, required=True)
    parser.add_argument("--sklearn", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path(__file__).parents[2] / "weights")
    options = parser.parse_args()
    folders = {LOMIRI: options.wallpapers, SKLEARN: options.sklearn, SKIMAGE: skimage_folder()}
    out = options.weights / "photos"
    described = []
    for source in sorted(SOURCES, key=lambda source: (source.half, source.name)):
        image = Image.open(folders[source.package] / source.file).convert("RGB")
        for suffix, *geometry in source.cuts:
            path = out / source.half / f"{source.name}-{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cut(image, *geometry).save(path, optimize=True)
            described.append(describe(path, source, out))
    card = CARD.replace("TABLE", "\n".join(row for row, _ in described))
    (out / "CARD.md").write_text(card, encoding="utf-8")
    manifest = options.weights / "manifest.toml"
    before = manifest.read_text(encoding="utf-8").partition(MARK)[0] if manifest.exists() else HEAD
    manifest.write_text(before + MARK + "\n".join(entry for _, entry in described), encoding="utf-8")


if __name__ == "__main__":
    main()
