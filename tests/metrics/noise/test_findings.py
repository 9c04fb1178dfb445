"""Findings: every wrong generator is caught by its metric and by a sentence; a right one by none."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest

from deflow_cli.arrays import Array
from deflow_cli.metrics.noise import findings
from deflow_cli.metrics.noise.comparison import ResidualStatistics, compare
from deflow_cli.metrics.noise.content import Content, measure_content
from deflow_cli.metrics.noise.differences import measure_differences
from deflow_cli.metrics.noise.findings import measure_floors
from deflow_cli.metrics.noise.independence import Independence, measure_independence
from deflow_cli.metrics.noise.repetition import Repetition, measure_repetition
from deflow_cli.metrics.noise.residual import residual_of
from deflow_cli.reports.findings import WordedFinding
from deflow_cli.workflows.realism.wording import worded
from tests.metrics.distances.generators import HONEST, WRONG, Law, jpeg, pictures, right

CLEANS = pictures(8, 112)


@dataclass(frozen=True)
class Side:
    """What is measured of one law's degradations."""

    statistics: ResidualStatistics
    content: Content
    repetition: Repetition
    independence: Independence


@cache
def measure(law: Law, seed: int) -> Side:
    samples = [[law(c, np.random.default_rng([seed, i, k])) for k in (0, 1)] for i, c in enumerate(CLEANS)]
    first = [draws[0] for draws in samples]
    residuals = [residual_of(c, noisy) for c, noisy in zip(CLEANS, first, strict=True)]
    return Side(
        ResidualStatistics.of(residuals, [c / 255.0 for c in CLEANS]),
        measure_content(CLEANS, first),
        measure_repetition(residuals, CLEANS),
        measure_independence(CLEANS, samples),
    )


def judge(*statistics, **measured) -> list[WordedFinding]:
    """The findings in words, as they are printed."""
    return list(worded(findings.judge(*statistics, **measured)))


def judged(real: Side, fake: Side) -> list[WordedFinding]:
    return judge(
        real.statistics,
        fake.statistics,
        content=fake.content,
        real_content=real.content,
        independence=fake.independence,
        repetition=fake.repetition,
        real_repetition=real.repetition,
        floors=measure_floors(real.statistics),
    )


def figure(subject: str, real: Side, fake: Side) -> float:
    """The metric meant for a subject; 0 is perfect, and 3 times a right draw's value is caught."""
    figures = compare(real.statistics, fake.statistics)
    match subject:
        case "level":
            return abs(figures["std_ratio"] - 1)
        case "tones":
            return figures["noise_level_rms"]
        case "grain":
            return figures["acf_rms"]
        case "channels":
            return figures["channel_correlation_rms"]
        case "tails":
            return abs(figures["kurtosis_fake"] - figures["kurtosis_real"])
        case "detail":
            return abs(float(fake.content.gain[3] - real.content.gain[3]))
        case "colour":
            return float(np.abs(fake.content.colour_shift - real.content.colour_shift).max())
        case "randomness":
            return max(fake.independence.noise_correlation / fake.independence.bound, 0.1)
        case "repetition":
            return fake.repetition.worst.excess
    raise AssertionError(subject)


def amiss(findings: list[WordedFinding]) -> dict[str, str]:
    """Subjects that are wrong, and what is said of them."""
    return {finding.subject: finding.sentence for finding in findings if finding.severity in ("bad", "warn")}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_generator_is_caught_by_its_metric_and_by_a_sentence(name):
    wrong = WRONG[name]
    real, fake, again = measure(right, 1), measure(wrong.law, 2), measure(right, 3)
    assert figure(wrong.subject, real, fake) > 3 * figure(wrong.subject, real, again)
    found = [f for f in judged(real, fake) if f.subject == wrong.subject]
    assert any(wrong.words in f.sentence and f.severity in ("bad", "warn") for f in found), found


@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_generator_is_blamed_for_much_else(name):
    # blur changes the residual too, and what repeats has a comb for a spectrum
    follows = {"blurred content": {"level", "grain", "tones", "spectrum", "tails"}, "tiled": {"spectrum"}}
    follows |= {"pool of patches": {"spectrum", "randomness"}}
    found = set(amiss(judged(measure(right, 1), measure(WRONG[name].law, 2))))
    assert found <= {WRONG[name].subject} | follows.get(name, set())


@pytest.mark.parametrize("name", ["right", "white", "coarse", "heavy tails", "jpeg 75", "jpeg 40"])
def test_a_right_generator_is_blamed_for_nothing(name):
    findings = judged(measure(HONEST[name], 3), measure(HONEST[name], 4))
    assert [f.severity for f in findings] == ["good"], findings
    assert findings[0].sentence.startswith("Cannot be told from the real noise in level, tones")


