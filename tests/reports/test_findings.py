"""Findings in words: every kind that the metrics find has its sentence."""

import doctest
from typing import get_args

from deflow_cli.metrics.noise.findings import FindingKind
from deflow_cli.reports import findings
from deflow_cli.reports.findings import KINDS, sentence


def test_every_kind_has_its_sentence_and_no_sentence_is_left_over():
    assert set(get_args(FindingKind)) == KINDS


def test_the_examples_run():
    assert doctest.testmod(findings).failed == 0


def test_a_reference_is_named_only_where_there_is_one():
    figures = {"psnr": 21.25, "threshold": 35.0}
    start = "The picture itself changes: 21.2 dB PSNR once the noise is blurred away"
    assert sentence("picture changed", figures) == f"{start} (35 would pass)."
    assert sentence("picture changed", figures | {"real": 40.0}) == f"{start} (real: 40.0)."


def test_a_displacement_is_told_in_words():
    figures = {"first": 1, "second": 2, "correlation": 0.2, "bound": 0.1}
    chance = "(correlation 0.20, chance stays below 0.10)."
    assert sentence("repeats within an image", figures | {"down": -3, "right": 2}) == (
        f"The noise repeats: the same pattern comes back 3 px up and 2 px to the right in image 1 {chance}"
    )
    assert sentence("repeats across images", figures | {"down": 0, "right": 0}) == (
        f"The noise repeats: images 1 and 2 carry the same pattern, at the same place {chance}"
    )
