"""Temperature map: the best temperature at every pixel of an image, as a picture whose values can be read."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin
from torch import Tensor

from deflow_cli.arrays import Array, Pixels
from deflow_cli.metrics.space.temperatures import BestTemperature, best_temperature

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class TemperatureMap:
    """The best temperatures of one image.

    png: a palette image whose values are 0 for the first temperature, 1 for the second and so on; its text
    chunk ``temperatures`` lists them. means: the distance of every temperature. local: with the best one at
    every pixel. gain: the share of the best single temperature's distance that this saves.
    """

    image: str
    temperatures: tuple[float, ...]
    png: bytes
    shares: Array
    means: tuple[float, ...]
    local: float
    best: float
    gain: float

    def picture(self) -> Pixels:
        """The map in its colours, H x W x 3."""
        return np.asarray(Image.open(io.BytesIO(self.png)).convert("RGB"))


def temperature_colours(count: int) -> list[Colour]:
    """As many colours as temperatures, from dark blue for the lowest to yellow for the highest.

    >>> temperature_colours(2)
    [(68, 1, 84), (253, 231, 36)]
    """
    from matplotlib import colormaps

    shares = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    rgb = np.asarray(colormaps["viridis"](shares))[:, :3]
    return [(int(r), int(g), int(b)) for r, g, b in (rgb * 255).astype(int)]


def map_temperatures(image: str, maps: Mapping[float, Tensor]) -> TemperatureMap:
    """The map of an image from the mean distance maps of its temperatures, which are brought to one size."""
    temperatures = tuple(sorted(maps))
    height, width = (min(found.shape[axis] for found in maps.values()) for axis in (0, 1))
    best = best_temperature([maps[temperature][:height, :width] for temperature in temperatures])
    return TemperatureMap(
        image,
        temperatures,
        _png(best, temperatures),
        best.shares,
        best.means,
        best.local,
        temperatures[best.best],
        best.gain,
    )


def _png(best: BestTemperature, temperatures: Sequence[float]) -> bytes:
    picture = Image.fromarray(best.index_hw, mode="P")
    picture.putpalette([part for colour in temperature_colours(len(temperatures)) for part in colour])
    text = PngImagePlugin.PngInfo()
    text.add_text("temperatures", " ".join(f"{temperature:g}" for temperature in temperatures))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text, optimize=True)
    return buffer.getvalue()
