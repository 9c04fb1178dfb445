"""Editing: what each mode changes and what it leaves, ends of interpolations, repetition, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.config.editing import Edit, EditMode
from deflow_cli.errors import ConfigError, DeflowError, ShapeError
from deflow_cli.inference.editing import edited, low_resolution, working_sides
from deflow_cli.inference.super_resolving import SuperResolver
from deflow_cli.models.srflow.latents import latent_masks, normalised_latents
from tests.golden.tolerances import tolerance
from tests.inference.small_srflow import images, started_srflow

HEIGHT, WIDTH = 72, 90  # no multiples of the model's 8 pixels at the sides


@pytest.fixture(scope="module")
def resolver() -> SuperResolver:
    return SuperResolver(started_srflow(), tile=0)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return textured(5)


@pytest.fixture(scope="module")
def other() -> Tensor:
    return textured(6)


def textured(seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    smooth = images(1, HEIGHT, WIDTH, seed=seed) * 0.6 + 0.2
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=random)).clamp(0, 1)


def mask() -> Tensor:
    found = torch.zeros(1, 1, HEIGHT, WIDTH)
    found[..., 24:44, 32:60] = 1
    return found


def distance(one: Tensor, two: Tensor) -> float:
    """Mean absolute difference in grey levels."""
    return float((one - two).abs().mean() * 255)


def test_encoding_and_decoding_give_the_image_back(resolver: SuperResolver, photo: Tensor) -> None:
    """Normalising nothing, restoring is encoding and decoding of an image mirrored to whole sides."""
    result = edited(resolver, Edit("restore", normalise=()), photo)
    assert working_sides(resolver.model, HEIGHT, WIDTH) == (72, 96)
    assert result.images[0].shape == photo.shape
    torch.testing.assert_close(result.images[0], photo, rtol=0, atol=tolerance("golden.image"))
    assert result.spread_before == pytest.approx(result.spread_after)
    assert result.lr_psnr[0] > 60  # x is made of the image itself


@pytest.mark.parametrize("normalise", [("global",), ("local",), ("spatial",), ("spatial", "local")])
def test_normalised_latents_have_the_spread_of_the_temperature(
    resolver: SuperResolver, photo: Tensor, normalise: tuple
) -> None:
    result = edited(resolver, Edit("restore", 0.9, normalise, deterministic=True), photo)
    # the divisor is N - 1, and N is 6 where fewest
    assert result.spread_after == pytest.approx(0.9, rel=0.1)
    assert result.spread_before != pytest.approx(0.9, rel=0.1)
    assert distance(result.images[0], photo) > 1


@pytest.mark.parametrize(
    ("mode", "options"), [("transfer", {}), ("vary", {"strength": 0.8}), ("restore", {})]
)
def test_outside_the_mask_the_image_stays(
    resolver: SuperResolver, photo: Tensor, other: Tensor, mode: EditMode, options: dict
) -> None:
    """Beyond what a pixel depends on no 8-bit value changes; around the mask few do, and less than inside."""
    second = other if mode == "transfer" else None
    result = edited(resolver, Edit(mode, **options), photo, second, mask()).images[0]
    inside = mask().expand_as(photo) > 0
    near = torch.nn.functional.max_pool2d(mask(), 41, 1, 20).expand_as(photo) > 0
    change = (result - photo).abs() * 255
    assert float(change[inside].mean()) > 2
    assert float(change[~inside].mean()) < 0.2 * float(change[inside].mean())
    assert float(change[~near].max()) < 0.5


def test_transfer_begins_with_the_pasted_image_and_the_unedited_low_frequencies(
    resolver: SuperResolver, photo: Tensor, other: Tensor
) -> None:
    soft = mask() * 0.5
    plain = edited(resolver, Edit("transfer", normalise=()), photo, other, soft)
    assert plain.pasted is not None
    torch.testing.assert_close(plain.pasted, torch.lerp(photo, other, soft))
    usual = edited(resolver, Edit("transfer"), photo, other, soft)
    assert usual.lr_psnr[0] > plain.lr_psnr[0] + 1  # normalised, it fits the x of the unedited image
    whole = edited(resolver, Edit("transfer", normalise=()), photo, other, torch.ones_like(soft)).images[0]
    torch.testing.assert_close(whole, other, rtol=0, atol=tolerance("golden.image"))


def test_pasting_what_does_not_fit_leaves_little_trace_beside_the_mask(
    resolver: SuperResolver, photo: Tensor
) -> None:
    """Far less than if the latents outside were those of the pasted image, too."""
    dark, where = 0.3 * photo[..., :88], mask()[..., :88]
    bright, x = dark + 0.7, low_resolution(dark, 4)
    pasted = resolver.encode(torch.lerp(dark, bright, where), x)
    masks = latent_masks(where, [factor for _, factor in resolver.model.flow.latent_plan])
    plain = resolver.decode(normalised_latents(pasted, "local", 0.8, masks=masks), x)
    result = edited(resolver, Edit("transfer", deterministic=True), dark, bright, where).images[0]
    change = [float((y - dark)[where.expand_as(dark) == 0].abs().mean()) for y in (plain, result)]
    assert change[1] < 0.4 * change[0]


def test_style_is_the_detail_of_one_on_the_low_frequencies_of_the_other(
    resolver: SuperResolver, photo: Tensor, other: Tensor
) -> None:
    assert distance(edited(resolver, Edit("style"), photo, photo).images[0], photo) < 0.01
    whole = edited(resolver, Edit("style"), photo, other).images[0]
    small = low_resolution(whole, 4)[..., :-2]
    assert distance(small, low_resolution(photo, 4)[..., : small.shape[-1]]) < 8
    high = [y - torch.nn.functional.avg_pool2d(y, 5, 1, 2) for y in (whole, photo, other)]
    like = [float(torch.corrcoef(torch.stack([high[0].flatten(), h.flatten()]))[0, 1]) for h in high[1:]]
    assert like[1] > like[0] + 0.15
    masked = edited(resolver, Edit("style"), photo, other, mask()).images[0]
    assert distance(masked[..., :4, :], photo[..., :4, :]) < 0.1
    assert distance(masked, photo) > 0.1


def test_interpolation_between_images_ends_at_them(
    resolver: SuperResolver, photo: Tensor, other: Tensor
) -> None:
    result = edited(resolver, Edit("interpolate", samples=4), photo, other)
    assert len(result.images) == len(result.lr_psnr) == 4
    torch.testing.assert_close(result.images[0], photo, rtol=0, atol=tolerance("golden.image"))
    torch.testing.assert_close(result.images[-1], other, rtol=0, atol=tolerance("golden.image"))
    way = [distance(y, photo) for y in result.images]
    assert way == sorted(way)


def test_interpolation_between_samples_ends_at_those_of_the_seed(
    resolver: SuperResolver, photo: Tensor
) -> None:
    photo = photo[..., :88]
    strip = resolver.edit(photo, Edit("interpolate", 0.9, seed=3))
    assert strip.shape == (1, 5, *photo.shape[1:])
    samples = resolver.sample(low_resolution(photo, 4), 0.9, 2, seed=3)
    for index, end in ((0, 0), (-1, 1)):
        torch.testing.assert_close(strip[:, index], samples[:, end], rtol=0, atol=tolerance("golden.image"))
    middle = edited(resolver, Edit("interpolate", 0.9, seed=3), photo)
    assert middle.spread_after == pytest.approx(0.9, rel=0.03)
    assert middle.pasted is None


def test_variations_go_as_far_as_their_strength(resolver: SuperResolver, photo: Tensor) -> None:
    far = [distance(resolver.edit(photo, Edit("vary", strength=a)), photo) for a in (0.0, 0.2, 0.6)]
    assert far[0] < 0.01
    assert far[0] < far[1] < far[2]
    three = resolver.edit(photo, Edit("vary", samples=3))
    assert three.shape == (1, 3, *photo.shape[1:])
    assert distance(three[:, 0], three[:, 1]) > 0.1


def test_edits_repeat_and_do_not_depend_on_the_batch(resolver: SuperResolver, photo: Tensor) -> None:
    edit = Edit("restore", samples=2, seed=1)
    first = resolver.edit(photo, edit)
    assert torch.equal(first, resolver.edit(photo, edit))
    both = resolver.edit(torch.cat([photo, 1 - photo]), edit)
    torch.testing.assert_close(both[:1], first)
    assert distance(first, resolver.edit(photo, Edit("restore", samples=2, seed=2))) > 0.1
    fixed = [resolver.edit(photo, Edit("restore", deterministic=True, seed=seed)) for seed in (1, 2)]
    assert torch.equal(*fixed)


def test_consistent_edits_shrink_to_x(resolver: SuperResolver, photo: Tensor) -> None:
    plain, projected = (
        edited(resolver, Edit("vary", 1.0, strength=1.0, consistent=flag), photo).lr_psnr[0]
        for flag in (False, True)
    )
    assert projected > plain + 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "blend"}, "edit.mode is 'blend'"),
        ({"mode": "vary", "temperature": 3.0}, "temperature 3"),
        ({"mode": "vary", "strength": 1.5}, "--strength is 1.5"),
        ({"mode": "vary", "samples": 0}, "--samples is 0"),
        ({"mode": "interpolate", "samples": 1}, "--samples is 1"),
        ({"mode": "restore", "normalise": ("everything",)}, "no normalisation is called 'everything'"),
        ({"mode": "style", "deterministic": True}, "nothing without --normalise"),
        ({"mode": "restore", "deterministic": True, "samples": 2}, "all would be equal"),
        ({"mode": "style", "samples": 2}, "all would be equal"),
    ],
)
def test_edits_that_make_no_sense(options: dict, words: str) -> None:
    with pytest.raises(DeflowError, match=words) as caught:
        Edit(**options)
    assert caught.value.next_step


def test_arguments_that_do_not_fit(resolver: SuperResolver, photo: Tensor, other: Tensor) -> None:
    for edit, arguments, words in (
        (Edit("transfer"), (other,), "transfer needs a mask"),
        (Edit("style"), (), "style needs another image"),
        (Edit("vary"), (other,), "vary takes one image alone"),
        (Edit("interpolate"), (other, mask()), "interpolate takes no mask"),
    ):
        with pytest.raises(ConfigError, match=words):
            edited(resolver, edit, photo, *arguments)
    with pytest.raises(ShapeError, match="the other image has shape"):
        edited(resolver, Edit("style"), photo, other[..., 1:])
    with pytest.raises(ShapeError, match="the mask has shape"):
        edited(resolver, Edit("transfer"), photo, other, mask()[..., 1:])
    broken = photo.clone()
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(DeflowError, match="the image holds values that are not finite"):
        edited(resolver, Edit("vary"), broken)


def test_latents_that_are_not_finite(photo: Tensor) -> None:
    model = started_srflow()
    with torch.no_grad():
        model.flow.layers[1].actnorm.logs.fill_(200.0)
    with pytest.raises(DeflowError, match="latents are not finite") as caught:
        edited(SuperResolver(model, tile=0), Edit("vary"), photo)
    assert "another model" in caught.value.next_step