def test_compression_is_seen_when_the_real_noise_has_none():
    assert "detail" in amiss(judged(measure(right, 1), measure(jpeg(right, 40), 2)))


def test_worst_comes_first_and_what_is_in_order_last():
    severities = [f.severity for f in judged(measure(right, 1), measure(WRONG["blurred content"].law, 2))]
    assert severities == sorted(severities, key=["bad", "warn", "note", "good"].index)
    assert severities[-1] == "good"


# ------------------------------------------------------------------ hand-made statistics


@dataclass(frozen=True)
class Made:
    """Statistics of a noise that was never drawn: what `judge` reads, no more."""

    std: float = 8 / 255
    noise_level: Array = field(default_factory=lambda: np.full(16, 8 / 255))
    autocorrelation: Array = field(
        default_factory=lambda: np.pad(np.ones((3, 1, 1)), ((0, 0), (4, 4), (4, 4)))
    )
    psd_db: Array = field(default_factory=lambda: np.full((3, 16), 18.0))
    channel_correlation: Array = field(default_factory=lambda: np.zeros(3))
    excess_kurtosis: float = 0.0


def test_any_statistics_can_be_judged():
    assert [f.severity for f in judge(Made(), Made())] == ["good"]
    sentence = judge(Made(std=4.4 / 255), Made(std=3.1 / 255))[0].sentence
    assert sentence == "Too weak: 3.1 grey levels where the real noise has 4.4 (70 %); it takes more noise."
    said = amiss(judge(Made(), Made(noise_level=np.linspace(3, 13, 16) / 255)))
    assert "highlights" in said["tones"]
    assert "Lighter tails" in amiss(judge(Made(excess_kurtosis=2.0), Made()))["tails"]
    tilted = 18.0 + np.linspace(6, -6, 16) * np.ones((3, 1))
    assert "too coarse" in amiss(judge(Made(), Made(psd_db=tilted)))["grain"]
    wavy = 18.0 + 5.0 * np.tile([1.0, -1.0], 8) * np.ones((3, 1))
    assert "another shape" in amiss(judge(Made(), Made(psd_db=wavy)))["spectrum"]
    striped = Made().autocorrelation.copy()
    striped[:, 4, :] = 1.0
    striped[:, 3:6:2, 4] = -0.9  # neighbours as alike on average
    assert "another pattern" in amiss(judge(Made(), Made(autocorrelation=striped)))["spectrum"]


def test_tones_need_bins_that_both_know():
    dark, bright = np.full(16, np.nan), np.full(16, np.nan)
    dark[:4], bright[12:] = 2 / 255, 9 / 255
    assert "tones" not in amiss(judge(Made(noise_level=dark), Made(noise_level=bright)))


def test_no_noise_at_all_is_one_sentence():
    found = amiss(judge(Made(), Made(std=0.0)))
    assert found == {"level": "No noise: std 0.00 grey levels where the real noise has 8.0."}


def test_floors_raise_the_threshold_and_need_four_pictures():
    real = measure(right, 1).statistics
    floors = measure_floors(real)
    assert floors is not None
    assert 0 < floors.level < 0.05
    assert measure_floors(real[:3]) is None
    weak = Made(std=6 / 255, noise_level=Made().noise_level * 0.75)
    assert "level" in amiss(judge(Made(), weak, floors=floors))
    differences = measure_differences(weak, Made())
    assert differences.level == pytest.approx(-np.log(0.75))
    assert "level" not in amiss(
        judge(Made(), weak, floors=differences)
    )  # halves that differ as much excuse it


def test_without_real_noise_content_and_randomness_are_judged():
    fake = measure(WRONG["blurred content"].law, 2)
    found = judge(None, fake.statistics, content=fake.content, independence=fake.independence)
    assert "100 % if only noise is added" in amiss(found)["detail"]
    fine = measure(right, 1)
    found = judge(None, fine.statistics, content=fine.content, repetition=fine.repetition)
    assert [f.severity for f in found] == ["note"]
    assert judge(None, fine.statistics)[0].severity == "note"


def test_a_changed_picture_is_said_to_change():
    turned = measure_content(CLEANS, [c[::-1] for c in CLEANS])
    fake = measure(right, 1)
    assert {"detail", "content"} & set(amiss(judge(None, fake.statistics, content=turned)))


def test_a_real_noise_that_repeats_excuses_the_same():
    tiled = measure(WRONG["tiled"].law, 2)
    assert "repetition" not in amiss(judged(tiled, measure(WRONG["tiled"].law, 5)))
