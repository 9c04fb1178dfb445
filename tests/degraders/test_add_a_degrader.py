"""A new degrader is one class with its options, and one line in the registry: everything else follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pytest
import typer
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

from deflow_cli.cli.guard import guarded
from deflow_cli.cli.restoration import make_pairs, sr_train
from deflow_cli.degraders import registry
from deflow_cli.degraders.base import (
    DegraderConfig,
    DegraderContext,
    DegraderOption,
    Draw,
    ReadyDegrader,
    check_draws,
)
from deflow_cli.errors import ConfigError

# -- what a new module holds ------------------------------------------------------------------------------


def check_level(level: float) -> None:
    if abs(level) > 255:
        raise ConfigError(f"level {level:g}", next_step="use -255 to 255")


@dataclass(frozen=True)
class ToyConfig(DegraderConfig):
    """Brightens pictures by some grey levels."""

    name: ClassVar[str] = "toy"

    level: Annotated[
        float, DegraderOption("grey levels that are added (default: 10).", metavar="L", check=check_level)
    ] = 10.0

    def prepare(self, context: DegraderContext) -> ReadyDegrader:
        return ReadyDegrader(self, self.facts())

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        check_draws(image_bchw, draws)
        return (image_bchw + self.level / 255).clamp(0, 1)


# -- what follows from it ---------------------------------------------------------------------------------


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """The two commands that take a degrader, with the toy in the registry, in a folder with a picture."""
    monkeypatch.setattr(registry, "CONFIGURATIONS", [*registry.CONFIGURATIONS, (__name__, "ToyConfig")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    Path("hr").mkdir()
    pixels = np.random.default_rng(0).integers(60, 180, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("hr/a.png")
    app = typer.Typer()
    app.command("make-pairs")(guarded(make_pairs.make_pairs_command()))
    app.command("sr-train")(guarded(sr_train.sr_train_command()))
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


def pictures(folder: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(f"{folder}/{side}/0000001.png")).astype(int) for side in ("gt", "lq")]


@pytest.mark.parametrize("command", ["make-pairs", "sr-train"])
def test_help_names_it_and_its_option(program: Callable[..., Result], command: str) -> None:
    text = " ".join(program(command, "--help").stdout.split())
    assert "deflow, dsgan, dasr, cyclegan, white-noise, spectral, noise-patches, none or toy" in text
    assert "For toy: grey levels that are added (default: 10)." in text


def test_make_pairs_uses_it_and_the_manifest_repeats_it(program: Callable[..., Result]) -> None:
    options = ("--scale", 1, "--degrader", "toy", "--level", 20, "--device", "cpu")
    result = program("make-pairs", "hr", "pairs", *options)
    assert result.exit_code == 0, result.output
    assert "degrader: toy" in result.stdout
    clean, degraded = pictures("pairs")
    assert np.array_equal(degraded, clean + 20)
    assert json.loads(Path("pairs/deflow.json").read_text())["degrader"] == {"name": "toy", "level": 20.0}
    result = program("make-pairs", "hr", "again", "--manifest", "pairs/deflow.json")
    assert result.exit_code == 0, result.output
    assert np.array_equal(pictures("again")[1], degraded)
    assert Path("again/deflow.json").read_bytes() == Path("pairs/deflow.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--degrader", "none", "--level", 20), "--level is nothing to the degrader none"),
        (("--degrader", "toy", "--sigma", 20), "--sigma is nothing to the degrader toy"),
        (("--degrader", "toy", "--level", 300), "level 300"),
        (("--degrader", "toys"), "none, toy"),
        (("--level", 20, "--manifest", "deflow.json"), "--level and --manifest"),
    ],
)
def test_wrong_options_are_refused(
    program: Callable[..., Result], options: tuple[object, ...], words: str
) -> None:
    result = program("make-pairs", "hr", "pairs", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not Path("pairs").exists()


def test_training_takes_it_too(program: Callable[..., Result]) -> None:
    result = program("sr-train", "--hr", "hr", "--degrader", "none", "--level", 3, "--preset", "tiny")
    assert result.exit_code == 2
    assert "--level is nothing to the degrader none" in result.stderr
    assert "--degrader toy" in result.stderr


def test_an_option_of_several_degraders_is_described_for_each(
    program: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Darker(ToyConfig):
        name: ClassVar[str] = "darker"
        level: Annotated[float, DegraderOption("levels taken off.", metavar="L", check=check_level)] = 10.0

    monkeypatch.setitem(globals(), "Darker", Darker)
    registry.CONFIGURATIONS.append((__name__, "Darker"))
    level = registry.degrader_options()["level"]
    assert level.users == ("toy", "darker")
    assert level.help == "For toy: grey levels that are added (default: 10). For darker: levels taken off."


def test_an_option_has_one_type_and_default(
    program: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Other(ToyConfig):
        name: ClassVar[str] = "other"
        level: Annotated[float, DegraderOption("levels.", metavar="L", check=check_level)] = 20.0

    monkeypatch.setitem(globals(), "Other", Other)
    registry.CONFIGURATIONS.append((__name__, "Other"))
    with pytest.raises(TypeError, match=r"Other defines the option level otherwise than .*toy"):
        registry.degrader_options()
