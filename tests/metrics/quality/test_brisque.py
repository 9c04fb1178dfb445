"""BRISQUE: features against figures and a plain implementation, the SVR, its file, and LIVE's values."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.errors import CheckpointError, ShapeError
from deflow_cli.metrics.quality.brisque import (
    BRISQUE_FEATURES,
    LIVE_RANGES,
    Brisque,
    BrisqueModel,
    brisque_features,
    read_brisque_model,
)
from tests.golden.tolerances import tolerance
from tests.metrics.quality import iqa_plain
from tests.metrics.quality.iqa_data import golden_picture, golden_rows, named_folder, official_values, picture
from tests.metrics.quality.iqa_golden import FIGURES, NAMES, as_batch, figures, golden_batch, golden_pixels

FLAT = ("I03", "I08")
"""Published pictures with 2 % of flat pixels."""
HEADER = (
    "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv {}\nrho -153.5\nprobA 5.7\nSV\n"
)


def model_text(count: int = 5, seed: int = 0) -> tuple[str, np.ndarray, np.ndarray]:
    """A libsvm text with its coefficients and vectors; zeros are left out, as libsvm does."""
    rng = np.random.default_rng(seed)
    vectors = np.round(rng.uniform(-1, 1, (count, BRISQUE_FEATURES)), 6)
    vectors[1, ::5] = 0
    coefficients = np.round(rng.uniform(-1024, 1024, count), 4)
    lines = [
        f"{a} " + " ".join(f"{i}:{v:g}" for i, v in enumerate(row, start=1) if v != 0) + " "
        for a, row in zip(coefficients, vectors, strict=True)
    ]
    return HEADER.format(count) + "\n".join(lines) + "\n", coefficients, vectors


def ranges_text(ranges: list[tuple[float, float]]) -> str:
    return "x\n-1 1\n" + "".join(
        f"{i} {low:.17g} {high:.17g}\n" for i, (low, high) in enumerate(ranges, start=1)
    )


@pytest.fixture
def small(tmp_path: Path) -> BrisqueModel:
    (tmp_path / "allmodel").write_text(model_text()[0])
    return read_brisque_model(tmp_path / "allmodel")


@pytest.mark.parametrize("name", NAMES)
def test_features_are_pinned(name: str) -> None:
    """Figures of the code that reproduced LIVE's published scores."""
    with (FIGURES.parent / "iqa_brisque_features.csv").open(newline="", encoding="utf-8") as file:
        rows = {row.pop("image"): [float(v) for v in row.values()] for row in csv.DictReader(file)}
    features = brisque_features(golden_batch(name))[0].tolist()
    assert features == pytest.approx(rows[name], abs=tolerance("iqa.plain"))


@pytest.mark.parametrize("name", ["A", "A_flat", "A_odd"])
def test_features_are_those_of_the_plain_implementation(name: str) -> None:
    features = brisque_features(golden_batch(name))[0].numpy()
    np.testing.assert_allclose(
        features, iqa_plain.brisque_features(golden_pixels(name)), rtol=0, atol=tolerance("iqa.plain")
    )


def test_small_odd_pictures_too() -> None:
    for height, width in ((17, 23), (9, 64), (33, 8)):
        pixels = golden_pixels("A_noise")[:height, :width]
        plain = iqa_plain.brisque_features(pixels)
        np.testing.assert_allclose(brisque_features(as_batch(pixels))[0].numpy(), plain, rtol=0, atol=1e-9)


def test_score_is_the_sum_over_support_vectors(small: BrisqueModel) -> None:
    _, coefficients, vectors = model_text()
    images = golden_batch("A", "A_dark")
    for score, features in zip(Brisque(small)(images), brisque_features(images).numpy(), strict=True):
        low, high = np.array(LIVE_RANGES).T
        scaled = -1 + 2 * (features - low) / (high - low)
        total = 153.5
        for coefficient, vector in zip(coefficients, vectors, strict=True):
            total += coefficient * math.exp(-0.05 * ((scaled - vector) ** 2).sum())
        assert score.value == pytest.approx(total, abs=tolerance("iqa.plain"))


