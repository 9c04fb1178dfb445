"""SRFlow's golden numbers in compact form, reproduced by every run of the suite."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.parity import state_sha256
from tests.golden.srflow import (
    encoded_with_nll,
    srflow_golden_model,
    srflow_golden_state,
    srflow_parameters,
)
from tests.golden.tolerances import tolerance

NAME = "srflow_small_x4"


@cache
def figures() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / f"{NAME}.json").read_text())


@cache
def state() -> dict[str, Tensor]:
    info = figures()
    actnorm = {key: torch.tensor(value) for key, value in info["actnorm"].items()}
    return srflow_golden_state(info["config"], info["seed"], actnorm)


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """(y, x), divided in float32."""
    content = figures()["batch"]
    y = torch.tensor(content["image_u8"]).reshape(content["image_shape"]).float() / 255
    x = torch.tensor(content["h_u8"]).reshape(content["h_shape"]).float() / 255
    return y.to(dtype), x.to(dtype)


def close(actual: Tensor, expected: list[float], name: str, scale: float = 1.0) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    atol = tolerance(name) * scale
    torch.testing.assert_close(actual.detach().double().flatten(), wanted, rtol=0, atol=atol)


def close_spread(tensor: Tensor, expected: dict[str, Any], name: str) -> None:
    assert list(tensor.shape) == expected["shape"]
    close(tensor.flatten()[torch.tensor(expected["index"])], expected["value"], name)


def test_weights_come_from_the_recipe_bit_for_bit() -> None:
    assert state_sha256(state()) == figures()["state_sha256"]


def test_encoding_and_gradients() -> None:
    info, model = figures(), srflow_golden_model(state(), figures()["config"])
    y, x = batch()
    latents, log_det, nll = encoded_with_nll(model, y, x)
    close(nll, info["nll"], "srflow.nll")
    close(log_det, info["log_det"], "srflow.log_det", y[0, 0].numel())
    for z, expected in zip(latents, info["latents"], strict=True):
        close_spread(z, expected, "srflow.latent")
    nll.mean().backward()
    norms = {key: float(p.grad.norm()) for key, p in srflow_parameters(model).items() if p.grad is not None}
    assert norms == pytest.approx(info["gradient_norms"], rel=tolerance("srflow.gradient"))


@torch.no_grad()
def test_encoding_in_float64() -> None:
    info, model = figures(), srflow_golden_model(state(), figures()["config"], torch.float64)
    y, x = batch(torch.float64)
    _, log_det, nll = encoded_with_nll(model, y, x)
    close(nll, info["nll_float64"], "srflow.float64")
    close(log_det, info["log_det_float64"], "srflow.float64", y[0, 0].numel())


@torch.no_grad()
def test_decoding_at_temperature_zero() -> None:
    info, model = figures(), srflow_golden_model(state(), figures()["config"])
    _, x = batch()
    zeros = [x.new_zeros(len(x), *shape) for shape in model.latent_shapes(*x.shape[-2:])]
    image = model.decode(zeros, x, model.prepare(x))
    close_spread(image, info["image_at_zero"], "srflow.image")
