"""Assessment: one synthetic set against the real one, by every figure that the data allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Pixels
from deflow_cli.errors import DataError
from deflow_cli.metrics.distances.kid import Kid, kid
from deflow_cli.metrics.distances.patch_features import patch_features
from deflow_cli.metrics.distances.two_sample import TwoSample, two_sample
from deflow_cli.metrics.noise.akld import akld_self_floor, mean_akld
from deflow_cli.metrics.noise.comparison import ResidualStatistics, compare
from deflow_cli.metrics.noise.content import Content, measure_content
from deflow_cli.metrics.noise.findings import Floors, judge, measure_floors
from deflow_cli.metrics.noise.high_pass import UnpairedStatistics, compare_unpaired
from deflow_cli.metrics.noise.independence import Independence, measure_independence
from deflow_cli.metrics.noise.repetition import Repetition, measure_repetition
from deflow_cli.metrics.noise.residual import level_histogram, residual_kl_naf, residual_of
from deflow_cli.reports.findings import WordedFinding
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.realism.data import NoisyImage, NoisySet
from deflow_cli.workflows.realism.wording import worded

T = TypeVar("T")
S = TypeVar("S", ResidualStatistics, UnpairedStatistics)
Features = Callable[[Pixels], NDArray[np.float64]]

HALVES = 8  # random splits of the real images behind each floor


@dataclass(frozen=True)
class RealSide:
    """The real images and what is measured of them once; paired figures of images with partners only."""

    images: NoisySet
    unpaired: UnpairedStatistics | None
    unpaired_floor: dict[str, float]
    features: list[NDArray[np.float64]]
    inception: list[NDArray[np.float64]] | None
    two_sample_floor: TwoSample | None
    residuals: ResidualStatistics | None = None
    residual_floor: dict[str, float] = field(default_factory=dict)
    content: Content | None = None
    residual_floors: Floors | None = None
    unpaired_floors: Floors | None = None
    repetition: Repetition | None = None


@dataclass(frozen=True)
class Assessment:
    """What was found of one synthetic set. Mappings of figures are empty, records None, where data lack.

    same_scenes: whether the residual figures compare the very same clean pictures. akld, akld_floor: NaN
    otherwise; scenes: KLD-NAF and AKLD of each. left_out: what could not be measured, and why.
    """

    name: str
    images: NoisySet
    findings: tuple[WordedFinding, ...] = ()
    left_out: tuple[str, ...] = ()
    unpaired: dict[str, float] = field(default_factory=dict)
    unpaired_statistics: UnpairedStatistics | None = None
    kid: Kid | None = None
    inception: Kid | None = None
    two_sample: TwoSample | None = None
    same_scenes: bool = False
    residual: dict[str, float] = field(default_factory=dict)
    residuals: ResidualStatistics | None = None
    akld: float = float("nan")
    akld_floor: float = float("nan")
    scenes: dict[str, dict[str, float]] = field(default_factory=dict)
    content: Content | None = None
    independence: Independence | None = None
    repetition: Repetition | None = None


def residuals_of(images: Sequence[NoisyImage]) -> list[NDArray[np.float64]]:
    """The residual of each image's first sample, H x W x 3 on the [0, 1] scale."""
    return [residual_of(image.clean, image.samples[0]) for image in images if image.clean is not None]


def statistics_of(images: Sequence[NoisyImage]) -> ResidualStatistics:
    """Residual statistics of images that have their clean pictures."""
    cleans = (image.clean / 255.0 for image in images if image.clean is not None)
    return ResidualStatistics.of(residuals_of(images), cleans)


def _floor(
    measured: S | None, distance: Callable[[S, S], Mapping[str, float]], seed: int
) -> dict[str, float]:
    """Mean of each figure between random disjoint halves of the real images; empty below four."""
    if measured is None or len(measured) < 4:
        return {}
    random = np.random.default_rng([seed, len(measured)])
    found: dict[str, list[float]] = {}
    for _ in range(HALVES):
        order = random.permutation(len(measured))
        one, two = (measured.take(half) for half in np.array_split(order, 2))
        for key, value in distance(one, two).items():
            found.setdefault(key, []).append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def measure_real(
    images: NoisySet, seed: int, quick: bool, inception: Features | None, reporter: Reporter
) -> RealSide:
    """All that is measured of the real images once, with the floors between random halves of them."""
    reporter.start(f"measuring {images.name}", None)
    pictures, attempt = images.pictures, Attempts()
    unpaired = attempt("flat patches", lambda: UnpairedStatistics.of(pictures))
    known = images.with_clean
    residuals = statistics_of(known) if known else None
    cleans = [image.clean for image in known if image.clean is not None]
    side = RealSide(
        images=images,
        unpaired=unpaired,
        unpaired_floor=_floor(unpaired, compare_unpaired, seed),
        features=patch_features(pictures),
        inception=[inception(picture) for picture in pictures] if inception else None,
        two_sample_floor=attempt(
            "two-sample test of the real images' halves",
            lambda: two_sample(pictures[::2], pictures[1::2], seed=seed, quick=quick),
        ),
        residuals=residuals,
        residual_floor=_floor(residuals, compare, seed),
        content=measure_content(cleans, [image.samples[0] for image in known]) if known else None,
        residual_floors=measure_floors(residuals) if residuals is not None else None,
        unpaired_floors=measure_floors(unpaired) if unpaired is not None else None,
        repetition=measure_repetition(residuals_of(known), cleans) if known else None,
    )
    reporter.finish()
    return side