def test_ranges_beside_the_model_are_read(tmp_path: Path) -> None:
    text = model_text()[0]
    other = [(low - 1, high + 2) for low, high in LIVE_RANGES]
    for model_name, range_name in (("allmodel", "allrange"), ("my_model", "my_range"), ("m", "ranges.txt")):
        folder = tmp_path / model_name
        folder.mkdir()
        (folder / model_name).write_text(text)
        (folder / "orange.png").write_text("a picture")
        assert read_brisque_model(folder / model_name).minimum.tolist() == [low for low, _ in LIVE_RANGES]
        (folder / range_name).write_text(ranges_text(other))
        model = read_brisque_model(folder / model_name)
        assert model.minimum.tolist() == [low for low, _ in other]
        assert model.maximum.tolist() == [high for _, high in other]
        assert model.origin == model_name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epsilon_svr", "c_svc", r"allmodel:1: svm_type is 'c_svc'; expected epsilon_svr"),
        ("rbf", "linear", r"allmodel:2: kernel_type is 'linear'; expected rbf"),
        ("gamma 0.05", "gamma wide", r"allmodel:3: 'wide'; expected a number after gamma"),
        ("rho -153.5\n", "", r"allmodel: rho not found above the line SV"),
        ("SV\n", "", r"allmodel: has no line SV"),
        ("total_sv 5", "total_sv 774", r"5 support vectors; its header says total_sv 774"),
        (" 36:", " 37:", r"allmodel:9: '37:.*'; expected 'coefficient 1:value"),
        (" 2:", " two:", r"allmodel:9: 'two:"),
        (" 3:", " 3:x", r"allmodel:9: 'x"),
        (" 4:", " 4:nan ", r"allmodel:9: 'nan'"),
    ],
)
def test_a_malformed_model_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = model_text()[0]
    assert old in text
    (tmp_path / "allmodel").write_text(text.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=message):
        read_brisque_model(tmp_path / "allmodel")


def test_malformed_ranges_are_refused(tmp_path: Path) -> None:
    (tmp_path / "allmodel").write_text(model_text()[0])
    good = ranges_text(list(LIVE_RANGES))
    lines = good.splitlines(keepends=True)
    for text, message in (
        (good.replace("-1 1", "0 1", 1), "allrange:1: expected svm-scale's ranges"),
        ("".join(lines[:-1]), "ranges of 35 features; expected 1 to 36"),
        (good.replace(lines[4], "3 wide\n"), "allrange:5: 'wide'"),
        (good.replace(lines[4], "3 2 1\n"), "allrange:5: '3 2 1'; expected 'index minimum maximum'"),
        ("", "allrange:1"),
    ):
        (tmp_path / "allrange").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            read_brisque_model(tmp_path / "allmodel")


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "allmodel").write_bytes(bytes(range(256)))
    for name in ("allmodel", "absent"):
        with pytest.raises(CheckpointError, match="cannot be read as a libsvm text") as caught:
            read_brisque_model(tmp_path / name)
        assert "deflow weights pull brisque" in caught.value.next_step


def test_uniform_images_are_refused_and_leave_others_alone(small: BrisqueModel) -> None:
    images = golden_batch("A", "A", "A")
    images[0], images[2] = 0, 128
    black, plain, gray = Brisque(small)(images)
    for score in (black, gray):
        assert math.isnan(score.value)
        assert score.reason == "320x256: too uniform or too small for BRISQUE's statistics"
    assert plain.value == pytest.approx(
        Brisque(small)(golden_batch("A"))[0].value, abs=tolerance("iqa.batch")
    )
    assert Brisque(small)(images[..., :1, :1])[1].reason


def test_batch_and_memory_layout_do_not_matter(small: BrisqueModel) -> None:
    images = golden_batch("A", "A_flat")
    strided = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for index, score in enumerate(Brisque(small)(images)):
        part = strided[index : index + 1]
        assert Brisque(small)(part)[0] == score
        together = brisque_features(images)[index].tolist()
        assert brisque_features(part)[0].tolist() == pytest.approx(together, abs=tolerance("iqa.batch"))


def test_wrong_input_is_refused(small: BrisqueModel) -> None:
    with pytest.raises(ShapeError):
        Brisque(small)(golden_batch("A").float())


@pytest.fixture
def live() -> BrisqueModel:
    return read_brisque_model(named_folder("DEFLOW_DATA") / "params" / "brisque_allmodel")


def test_lives_model_is_known_and_its_ranges_are_the_built_in(live: BrisqueModel) -> None:
    assert live.origin == "LIVE"
    assert live.vectors.shape == (774, 36)
    ranges = np.stack((live.minimum.numpy(), live.maximum.numpy()), axis=1)
    np.testing.assert_allclose(ranges, np.array(LIVE_RANGES), rtol=0, atol=1e-12)


def test_golden_figures(live: BrisqueModel) -> None:
    for name in NAMES:
        value = Brisque(live)(golden_batch(name))[0].value
        assert value == pytest.approx(float(figures()[name]["brisque"]), abs=tolerance("iqa.brisque")), name


def test_published_values(live: BrisqueModel) -> None:
    for row in official_values("brisque"):
        name = "iqa.official.brisque" + ("_flat" if Path(row["image"]).stem in FLAT else "")
        value = Brisque(live)(picture(row["image"]))[0].value
        assert value == pytest.approx(float(row["value"]), abs=tolerance(name)), row["image"]


def test_research_figures(live: BrisqueModel) -> None:
    for row in golden_rows("nr.csv"):
        value = Brisque(live)(golden_picture(row))[0].value
        assert value == pytest.approx(float(row["brisque_snap"]), abs=tolerance("iqa.brisque")), row["image"]
