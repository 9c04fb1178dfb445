"""SRFlow's full golden tensors: start, encodings, traces, samples, gradients, optimiser steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deflow_cli.data.images.resize import downsample
from deflow_cli.models.srflow.model import SRFlow, log_standard_normal
from tests.golden.full import needs_golden
from tests.golden.parity import state_sha256
from tests.golden.srflow import (
    SRFLOW_NAMES,
    SRFlowGolden,
    encoded_with_nll,
    load_srflow_golden,
    log_priors_of_splits,
    srflow_parameters,
)
from tests.golden.tolerances import tolerance

pytestmark = needs_golden

SIZES = ("s0", "s1")
PYRAMID = ("fea_up2", "fea_up1")  # of the fixture without splits, finest first


@pytest.fixture(scope="module", params=SRFLOW_NAMES)
def golden(request: pytest.FixtureRequest) -> SRFlowGolden:
    return load_srflow_golden(request.param)


def close(actual: Tensor, expected: Tensor, name: str, scale: float = 1.0) -> None:
    """Absolute to the table's tolerance times a scale."""
    torch.testing.assert_close(
        actual.reshape(expected.shape), expected, rtol=0, atol=tolerance(name) * scale, check_dtype=False
    )


def positions(golden: SRFlowGolden, size: str) -> int:
    return golden.io[f"{size}.gt_u8"][0, 0].numel()


def test_state_dict_is_the_golden_one(golden: SRFlowGolden) -> None:
    assert len(golden.state) == golden.info["n_state_tensors"]
    assert state_sha256(golden.state) == golden.info["sd_sha256"]
    assert sum(value.numel() for value in golden.state.values()) == golden.info["n_params_total"]


@pytest.mark.parametrize("name", ["init", "s0", "s1"])
def test_small_images_are_the_downsampled_ones(golden: SRFlowGolden, name: str) -> None:
    for y, x in zip(golden.io[f"{name}.gt_u8"], golden.io[f"{name}.lr_u8"], strict=True):
        ours = downsample(y.permute(1, 2, 0).numpy(), golden.info["config"]["scale"], "deflow")
        np.testing.assert_array_equal(ours, x.permute(1, 2, 0).numpy())


@torch.no_grad()
def test_start_of_actnorm_from_data(golden: SRFlowGolden) -> None:
    model = golden.srflow()
    for key, value in model.named_parameters():
        if key.endswith((".bias", ".logs")) and ("norm_" in key or "actnorm" in key):
            value.fill_(7.0)  # the start must not depend on what was there
    y, x = golden.image("init.gt"), golden.image("init.lr")
    model.start(y, x, None, regression=False)
    parameters, started = srflow_parameters(model), golden.under("sd.")
    assert len(started) == sum(".actnorm." in key for key in golden.state)
    for key, expected in started.items():
        close(parameters[key], expected, "srflow.start")
    if "init.nll" in golden.io:
        close(encoded_with_nll(model, y, x)[2], golden.io["init.nll"], "srflow.nll")


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_features(golden: SRFlowGolden, size: str) -> None:
    features = golden.srflow().encoder(golden.image(f"{size}.lr"))
    for level, ours in enumerate(features, start=1):
        if golden.has_splits and size == "s1":
            close(ours, golden.io[f"s1.feat.level{level}"], "srflow.feature")
        elif golden.has_splits:
            norm, total, largest = golden.info[f"s0.feat.level{level}.stats_norm_sum_maxabs"]
            assert float(ours.norm()) == pytest.approx(norm, rel=tolerance("srflow.feature"))
            assert float(ours.abs().max()) == pytest.approx(largest, abs=tolerance("srflow.feature"))
            slack = tolerance("srflow.feature") * float(ours.abs().sum())
            assert float(ours.double().sum()) == pytest.approx(total, abs=slack)
        else:  # of the first image, s1 as means over positions
            first = ours[:1] if size == "s0" else ours[:1].mean((2, 3))
            close(first, golden.io[f"{size}.feat.{PYRAMID[level - 1]}"], "srflow.feature")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noised", [False, True], ids=["bare", "noised"])
