"""Encodings: a kept picture is degraded as it would be anew, whatever else is or was kept."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.degraders.flow.encodings import Encodings, bytes_of_encoding
from tests.inference.small import build, small_model, smooth_images

KEYS = ["a", "b", "c"]


@pytest.mark.parametrize("conditioning", ["encoder", "none"])
def test_a_kept_picture_is_degraded_as_anew(conditioning):
    model = build() if conditioning == "encoder" else build(conditioning="none")
    degrader = FlowDegrader(model)
    images = smooth_images(3, 18, 22)  # no multiples of the model's
    encodings = Encodings(degrader, 4)
    encodings.keep([4, 5, 6], images, KEYS)
    assert [number for number in range(10) if number in encodings] == [4, 5, 6]
    for seed in (1, 2):
        draws = [Draw(seed, "c", 0, 0.7), Draw(seed, "a", 1), Draw(seed, "b")]
        ours = encodings.degrade([6, 4, 5], draws)
        assert ours.shape == images.shape
        assert torch.allclose(ours, degrader.degrade(images[[2, 0, 1]], draws), atol=1e-5)
    assert not torch.allclose(ours, images[[2, 0, 1]], atol=0.05)


def test_bits_do_not_depend_on_what_was_kept_before():
    degrader, draws = FlowDegrader(small_model()), [Draw(3, "a"), Draw(3, "b")]
    images, others = smooth_images(3, 16, 16), smooth_images(3, 16, 16, seed=8)
    used, fresh = Encodings(degrader, 3), Encodings(degrader, 3)
    used.keep([0, 1, 2], others, KEYS)
    used.degrade([2, 1], draws)
    for encodings in (used, fresh):
        encodings.keep([3, 4, 5], images, KEYS)
    assert 0 not in used
    once = fresh.degrade([3, 4], draws)
    assert torch.equal(used.degrade([3, 4], draws), once)
    assert torch.equal(fresh.degrade([3, 4], draws), once)  # what is kept is not written to


def test_bytes_of_one_picture_are_told():
    degrader = FlowDegrader(small_model())
    encodings = Encodings(degrader, 5)
    encodings.keep([0], smooth_images(1, 16, 24), ["a"])
    kept = sum(part.numel() * part.element_size() for part in encodings._store)
    assert kept == 5 * bytes_of_encoding(degrader, 16, 24)
