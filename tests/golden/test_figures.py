"""The golden numbers in compact form, reproduced by every run of the suite."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deflow_cli.checkpoints.foreign import published_layout
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.presets.reader import FIT
from tests.golden.make_figures import layout_sha256
from tests.golden.parity import (
    NAMES,
    encode_with_nll,
    golden_config,
    golden_model,
    golden_state,
    published_nll,
    published_parameters,
    state_sha256,
)
from tests.golden.tolerances import read_table, tolerance

HERE = Path(__file__).parent


@cache
def figures(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text())


@cache
def state(name: str) -> dict[str, Tensor]:
    info = figures(name)
    actnorm = {key: torch.tensor(value) for key, value in info["actnorm"].items()}
    return golden_state(golden_config(info["config"]), info["seed"], actnorm)


def batch(info: dict[str, Any], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """(images, h, labels)."""
    image = torch.tensor(info["image_u8"]).reshape(info["image_shape"]).to(dtype) / 255
    h = torch.tensor(info["h_u8"]).reshape(info["h_shape"]).to(dtype) / 255
    return image, h, torch.tensor(info["labels"])


def uniform(info: dict[str, Any]) -> Tensor:
    """The quantisation noise's draw: multiples of 2^-24, as float32."""
    exact = torch.tensor(info["uniform_24_bit"], dtype=torch.float64) / 2**24
    return exact.float().reshape(info["batch"]["image_shape"])


def close(actual: Tensor, expected: list[float], name: str, relative: bool = False) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    scale = float(wanted.abs().max()) if relative else 1.0
    torch.testing.assert_close(
        actual.double().flatten(), wanted, rtol=0, atol=tolerance(name) * scale, check_dtype=False
    )


def close_spread(tensor: Tensor, expected: dict[str, Any], name: str) -> None:
    assert list(tensor.shape) == expected["shape"]
    close(tensor.flatten()[torch.tensor(expected["index"])], expected["value"], name)


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_from_the_recipe_bit_for_bit(name: str) -> None:
    assert state_sha256(state(name)) == figures(name)["state_sha256"]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_encoding(name: str) -> None:
    info, model = figures(name), golden_model(state(name))
    x, h, labels = batch(info["batch"])
    latents, log_det, nll = encode_with_nll(model, x, h, labels)
    close(nll, info["nll"], "golden.nll")
    close(log_det, info["log_det"], "golden.log_det", relative=True)
    for z, expected in zip(latents, info["latents"], strict=True):
        close_spread(z, expected, "golden.latent")
    image = model.decode_conditioned(latents, model.prepare(h))
    torch.testing.assert_close(image, x, rtol=0, atol=tolerance("golden.image"))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_encoding_in_float64(name: str) -> None:
    info, model = figures(name), golden_model(state(name), torch.float64)
    x, h, labels = batch(info["batch"], torch.float64)
    _, log_det, nll = encode_with_nll(model, x, h, labels)
    close(nll, info["nll_float64"], "golden.float64", relative=True)
    close(log_det, info["log_det_float64"], "golden.float64", relative=True)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_posterior_matrices(name: str) -> None:
    latents = golden_model(state(name)).prior.shared()
    for latent, expected in zip(latents, figures(name)["posterior"], strict=True):
        gain, root = latent.posterior_matrices()
        close_spread(gain[0], expected["gain"], "golden.matrix")
        close_spread(root[0] @ root[0].T, expected["covariance"], "golden.matrix")


@torch.no_grad()
def test_quantisation_noise_and_translation() -> None:
    info, model = figures("small_x4"), golden_model(state("small_x4"))
    x, h, labels = batch(info["batch"])
    latents, _, nll = encode_with_nll(model, x, h, labels, uniform(info))
    close(nll, info["nll_with_noise"], "golden.nll")
    noise = []
    for z, spread, translated in zip(latents, info["latents_with_noise"], info["translation"], strict=True):
        close_spread(z, spread, "golden.latent")
        e = torch.zeros_like(z)
        e[1, :, 2, 3] = torch.tensor(translated["noise"])
        noise.append(e)
    moved = ShiftDistribution(model.prior).degrade(
        latents, noise, torch.ones(2), torch.zeros(2, dtype=torch.long)
    )
    for z, translated in zip(moved, info["translation"], strict=True):
        close(z[1, :, 2, 3], translated["z"], "golden.latent")


def test_gradient_norms_and_three_adam_steps() -> None:
    info, model = figures("small_x4"), golden_model(state("small_x4"))
    x, h, labels = batch(info["batch"])
    u, parameters = uniform(info), published_parameters(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.999))
    losses = []
    for step in range(4):
        loss = encode_with_nll(model, x, h, labels, u)[2].mean()
        losses.append(loss.item())
        if step == 3:
            break
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            norms = {key: float(p.grad.norm()) for key, p in parameters.items() if p.grad is not None}
            assert norms == pytest.approx(info["gradient_norms"], rel=tolerance("golden.gradient"))
        optimiser.step()
    assert losses == pytest.approx(info["losses"], abs=tolerance("golden.loss"))


@torch.no_grad()
def test_start_of_actnorm_from_data() -> None:
    info, model = figures("small_x4"), golden_model(state("small_x4"))
    x, h, labels = batch(info["start"])
    for key, value in model.named_parameters():
        if key.endswith(("norm_in.bias", "norm_in.logs", "actnorm.bias", "actnorm.logs")):
            value.fill_(7.0)  # the start must not depend on what was there
    model.start_from_next_batch()
    latents, log_det = model.encode_conditioned(x, model.prepare(h))
    nll = published_nll(model, x, latents, log_det, labels, quantised=False)
    close(nll, info["start"]["nll"], "golden.nll")
    parameters = published_parameters(model)
    for key, expected in info["actnorm"].items():
        close(parameters[key], expected, "golden.start")


@pytest.mark.parametrize("preset", ["aim", "ntire"])
def test_full_size_layout_key_for_key(preset: str) -> None:
    expected = json.loads((HERE / "layouts.json").read_text())[preset]
    model = DeFlow(FIT.load(preset).model)
    layout = published_layout(model)
    assert {key: list(layout[key]) for key in expected["first_keys"]} == expected["first_keys"]
    sizes = {key: torch.Size(shape).numel() for key, shape in layout.items()}
    assert (len(sizes), sum(sizes.values())) == (expected["tensors"], expected["elements"])
    fixed = sum(n for key, n in sizes.items() if key.endswith((".p", ".sign_s")))
    assert sum(sizes.values()) - fixed == expected["parameters"]
    assert layout_sha256(layout) == expected["layout_sha256"]


def test_tolerances_are_in_the_table() -> None:
    table = read_table()
    assert len(table) >= 10
    # values that others published are rounded, or hang on a rounding that cannot be repeated
    ours = {name: value for name, value in table.items() if not name.startswith("iqa.official.")}
    assert all(0 < value < 1e-3 for value in ours.values())