@torch.no_grad()
def test_encoding(golden: SRFlowGolden, size: str, noised: bool) -> None:
    kind = f"{size}.{golden.noised if noised else 'enc'}"
    uniform = golden.io[f"{size}.u"] if noised else None
    latents, log_det, nll = encoded_with_nll(
        golden.srflow(), golden.image(f"{size}.gt"), golden.image(f"{size}.lr"), uniform
    )
    for z, expected in zip(latents, golden.listed(f"{kind}.eps"), strict=True):
        close(z, expected, "srflow.latent")
    close(log_det, golden.io[f"{kind}.logdet"], "srflow.log_det", positions(golden, size))
    close(nll, golden.io[f"{kind}.nll"], "srflow.nll")


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_encoding_in_float64(golden: SRFlowGolden, size: str) -> None:
    y, x = golden.image(f"{size}.gt").double(), golden.image(f"{size}.lr").double()
    _, log_det, nll = encoded_with_nll(golden.srflow(torch.float64), y, x)
    close(nll, golden.io[f"{size}.f64.nll"], "srflow.float64")
    close(log_det, golden.io[f"{size}.f64.logdet"], "srflow.float64", positions(golden, size))


@torch.no_grad()
def test_every_traced_layer(golden: SRFlowGolden) -> None:
    model = golden.srflow()
    conditions = model.prepare(golden.image("s0.lr"))
    z, log_det = golden.image("s0.gt"), torch.zeros(len(golden.io["s0.gt_u8"]))
    count = sum(key.startswith("trace.z") for key in golden.io)
    assert len(model.flow.bijections()) == count
    for index, (layer, condition) in enumerate(zip(model.flow.bijections(), conditions, strict=True)):
        z, part = layer(z, condition)
        log_det = log_det + part
        if layer.latent_channels:
            z, latent = layer.parted(z)
            log_det = log_det + log_standard_normal([latent])
        expected = golden.io[f"trace.z{index:02d}"]
        close(z[: len(expected)], expected, "srflow.latent")
        expected = golden.io[f"trace.logdet{index:02d}"]
        close(log_det, expected, "srflow.log_det", positions(golden, "s0"))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_decoding_at_temperatures(golden: SRFlowGolden, size: str) -> None:
    model, x = golden.srflow(), golden.image(f"{size}.lr")
    conditions = model.prepare(x)
    assert len(golden.decoded(size)) >= 2
    for name, temperature in golden.decoded(size).items():
        latents = [temperature * draw for draw in golden.draws(size)]
        image, log_det = model.flow.decode(latents, conditions)
        close(image, golden.io[f"{size}.{name}.img"], "srflow.image")
        assert torch.equal(image, model.decode(latents, x, conditions))
        if f"{size}.{name}.logdet" in golden.io:
            counted = log_det - log_priors_of_splits(latents)
            expected = golden.io[f"{size}.{name}.logdet"]
            close(counted, expected, "srflow.log_det", positions(golden, size))
        if f"{size}.{name}.u8_truncated" in golden.io:
            _check_truncated(golden, f"{size}.{name}", image)