class Attempts:
    """Runs measurements that some data do not allow; a refused one gives None and its reason is collected."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def __call__(self, what: str, measure: Callable[[], T]) -> T | None:
        try:
            return measure()
        except DataError as error:
            self.refused.append(f"{what}: {error}")
            return None


def assess(
    real: RealSide,
    fake: NoisySet,
    *,
    seed: int,
    quick: bool,
    inception: Features | None,
    reporter: Reporter,
) -> Assessment:
    """Measure a synthetic set against the real one; what its pictures do not allow is listed as left out."""
    reporter.start(f"measuring {fake.name}", None)
    pictures, attempt = fake.pictures, Attempts()
    found = Assessment(fake.name, fake)
    unpaired = attempt("flat patches", lambda: UnpairedStatistics.of(pictures))
    if unpaired is not None and real.unpaired is not None:
        distances = compare_unpaired(real.unpaired, unpaired)
        found = replace(found, unpaired_statistics=unpaired, unpaired=distances)
    kernel_distance = attempt(
        "KID", lambda: kid(real.features, patch_features(pictures), np.random.default_rng(seed))
    )
    found = replace(found, kid=kernel_distance)
    if inception is not None and real.inception is not None:
        deep, features = real.inception, [inception(picture) for picture in pictures]
        on_inception = attempt(
            "KID on Inception", lambda: kid(deep, features, np.random.default_rng(seed), standardise=False)
        )
        found = replace(found, inception=on_inception)
    found = replace(found, two_sample=attempt("two-sample test", lambda: _classify(real, fake, seed, quick)))
    known = fake.with_clean
    if known:
        found = _with_clean(found, real, known, seed, attempt)
    findings = _judge(real, unpaired, found)
    reporter.finish()
    return replace(found, findings=findings, left_out=tuple(attempt.refused))


def _judge(
    real: RealSide, unpaired: UnpairedStatistics | None, found: Assessment
) -> tuple[WordedFinding, ...]:
    """The findings: of residuals where both sides have them, else of high-passed flat patches."""
    truth: ResidualStatistics | UnpairedStatistics | None
    statistics: ResidualStatistics | UnpairedStatistics
    if found.residuals is not None and (real.residuals is not None or unpaired is None):
        truth, statistics, floors = real.residuals, found.residuals, real.residual_floors
    elif unpaired is not None:
        truth, statistics, floors = real.unpaired, unpaired, real.unpaired_floors
    else:
        return ()
    return worded(
        judge(
            truth,
            statistics,
            content=found.content,
            real_content=real.content,
            independence=found.independence,
            repetition=found.repetition,
            real_repetition=real.repetition,
            floors=floors,
        )
    )


def _classify(real: RealSide, fake: NoisySet, seed: int, quick: bool) -> TwoSample:
    """The classifier two-sample test; a scene that both sides show stays on one side of its splits."""
    names = [image.name for image in real.images.images], [image.name for image in fake.images]
    groups = names if set(names[0]) & set(names[1]) else None
    return two_sample(real.images.pictures, fake.pictures, seed=seed, groups=groups, quick=quick)


def _with_clean(
    found: Assessment, real: RealSide, known: Sequence[NoisyImage], seed: int, attempt: Attempts
) -> Assessment:
    """The assessment with what known clean pictures allow: residuals, content, repetition, independence."""
    cleans = [image.clean for image in known if image.clean is not None]
    statistics = statistics_of(known)
    found = replace(
        found,
        residuals=statistics,
        content=measure_content(cleans, [image.samples[0] for image in known]),
        repetition=measure_repetition(residuals_of(known), cleans),
    )
    sampled = [image for image in known if len(image.samples) > 1]
    if not sampled:
        attempt.refused.append("independence: one degradation of each image; give several (--samples 4)")
    else:
        independence = measure_independence(
            [image.clean for image in sampled if image.clean is not None],
            [image.samples for image in sampled],
        )
        found = replace(found, independence=independence)
    if real.residuals is None:
        return found
    return _against_residuals(found, real.images, real.residuals, known, statistics, seed)


def _against_residuals(
    found: Assessment,
    real_images: NoisySet,
    real: ResidualStatistics,
    known: Sequence[NoisyImage],
    statistics: ResidualStatistics,
    seed: int,
) -> Assessment:
    """The assessment with residual distances.

    They are measured over the scenes that both sides show, if all real scenes are among them with the same
    clean pictures; otherwise over all images, pooled.
    """
    ours = {image.name: image for image in known}
    theirs = {image.name: image for image in real_images.with_clean}
    shared = [name for name in theirs if name in ours and _same(theirs[name], ours[name])]
    if len(shared) < len(theirs):
        return replace(found, residual=compare(real, statistics))
    truth = residuals_of([theirs[name] for name in shared])
    drawn = [
        [residual_of(clean, sample) for sample in ours[name].samples]
        for name in shared
        if (clean := ours[name].clean) is not None
    ]
    scenes = {
        name: {
            "kl_naf": residual_kl_naf(level_histogram(one), level_histogram(many[0])),
            "akld": mean_akld([one], [many]),
        }
        for name, one, many in zip(shared, truth, drawn, strict=True)
    }
    distances = compare(
        statistics_of([theirs[name] for name in shared]), statistics_of([ours[name] for name in shared])
    )
    return replace(
        found,
        residual=distances,
        same_scenes=True,
        scenes=scenes,
        akld=float(np.mean([figures["akld"] for figures in scenes.values()])),
        akld_floor=akld_self_floor(drawn, np.random.default_rng([seed, 1])),
    )


def _same(one: NoisyImage, other: NoisyImage) -> bool:
    return (
        one.clean is not None
        and other.clean is not None
        and one.clean.shape == other.clean.shape
        and bool(np.array_equal(one.clean, other.clean))
    )
