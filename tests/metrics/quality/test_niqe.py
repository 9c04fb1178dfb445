"""NIQE against golden figures, a plain implementation and LIVE's values; its model files and its refusals."""

from __future__ import annotations

import hashlib
import math
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.io import loadmat, savemat

from deflow_cli.data.photos import packaged_photos
from deflow_cli.errors import CheckpointError, DataError, ShapeError
from deflow_cli.metrics.quality.niqe import Niqe, NiqeModel, niqe_features, read_niqe_model
from deflow_cli.paths import weights_folder
from tests.golden.tolerances import tolerance
from tests.metrics.quality import iqa_plain
from tests.metrics.quality.iqa_data import golden_picture, golden_rows, named_folder, official_values, picture
from tests.metrics.quality.iqa_golden import NAMES, as_batch, figures, golden_batch, golden_pixels
from tests.metrics.quality.niqe_fitting import fit_niqe_model

LIVE = weights_folder() / "niqe-live.safetensors"
FLAT = ("I03", "I08")
"""Published pictures with 2 % of flat pixels."""


@pytest.fixture(scope="module")
def model() -> NiqeModel:
    return read_niqe_model(LIVE)


@pytest.mark.parametrize("name", NAMES)
def test_golden_figures(name: str, model: NiqeModel) -> None:
    row, images = figures()[name], golden_batch(name)
    score = Niqe(model)(images)[0]
    assert score.value == pytest.approx(float(row["niqe"]), abs=tolerance("iqa.niqe"))
    features, _ = niqe_features(images)
    assert features.shape[1:] == (int(row["niqe_blocks"]), 36)
    assert int(features[0].isnan().any(dim=1).sum()) == int(row["niqe_nan_blocks"])


@pytest.mark.parametrize("name", ["A", "A_flat", "A_odd"])
def test_features_are_those_of_the_plain_implementation(name: str, model: NiqeModel) -> None:
    features, sharpness = niqe_features(golden_batch(name))
    plain, plain_sharpness = iqa_plain.niqe_features(golden_pixels(name))
    np.testing.assert_allclose(
        features[0].numpy(), plain, rtol=0, atol=tolerance("iqa.plain"), equal_nan=True
    )
    np.testing.assert_allclose(sharpness[0].numpy(), plain_sharpness, rtol=0, atol=1e-5)  # sqrt of noise
    score = iqa_plain.niqe(golden_pixels(name), model.mean.numpy(), model.covariance.numpy())
    assert Niqe(model)(golden_batch(name))[0].value == pytest.approx(score, abs=tolerance("iqa.plain"))


def test_batch_and_memory_layout_do_not_matter(model: NiqeModel) -> None:
    images = golden_batch("A", "A_flat", "A_dark")
    together = Niqe(model)(images)
    strided = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    features, _ = niqe_features(images)
    for index, score in enumerate(together):
        part = strided[index : index + 1]
        assert Niqe(model)(part)[0] == score
        close = partial(torch.testing.assert_close, rtol=0, atol=tolerance("iqa.batch"), equal_nan=True)
        close(niqe_features(part)[0][0], features[index])


def test_what_is_beyond_the_last_whole_block_does_not_matter(model: NiqeModel) -> None:
    images = golden_batch("A")
    other = images.clone()
    other[..., 192:, :], other[..., 288:] = 0, 255
    assert Niqe(model)(images) == Niqe(model)(other)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((97, 97), "97x97: NIQE needs at least two whole blocks of 96 px"),
        ((95, 400), "400x95: NIQE needs at least two whole blocks of 96 px"),
        ((1, 1), "1x1: NIQE needs at least two whole blocks of 96 px"),
    ],
)
def test_small_images_are_refused(size: tuple[int, int], reason: str, model: NiqeModel) -> None:
    scores = Niqe(model)(torch.zeros(2, 3, *size, dtype=torch.uint8))
    assert [score.reason for score in scores] == [reason] * 2
    assert all(math.isnan(score.value) for score in scores)


def test_uniform_images_and_single_textures_are_refused(model: NiqeModel) -> None:
    images = torch.full((2, 3, 192, 192), 90, dtype=torch.uint8)
    images[1, :, 16:80, 16:80] = golden_batch("A")[0, :, 16:80, 16:80]
    uniform, single = Niqe(model)(images)
    assert math.isnan(uniform.value)
    assert uniform.reason == "0 of 4 blocks of 96 px have texture: NIQE needs two"
    assert math.isnan(single.value)
    assert single.reason == "1 of 4 blocks of 96 px have texture: NIQE needs two"


def test_a_bad_picture_leaves_its_neighbours_alone(model: NiqeModel) -> None:
    images = golden_batch("A", "A")
    images[0] = 17
    bad, good = Niqe(model)(images)
    assert bad.reason
    assert good.value == pytest.approx(float(figures()["A"]["niqe"]), abs=tolerance("iqa.niqe"))


def test_wrong_input_is_refused(model: NiqeModel) -> None:
    with pytest.raises(ShapeError):
        Niqe(model)(golden_batch("A").float())


