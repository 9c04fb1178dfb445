"""The full golden tensors: encodings, traces, translations, samples, gradients, optimiser steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.models.deflow.shift import ShiftDistribution
from tests.golden.full import Golden, load_golden, needs_golden
from tests.golden.parity import (
    NAMES,
    SIZES,
    encode_with_nll,
    log_priors,
    published_nll,
    published_parameters,
    state_sha256,
)
from tests.golden.tolerances import tolerance

pytestmark = needs_golden

FEATURES = ("fea_up2", "fea_up1", "fea_up0")


@pytest.fixture(scope="module", params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return load_golden(request.param)


def close(actual: Tensor, expected: Tensor, name: str, relative: bool = False) -> None:
    """Absolute to the table's tolerance, or relative to the largest expected value."""
    scale = float(expected.abs().max()) if relative else 1.0
    torch.testing.assert_close(
        actual.reshape(expected.shape), expected, rtol=0, atol=tolerance(name) * scale, check_dtype=False
    )


def first_component(batch: int) -> Tensor:
    return torch.zeros(batch, dtype=torch.long)


def test_state_dict_is_the_golden_one(golden: Golden) -> None:
    assert len(golden.state) == golden.info["n_state_tensors"]
    assert state_sha256(golden.state) == golden.info["sd_sha256"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["enc", "encu"])
@torch.no_grad()
def test_encoding(golden: Golden, size: str, kind: str) -> None:
    model, io = golden.model(), golden.io
    uniform = io[f"{size}.u"] if kind == "encu" else None
    latents, log_det, nll = encode_with_nll(
        model, golden.image(f"{size}.gt"), golden.image(f"{size}.lr"), io[f"{size}.labels"], uniform
    )
    expected = golden.listed(f"{size}.{kind}.eps")
    assert len(expected) == len(latents)
    for z, z_expected in zip(latents, expected, strict=True):
        close(z, z_expected, "golden.latent")
    close(log_det, io[f"{size}.{kind}.logdet"], "golden.log_det", relative=True)
    close(nll, io[f"{size}.{kind}.nll"], "golden.nll")


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_encoding_in_float64(golden: Golden, size: str) -> None:
    double = torch.float64
    model, labels = golden.model(double), golden.io[f"{size}.labels"]
    x, h = golden.image(f"{size}.gt", double), golden.image(f"{size}.lr", double)
    _, log_det, nll = encode_with_nll(model, x, h, labels)
    rtol = tolerance("golden.float64")
    torch.testing.assert_close(nll, golden.io[f"{size}.f64.nll"], rtol=rtol, atol=0)
    torch.testing.assert_close(log_det, golden.io[f"{size}.f64.logdet"], rtol=rtol, atol=0)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_features(golden: Golden, size: str) -> None:
    encoder = golden.model().encoder
    assert encoder is not None
    features = encoder(golden.image(f"{size}.lr"))
    for ours, name in zip(features, FEATURES, strict=False):
        first = ours[:1] if size == "s0" else ours[:1].mean((2, 3))  # s1 holds means over positions
        close(first, golden.io[f"{size}.feat.{name}"], "golden.feature", relative=True)


@torch.no_grad()
def test_every_traced_layer(golden: Golden) -> None:
    model, labels = golden.model(), golden.io["s0.labels"]
    conditions = model.prepare(golden.image("s0.lr"))
    z, log_det, latents = golden.image("s0.gt"), torch.zeros(2), []
    assert len(model.flow.layers) == len(golden.info["level_plan"])
    for index, (layer, condition) in enumerate(zip(model.flow.layers, conditions, strict=True)):
        z, part = layer(z, condition)
        if layer.latent_channels:
            z, latent = layer.parted(z)
            latents.append(latent)
            shared = model.prior.shared()[len(latents) - 1]
            degraded = shared.log_prob_degraded(latent)[:, 0]
            clean = torch.distributions.Normal(0.0, 1.0).log_prob(latent).flatten(1).sum(1)
            part = part + torch.where(labels.bool(), degraded, clean)
        log_det = log_det + part
        close(z[:1], golden.io[f"trace.z{index:02d}"], "golden.latent")
        expected = golden.io[f"trace.logdet{index:02d}"]
        torch.testing.assert_close(log_det, expected, rtol=tolerance("golden.log_det"), atol=2e-3)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_decoding_gives_the_image_back(golden: Golden, size: str) -> None:
    model, x, io = golden.model(), golden.image(f"{size}.gt"), golden.io
    conditions = model.prepare(golden.image(f"{size}.lr"))
    image, log_det = model.flow.decode(golden.listed(f"{size}.enc.eps"), conditions)
    close(image, x, "golden.image")
    priors = log_priors(model, golden.listed(f"{size}.enc.eps"), io[f"{size}.labels"])[:-1]
    log_det = log_det - sum(priors, torch.zeros(len(x)))
    close(log_det, io[f"{size}.enc.decode_logdet"], "golden.log_det", relative=True)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_translation_to_degraded(golden: Golden, size: str) -> None:
    model, io = golden.model(), golden.io
    conditions = model.prepare(golden.image(f"{size}.lr"))
    x = golden.image(f"{size}.gt") + (io[f"{size}.u"] - 0.5) / 32
    latents = model.encode_conditioned(x, conditions)[0]
    noise = golden.listed(f"{size}.t01.noise")
    moved = ShiftDistribution(model.prior).degrade(
        latents, noise, torch.ones(len(x)), first_component(len(x))
    )
    for z, expected in zip(moved, golden.listed(f"{size}.t01.z"), strict=True):
        close(z, expected, "golden.latent")
    close(model.decode_conditioned(moved, conditions), io[f"{size}.t01.img"], "golden.image")


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_translation_to_clean(golden: Golden, size: str) -> None:
    """The published noise went through its own root of the posterior covariance, as arbitrary as any."""
    model, io = golden.model(), golden.io
    conditions = model.prepare(golden.image(f"{size}.lr"))
    x = golden.image(f"{size}.gt") + (io[f"{size}.u"] - 0.5) / 32
    latents = model.encode_conditioned(x, conditions)[0]
    noise = golden.listed(f"{size}.t10.noise")
    moved = ShiftDistribution(model.prior).restore(
        latents, None, torch.zeros(len(x)), first_component(len(x))
    )
    sampled = []
    for index, (mean, e) in enumerate(zip(moved, noise, strict=True)):
        z = mean + torch.einsum("ij,bjhw->bihw", io[f"t10.root{index}"], e)
        close(z, io[f"{size}.t10.z{index}"], "golden.latent")
        sampled.append(z)
    close(model.decode_conditioned(sampled, conditions), io[f"{size}.t10.img"], "golden.image")


