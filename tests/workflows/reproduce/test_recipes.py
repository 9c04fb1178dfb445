"""Recipes: the paper's settings, small twins, budgets, and settings sorted to fits and restorers."""

from __future__ import annotations

import pytest

from deflow_cli.errors import ConfigError
from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.recipes import Recipe, recipe


def of(name: str, *settings: str, small: bool = False, budget: float = 0.0) -> Recipe:
    return recipe(EXPERIMENTS[name], small=small, settings=settings, budget=budget, trainings=4)


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_restorers_are_those_of_the_paper(name: str) -> None:
    found = of(name)
    gan = found.restorer
    assert (gan.sr.stage, gan.gan.iterations, gan.sr.batch_size, gan.sr.gt_size) == ("gan", 60_000, 16, 128)
    assert gan.gan.halve_at == (5_000, 10_000, 20_000, 30_000)
    assert (gan.loss.pixel, gan.loss.perceptual, gan.loss.adversarial) == (1e-2, 1.0, 5e-3)
    assert gan.loss.discriminator == ("patch" if name == "dped" else "vgg")
    assert found.kept == gan.sr.keep_at == (10_000, 20_000, 40_000, 60_000)
    assert all(step % gan.sr.validate_every == 0 for step in found.kept)
    assert found.fit.fit.iterations == 100_000
    assert found.start.stages == ("psnr",)


def test_each_fit_is_its_preset() -> None:
    assert [of(name).fit.flow.downsample for name in ("aim", "ntire", "dped")] == [8, 4, 4]
    assert of("aim").fit.fit.channel_statistics == "yes"
    assert of("dped").fit.fit.learning_rate == 5e-6


def test_scaled_down_is_small_and_keeps_what_the_preset_is_about() -> None:
    found = of("aim", small=True)
    assert found.kept == (10, 20, 40, 60)
    assert found.fit.flow.downsample == 8
    assert found.fit.fit.channel_statistics == "yes"
    assert found.fit.flow.shift == "correlated"
    ablations = of("ablations", small=True).fit
    assert (ablations.flow.steps, ablations.flow.hidden_channels, ablations.encoder.blocks) == (16, 32, 2)
    assert (ablations.fit.patch_size, ablations.fit.iterations) == (64, 2000)


def test_fewer_steps_keep_fewer_models() -> None:
    assert of("aim", "gan.iterations=30000").kept == (10_000, 20_000, 30_000)


def test_a_budget_is_shared_evenly() -> None:
    found = of("aim", budget=400.0)
    assert found.fit.fit.time_budget == found.restorer.sr.time_budget == found.start.sr.time_budget == 100.0
    assert found.fit.fit.iterations == found.restorer.gan.iterations == 0
    assert found.kept == ()


def test_settings_go_where_they_belong() -> None:
    found = of("aim", "fit.learning_rate=1e-3", "gan.learning_rate=1e-5")
    assert found.fit.fit.learning_rate == 1e-3
    assert found.restorer.gan.learning_rate == 1e-5
    of_others = of("aim", "dasr.fit.iterations=9", "dasr.adversarial=0.1", "fit.iterations=7").baselines
    assert (of_others["dasr"].fit.iterations, of_others["dasr"].translation.adversarial) == (9, 0.1)
    assert of_others["dsgan"].fit.iterations == 49_500
    with pytest.raises(ConfigError, match="'color=red' names no setting"):
        of("aim", "color=red")


def test_other_methods_are_fitted_as_published() -> None:
    found = of("aim").baselines
    assert {name: config.fit.iterations for name, config in found.items()} == {
        "dsgan": 49_500,
        "dasr": 132_400,
        "cyclegan": 160_000,
    }
    small = of("aim", small=True, budget=80.0).baselines
    assert {config.fit.time_budget for config in small.values()} == {20.0}
    assert small["dsgan"].translation.features == "none"
