"""Realism: folders in, figures and sentences out; partners, samples, floors, files."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from deflow_cli.cli.console import plain
from deflow_cli.data.folder_sample import centre
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.realism.data import clean_index, load_set
from deflow_cli.workflows.realism.run import RealismRequest, measure_realism, unique_names

SIDE = 128


class Recorder(Silent):
    """Keeps what was said."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)

    def warn(self, text):
        self.said.append(text)


def scene(number, side=SIDE):
    """A smooth picture with flat parts and edges, none near black or white."""
    random = np.random.default_rng(number)
    coarse = random.uniform(60, 190, (5, 5, 3))
    picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    corner = random.integers(10, side // 2, 2)
    picture[corner[0] :, corner[1] :] += 15
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def noisy(clean, seed, sigma=6.0):
    noise = np.random.default_rng(seed).normal(0, sigma, clean.shape)
    return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """real/ with noise 6 over clean/; right/ and weak/ with two samples of each clean picture."""
    root = tmp_path_factory.mktemp("realism")
    for number in range(8):
        clean, name = scene(number), f"p{number}"
        save(root / "clean" / f"{name}.png", clean)
        save(root / "real" / f"{name}.png", noisy(clean, 100 + number))
        for sample in (1, 2):
            seed = 1000 * sample + number
            save(root / "right" / f"{name}_s{sample:02d}.png", noisy(clean, seed))
            save(root / "weak" / f"{name}_s{sample:02d}.png", noisy(clean, seed, 3.0))
    return root


@pytest.fixture(scope="module")
def report(folders):
    request = RealismRequest(
        folders / "real",
        (folders / "right", folders / "weak"),
        (folders / "clean",),
        quick=True,
        html=folders / "out" / "page.html",
        csv=folders / "out" / "images.csv",
    )
    return measure_realism(request, Silent())


def figure(report, which, name, section=None):
    rows = report.figures()[which]
    found = [row for row in rows if row.name == name and section in (None, row.section)]
    assert len(found) == 1, (name, len(found))
    return found[0]


def test_the_same_law_is_at_its_floors_and_the_weak_one_is_not(report):
    right, weak = report.assessments
    assert right.same_scenes
    assert not [f for f in right.findings if f.severity in ("bad", "warn")]
    assert any(f.subject == "level" and f.severity == "bad" for f in weak.findings)
    assert figure(report, 0, "std", "residuals").value == pytest.approx(6.0, rel=0.03)
    assert figure(report, 1, "std", "residuals").value == pytest.approx(3.0, rel=0.03)
    akld = figure(report, 0, "AKLD")
    assert akld.value == pytest.approx(akld.reference, rel=0.1)
    assert figure(report, 1, "AKLD").value > 2 * akld.value
    assert figure(report, 1, "KL of histograms", "residuals").value > 0.1
    assert figure(report, 0, "KL of histograms", "residuals").value < 0.01


def test_samples_are_grouped_and_independent(report):
    right = report.assessments[0]
    assert [len(image.samples) for image in right.images.images] == [2] * 8
    assert figure(report, 0, "averaging leaves").value == pytest.approx(0.5, abs=0.02)
    assert figure(report, 0, "samples correlate").value < figure(report, 0, "samples correlate").reference


def test_every_distance_has_its_floor_beside_it(report):
    for section in ("residuals", "flat patches"):
        for name in ("KL of histograms", "autocorrelation", "spectrum"):
            row = figure(report, 0, name, section)
            assert row.against == "real halves"
            assert row.reference > 0
    row = figure(report, 0, "a small CNN")
    assert row.against == "real halves"
    assert row.low <= row.value <= row.high


def test_the_dictionary_is_plain_and_tells_the_sets(report):
    document = json.loads(json.dumps(plain(report.as_dict())))
    assert document["real"] == {"name": "real", "images": 8, "of": 8, "with_clean": 8, "samples": 1}
    assert [found["name"] for found in document["synthetic"]] == ["right", "weak"]
    assert document["synthetic"][1]["findings"][0]["sentence"]


def test_the_page_and_the_table_per_image_are_written(report, folders):
    page = (folders / "out" / "page.html").read_text(encoding="utf-8")
    assert "How real is this degradation?" in page
    assert str(folders) not in page
    for finding in report.assessments[1].findings:
        assert finding.sentence.split(":")[0] in page
    rows = list(csv.DictReader((folders / "out" / "images.csv").open(encoding="utf-8")))
    stds = [float(r["value"]) for r in rows if r["set"] == "weak" and r["figure"] == "std"]
    assert np.mean(stds) == pytest.approx(3.0, rel=0.03)
    assert {r["figure"] for r in rows if r["set"] == "right"} >= {"akld", "kl_naf", "told_as_synthetic"}
    assert {p.name for p in (folders / "out").iterdir()} == {"page.html", "images.csv"}


def test_without_partners_flat_patches_are_compared_and_it_is_said(folders):
    recorder = Recorder()
    request = RealismRequest(folders / "real", (folders / "weak",), quick=True)
    report = measure_realism(request, recorder)
    assert not report.assessments[0].residual
    assert figure(report, 0, "std", "flat patches").value < figure(report, 0, "std", "flat patches").reference
    assert any(f.subject == "level" and f.severity == "bad" for f in report.assessments[0].findings)
    assert any("no clean partners" in line for line in recorder.said)


def test_few_pictures_are_told_and_not_measured(folders, tmp_path):
    save(tmp_path / "one" / "p0.png", noisy(scene(0), 7))
    request = RealismRequest(folders / "real", (tmp_path / "one",), (folders / "clean",), quick=True)
    found = measure_realism(request, Silent()).assessments[0]
    assert found.kid is None
    assert found.two_sample is None
    assert any("KID" in line for line in found.left_out)
    assert any("--samples" in line for line in found.left_out)
    assert found.residual["std_fake"] == pytest.approx(6.0, rel=0.1)


def test_a_partner_of_another_scene_or_size_is_refused(tmp_path):
    recorder = Recorder()
    save(tmp_path / "noisy" / "a.png", noisy(scene(1), 1))
    save(tmp_path / "noisy" / "b.png", noisy(scene(2), 2))
    save(tmp_path / "clean" / "a.png", 255 - scene(1))
    save(tmp_path / "clean" / "b.png", scene(2, 160))
    loaded = load_set(tmp_path / "noisy", clean_index([tmp_path / "clean"]), recorder)
    assert [image.clean for image in loaded.images] == [None, None]
    assert any("does not show" in line for line in recorder.said)
    assert any("another size" in line for line in recorder.said)


def test_of_two_partners_the_one_that_shows_the_same_is_taken(tmp_path):
    save(tmp_path / "noisy" / "a.png", noisy(scene(1), 1))
    save(tmp_path / "x" / "a.png", scene(5))
    save(tmp_path / "y" / "a.png", scene(1))
    loaded = load_set(tmp_path / "noisy", clean_index([tmp_path / "x", tmp_path / "y"]), Silent())
    assert np.array_equal(loaded.images[0].clean, scene(1))


def test_crops_of_a_data_set_are_not_samples(tmp_path):
    for number in (1, 2):
        save(tmp_path / "clean" / f"a_s{number:03d}.png", scene(number))
        save(tmp_path / "noisy" / f"a_s{number:03d}.png", noisy(scene(number), number))
    loaded = load_set(tmp_path / "noisy", clean_index([tmp_path / "clean"]), Silent(), samples=True)
    assert [image.name for image in loaded.images] == ["a_s001", "a_s002"]


def test_broken_and_small_pictures_are_named_and_left_out(tmp_path):
    recorder = Recorder()
    save(tmp_path / "noisy" / "good.png", noisy(scene(1), 1))
    save(tmp_path / "noisy" / "tiny.png", noisy(scene(1), 1)[:40, :40])
    (tmp_path / "noisy" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    loaded = load_set(tmp_path / "noisy", {}, recorder)
    assert [image.name for image in loaded.images] == ["good"]
    assert any("tiny.png" in line for line in recorder.said)
    assert any("broken.png" in line for line in recorder.said)


def test_empty_and_missing_folders_are_errors(tmp_path, folders):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        measure_realism(RealismRequest(tmp_path / "empty", (folders / "weak",)), Silent())
    with pytest.raises(DataError, match="nowhere"):
        measure_realism(RealismRequest(folders / "real", (tmp_path / "nowhere",)), Silent())
    with pytest.raises(DataError, match="empty"):
        measure_realism(
            RealismRequest(folders / "real", (folders / "weak",), (tmp_path / "empty",)), Silent()
        )


def test_a_window_stays_on_the_grid_of_jpeg_blocks():
    pixels = np.arange(1000 * 1203, dtype=np.uint32).reshape(1000, 1203, 1).repeat(3, 2)
    top, left = divmod(int(centre(pixels)[0, 0, 0]), 1203)
    assert (top % 8, left % 8) == (0, 0)
    assert centre(pixels).shape == (768, 768, 3)
    assert abs((1000 - 768) / 2 - top) <= 8


def test_equal_folder_names_are_told_apart(tmp_path):
    assert unique_names((tmp_path / "a" / "out", tmp_path / "b" / "out", tmp_path / "c")) == [
        "a/out",
        "b/out",
        "c",
    ]