@torch.no_grad()
def test_posterior_matrices(golden: Golden) -> None:
    for index, shared in enumerate(golden.model().prior.shared()):
        gain, root = shared.posterior_matrices()
        covariance, theirs = root[0] @ root[0].T, golden.io[f"t10.root{index}"]
        close(gain[0], golden.io[f"t10.prec{index}"], "golden.matrix")
        close(covariance, golden.io[f"t10.cond_cov{index}"], "golden.matrix")
        close(covariance, theirs @ theirs.T, "golden.matrix")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("domain", [0, 1])
@torch.no_grad()
def test_domain_samples(golden: Golden, size: str, domain: int) -> None:
    """Draws come coarsest latent first; the degraded domain draws z_x, then e, for each."""
    model, name = golden.model(), f"{size}.gen{domain}"
    latents = golden.listed(f"{name}.draw")[::-1]
    if domain:
        noise, clean = latents[0::2], latents[1::2]
        latents = ShiftDistribution(model.prior).degrade(clean, noise, torch.ones(2), first_component(2))
    for z, expected in zip(latents, golden.listed(f"{name}.z"), strict=True):
        close(z, expected, "golden.matrix")
    image = model.decode_conditioned(latents, model.prepare(golden.image(f"{size}.lr")))
    close(image, golden.io[f"{name}.img"], "golden.image")


def test_gradients_and_adam_steps(golden: Golden) -> None:
    model, io = golden.model(), golden.io
    x, h, labels = golden.image("s0.gt"), golden.image("s0.lr"), io["s0.labels"]
    parameters = published_parameters(model)
    start = {key: value.detach().clone() for key, value in parameters.items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.999))
    losses = []
    for step in range(4):
        loss = encode_with_nll(model, x, h, labels, io["s0.u"])[2].mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            _check_gradients(golden, parameters)
        optimiser.step()
        for key, expected in golden.under(f"step{step + 1}.").items():
            if key == "cov_shift_delta_norm":
                moved = (parameters["cov_shift"] - start["cov_shift"]).norm()
                close(moved, expected, "golden.step")
            else:
                close(parameters[key], expected, "golden.step")
    expected_losses = [*golden.info["losses_3steps"], golden.info["loss_after_3steps"]]
    assert losses[0] == pytest.approx(expected_losses[0], abs=tolerance("golden.nll"))
    assert losses == pytest.approx(expected_losses, abs=tolerance("golden.loss"))


def _check_gradients(golden: Golden, parameters: dict[str, Tensor]) -> None:
    for key, expected in golden.under("grad1.").items():
        grad = parameters[key].grad
        assert grad is not None
        close(grad, expected, "golden.gradient", relative=True)
    rtol = tolerance("golden.gradient")
    for key, figures in golden.info["grad_step1"].items():
        if figures is None:  # never used by the publication either
            assert key not in parameters or parameters[key].grad is None
            continue
        grad = parameters[key].grad
        assert grad is not None
        norm, total, largest = figures
        assert float(grad.norm()) == pytest.approx(norm, rel=rtol)
        assert float(grad.abs().max()) == pytest.approx(largest, rel=rtol)
        assert float(grad.sum()) == pytest.approx(total, abs=rtol * float(grad.abs().sum()))


@torch.no_grad()
def test_start_of_actnorm_from_data(golden: Golden) -> None:
    model, io = golden.model(), golden.io
    model.start_from_next_batch()
    x, labels = golden.image("init.gt"), torch.tensor(golden.info["init_labels"])
    latents, log_det = model.encode_conditioned(x, model.prepare(golden.image("init.lr")))
    nll = published_nll(model, x, latents, log_det, labels, quantised=False)
    close(nll, io["init.nll"], "golden.nll")
    parameters = published_parameters(model)
    started = golden.under("sd.")
    assert len(started) == golden.info["n_actnorm_tensors"]
    for key, expected in started.items():
        close(parameters[key], expected, "golden.start")