def test_packaged_figures_match_manifest_card_and_notice() -> None:
    manifest = tomllib.loads((LIVE.parent / "manifest.toml").read_text("utf-8"))
    (entry,) = [e for e in manifest["file"] if e["path"] == LIVE.name]
    digest = hashlib.sha256(LIVE.read_bytes()).hexdigest()
    card = (LIVE.parent / entry["card"]).read_text("utf-8")
    assert entry["sha256"] == digest
    assert entry["bytes"] == LIVE.stat().st_size
    assert digest in card
    with safe_open(LIVE, framework="pt") as file:
        metadata = str(file.metadata())
    for text in (card, metadata):
        assert "The University of Texas at Austin" in text
        assert "COPYRIGHT NOTICE ENDS WITH THIS LINE" in text


def test_every_kind_of_file_gives_the_same_model(tmp_path: Path, model: NiqeModel) -> None:
    mean, covariance = model.mean.numpy()[None], model.covariance.numpy()
    savemat(tmp_path / "a.mat", {"mu_prisparam": mean, "cov_prisparam": covariance})
    np.savez(tmp_path / "b.npz", mu_pris_param=mean, cov_pris_param=covariance, gaussian_window=np.ones(7))
    save_file({"mean": model.mean, "covariance": model.covariance}, tmp_path / "c.safetensors")
    for name in ("a.mat", "b.npz", "c.safetensors"):
        read = read_niqe_model(tmp_path / name)
        assert torch.equal(read.mean, model.mean)
        assert torch.equal(read.covariance, model.covariance)
        assert read.origin == name
        assert name in Niqe(read).metric.variant
    assert model.origin == "LIVE"


def test_broken_files_are_refused(tmp_path: Path, model: NiqeModel) -> None:
    lopsided = model.covariance.clone()
    lopsided[0, 1] += 1
    broken = {
        "other": ({"weight": model.mean}, "holds weight; expected mean and covariance"),
        "short": ({"mean": model.mean[:20], "covariance": model.covariance}, "mean of 20"),
        "nan": ({"mean": model.mean * math.nan, "covariance": model.covariance}, "not finite"),
        "lopsided": ({"mean": model.mean, "covariance": lopsided}, "not symmetric"),
    }
    for name, (tensors, message) in broken.items():
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path)
        with pytest.raises(CheckpointError, match=message) as caught:
            read_niqe_model(path)
        assert str(path) in str(caught.value)
    for name in ("text.mat", "text.npz", "text.safetensors"):
        (tmp_path / name).write_text("no model")
        with pytest.raises(CheckpointError, match="cannot be read as a NIQE model"):
            read_niqe_model(tmp_path / name)
    with pytest.raises(CheckpointError, match="no such NIQE model"):
        read_niqe_model(tmp_path / "absent.mat")


def test_own_model_is_the_mean_and_covariance_of_sharp_blocks() -> None:
    names = ("A", "B", "A_flat")
    own = fit_niqe_model(golden_batch(name) for name in names)
    kept = []
    for name in names:
        features, sharpness = iqa_plain.niqe_features(golden_pixels(name))
        kept.append(features[sharpness > 0.75 * sharpness.max()])
    pooled = np.concatenate(kept)
    assert len(pooled) < sum(int(figures()[name]["niqe_blocks"]) for name in names)
    whole = pooled[~np.isnan(pooled).any(axis=1)]
    np.testing.assert_allclose(own.mean.numpy(), np.nanmean(pooled, axis=0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(own.covariance.numpy(), np.cov(whole, rowvar=False), rtol=0, atol=1e-9)
    assert own.origin == "own"
    with pytest.raises(DataError, match="at least two"):
        fit_niqe_model(
            [torch.zeros(1, 3, 96, 96, dtype=torch.uint8), torch.zeros(1, 3, 9, 9, dtype=torch.uint8)]
        )


def test_noise_makes_photographs_worse(model: NiqeModel) -> None:
    from PIL import Image

    with Image.open(packaged_photos()[0][0]) as file:
        photo = as_batch(np.asarray(file.convert("RGB"))[:192, :288])
    noise = torch.randint(-40, 41, photo.shape, generator=torch.Generator().manual_seed(0))
    noisy = (photo.long() + noise).clamp(0, 255).to(torch.uint8)
    clean_score, noisy_score = Niqe(model)(torch.cat((photo, noisy)))
    assert noisy_score.value > clean_score.value + 1


def test_published_values(model: NiqeModel) -> None:
    for row in official_values("niqe"):
        name = "iqa.official.niqe" + ("_flat" if Path(row["image"]).stem in FLAT else "")
        value = Niqe(model)(picture(row["image"]))[0].value
        assert value == pytest.approx(float(row["value"]), abs=tolerance(name)), row["image"]


def test_shipped_figures_are_lives() -> None:
    shipped = read_niqe_model(LIVE)
    params = named_folder("DEFLOW_DATA") / "params"
    published = loadmat(params / "niqe_modelparameters.mat")
    assert np.array_equal(shipped.mean.numpy(), published["mu_prisparam"].ravel())
    assert np.array_equal(shipped.covariance.numpy(), published["cov_prisparam"])
    readme = (params / "niqe_readme.txt").read_text("utf-8")
    notice = readme[readme.index("-----------COPYRIGHT") : readme.index("%\n\nAuthor")]
    assert notice in (LIVE.parent / "niqe-live.md").read_text("utf-8")


def test_research_figures(model: NiqeModel) -> None:
    for row in golden_rows("nr.csv"):
        value = Niqe(model)(golden_picture(row))[0].value
        assert value == pytest.approx(float(row["niqe_gray_snap"]), abs=tolerance("iqa.niqe")), row["image"]