def _check_truncated(golden: SRFlowGolden, name: str, image: Tensor) -> None:
    """The authors' 8 bits and their small version; ours may fall to the other side of a whole number."""
    theirs = golden.io[f"{name}.u8_truncated"]
    ours = (image.clamp(0, 1) * 255).floor().to(torch.uint8)
    differ = ours != theirs
    near = (255 * image - (255 * image).round()).abs() < 255 * tolerance("srflow.image")
    assert bool((near | ~differ).all())
    for y, x in zip(theirs, golden.io[f"{name}.lr_u8"], strict=True):
        down = downsample(y.permute(1, 2, 0).numpy(), golden.info["config"]["scale"], "deflow")
        np.testing.assert_array_equal(down, x.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_decoding_gives_the_image_back(golden: SRFlowGolden, size: str) -> None:
    model, x = golden.srflow(), golden.image(f"{size}.lr")
    image = model.decode(golden.listed(f"{size}.enc.eps"), x, model.prepare(x))
    close(image, golden.image(f"{size}.gt"), "srflow.image")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_and_adam_steps(golden: SRFlowGolden, dtype: torch.dtype) -> None:
    """Adam enlarges the rounding of small gradients, and a ReLU's input near zero may change its sign then.

    So float64 comes nearer to the goldens than float32 does.
    """
    model, io = golden.srflow(dtype), golden.io
    y, x = golden.image("s0.gt").to(dtype), golden.image("s0.lr").to(dtype)
    uniform = None if golden.has_splits else io["s0.u"].to(dtype)
    single = dtype == torch.float32
    parameters, adam = srflow_parameters(model), golden.info["adam"]
    optimiser = torch.optim.Adam(model.parameters(), lr=adam["lr"], betas=adam["betas"], eps=adam["eps"])
    losses = []
    for step in range(4):
        loss = encoded_with_nll(model, y, x, uniform)[2].mean()
        losses.append(loss.item())
        if step == 3:
            break
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            check_gradients(golden, parameters)
        optimiser.step()
        for key, expected in golden.under(f"step{step + 1}.").items():
            close(parameters[key], expected, "srflow.step" if single else "srflow.step_float64")
    last = tolerance("srflow.last_loss" if single else "srflow.loss")
    assert losses[:3] == pytest.approx(golden.losses[:3], abs=tolerance("srflow.loss"))
    assert losses[3] == pytest.approx(golden.losses[3], abs=last)


def check_gradients(golden: SRFlowGolden, parameters: dict[str, Tensor]) -> None:
    prefix, figures = golden.gradients
    for key, expected in golden.under(prefix).items():
        grad = parameters[key].grad
        assert grad is not None
        close(grad, expected, "srflow.gradient", float(expected.abs().max()))
    check_gradient_figures(parameters, figures)


def check_gradient_figures(parameters: dict[str, Tensor], figures: dict[str, list[float] | None]) -> None:
    """Norm, sum and largest of every parameter's gradient; None: nothing reads it."""
    rtol = tolerance("srflow.gradient")
    assert set(parameters) == {key for key, value in figures.items() if value is not None}
    for key, value in figures.items():
        if value is None:
            continue
        grad = parameters[key].grad
        assert grad is not None
        norm, total, largest = value
        assert float(grad.double().norm()) == pytest.approx(norm, rel=rtol), key
        assert float(grad.abs().max()) == pytest.approx(largest, rel=rtol), key
        slack = rtol * float(grad.abs().double().sum())
        assert float(grad.double().sum()) == pytest.approx(total, abs=slack), key


@pytest.mark.parametrize("how", ["low_memory", "in_runs"])
def test_other_orders_of_the_work_have_the_same_gradients(golden: SRFlowGolden, how: str) -> None:
    model = golden.srflow()
    if how == "in_runs":
        model.train_in_runs()
    y, x = golden.image("s0.gt"), golden.image("s0.lr")
    if not golden.has_splits:
        y = y + (golden.io["s0.u"] - 0.5) / 32
    latents, log_det = model.encode_for_training(y, x, low_memory=how == "low_memory")
    bits = -(log_standard_normal(latents) + log_det) / (positions(golden, "s0") * np.log(2.0))
    bits.mean().backward()
    check_gradients(golden, srflow_parameters(model))


def test_gradients_of_the_mild_images_error(golden: SRFlowGolden) -> None:
    if "grad_l1_t0_s0" not in golden.info:
        pytest.skip("this fixture has none")
    model: SRFlow = golden.srflow()
    y, x = golden.image("s0.gt"), golden.image("s0.lr")
    zeros = [torch.zeros_like(draw) for draw in golden.draws("s0")]
    loss = (model.decode(zeros, x, model.prepare(x)) - y).abs().mean()
    assert loss.item() == pytest.approx(golden.info["l1_t0_s0_loss"], abs=tolerance("srflow.loss"))
    loss.backward()
    figures = golden.info["grad_l1_t0_s0"]
    check_gradient_figures(srflow_parameters(model), figures)
