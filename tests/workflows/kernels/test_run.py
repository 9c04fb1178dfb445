"""`deflow kernels`, end to end: files, list, what goes on and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deflow_cli.config.kernels import KernelSettings
from deflow_cli.data.blur.kernels import BlurKernel, blur_and_downsample, load_kernels
from deflow_cli.data.blur.pools import read_pool
from deflow_cli.data.blur.shapes import bicubic_kernel, centre_of_mass, gaussian_kernel, kernel_covariance
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.photos import packaged_photos
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.kernels.methods import KernelGANFinder
from deflow_cli.workflows.kernels.run import KernelsRequest, estimate_kernels

COVARIANCE = np.array([[2.0, -1.2], [-1.2, 3.5]])


class Listener(Silent):
    def __init__(self):
        self.updates = []

    def update(self, done, **fields):
        self.updates.append((done, fields))


@pytest.fixture(scope="module")
def blurred():
    kernel = BlurKernel("k", "", gaussian_kernel(COVARIANCE, 17, 0.5))
    photos = [read_rgb8(path) for path in packaged_photos()[0][:2]]
    return [blur_and_downsample(photo, kernel, 2, sampling="direct") for photo in photos]


@pytest.fixture
def noisy(tmp_path, blurred):
    for index, pixels in enumerate(blurred):
        write_image(tmp_path / "noisy" / "sub" / f"{index}.png", Image(pixels))
    return tmp_path / "noisy"


def ask(noisy, out, reporter=None, **settings):
    options = {name: settings.pop(name) for name in ("limit", "batch") if name in settings}
    request = KernelsRequest(noisy, out, KernelSettings(**settings), device="cpu", **options)
    return estimate_kernels(request, reporter or Silent())


def test_files_and_list(noisy, tmp_path):
    out = tmp_path / "out"
    report = ask(noisy, out)
    assert not report.failed
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "contact-sheet.png",
        "kernels.json",
        *(f"sub/{index}.{ending}" for index in (0, 1) for ending in ("npy", "png")),
    ]
    pool = read_pool(out)
    assert pool.settings == KernelSettings()
    assert list(pool.records) == report.records
    assert [record.image for record in pool.records] == ["sub/0.png", "sub/1.png"]
    for record in pool.records:
        assert np.abs(np.array(record.covariance) - COVARIANCE).max() < 1
        assert record.narrow < record.wide
        assert f"{record.narrow:.2f} x {record.wide:.2f} px" in record.sharpness
        assert 0 <= record.contrast[1] < record.contrast[0] < 1


@pytest.mark.parametrize(("scale", "wider"), [(2, 1), (4, 4)])
def test_kernels_are_read_by_make_pairs(noisy, tmp_path, scale, wider):
    ask(noisy, tmp_path / "out", scale=scale, limit=1)
    (kernel,) = load_kernels(tmp_path / "out")
    assert kernel.weights.sum() == pytest.approx(1)
    assert kernel.displacement == pytest.approx(((scale - 1) / 2,) * 2, abs=0.01)
    record = read_pool(tmp_path / "out").records[0]
    assert np.abs(np.array(record.covariance) - wider * COVARIANCE).max() < wider


def test_bad_pictures_are_named_and_the_others_done(noisy, tmp_path):
    write_image(noisy / "a-flat.png", Image(np.full((120, 120, 3), 90, np.uint8)))
    write_image(
        noisy / "b-small.png", Image(np.random.default_rng(0).integers(0, 255, (50, 200, 3), np.uint8))
    )
    (noisy / "c-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for method, out in (("spectrum", "s"), ("kernelgan", "k")):
        report = ask(noisy, tmp_path / out, method=method, iterations=1)
        reasons = {path.name: reason for path, reason in report.failed}
        assert set(reasons) == {"a-flat.png", "b-small.png", "c-broken.png"}
        assert "no detail" in reasons["a-flat.png"]
        assert "200x50 is too small: a side of 96 px" in reasons["b-small.png"]
        assert len(report.records) == 2
        assert dict(read_pool(tmp_path / out).failed).keys() == reasons.keys()


def test_what_is_there_is_kept(noisy, tmp_path):
    out = tmp_path / "out"
    first = ask(noisy, out, limit=1)
    content = (out / "sub/0.npy").read_bytes()
    again = ask(noisy, out)
    assert [record.image for record in again.kept] == ["sub/0.png"]
    assert [record.image for record in again.records] == ["sub/1.png"]
    assert again.kept == first.records
    assert (out / "sub/0.npy").read_bytes() == content
    (out / "sub/0.npy").unlink()
    assert [record.image for record in ask(noisy, out).records] == ["sub/0.png"]
    assert (out / "sub/0.npy").read_bytes() == content


def test_a_changed_picture_is_done_again_and_a_lost_one_has_no_kernel(noisy, tmp_path, blurred):
    out = tmp_path / "out"
    ask(noisy, out)
    write_image(noisy / "sub/0.png", Image(np.ascontiguousarray(np.rot90(blurred[0]))))
    (noisy / "sub/1.png").write_bytes(b"nothing")
    report = ask(noisy, out)
    assert [record.image for record in report.records] == ["sub/0.png"]
    assert [record.image for record in read_pool(out).records] == ["sub/0.png"]
    assert [kernel.file for kernel in load_kernels(out)] == ["sub/0.npy"]


def test_names_that_would_meet_keep_their_suffix(noisy, tmp_path, blurred):
    write_image(noisy / "sub/0.jpg", Image(blurred[0]))
    write_image(noisy / "contact-sheet.png", Image(blurred[1]))
    report = ask(noisy, tmp_path / "out")
    assert [record.file for record in report.records] == [
        "contact-sheet.png.npy",
        "sub/0.jpg.npy",
        "sub/0.png.npy",
        "sub/1.npy",
    ]


def test_other_settings_need_another_folder(noisy, tmp_path):
    out = tmp_path / "out"
    ask(noisy, out, limit=1)
    with pytest.raises(DataError, match=r"other settings \(spectrum, x2; now spectrum, x4\)"):
        ask(noisy, out, scale=4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(DataError, match=r"no pool of kernels: thesis\.txt"):
        ask(noisy, tmp_path / "mine")
    (out / "kernels.json").write_text("{}")
    with pytest.raises(DataError, match=r"kernels\.json: not a list of kernels"):
        ask(noisy, out)


def test_a_list_that_points_outside_is_refused(noisy, tmp_path):
    ask(noisy, tmp_path / "out", limit=1)
    path = tmp_path / "out" / "kernels.json"
    content = json.loads(path.read_text())
    content["kernels"][0]["file"] = "../thesis.npy"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="outside the folder"):
        ask(noisy, tmp_path / "out")


def test_impossible_settings():
    with pytest.raises(ConfigError, match="kernel scale 3"):
        KernelSettings(scale=3)
    with pytest.raises(ConfigError, match="kernel method 'magic'"):
        KernelSettings(method="magic")
    with pytest.raises(ConfigError, match="batch 0"):
        KernelsRequest("a", "b", batch=0)


def test_kernelgan_recovers_better_than_bicubic(noisy, tmp_path):
    """A short training: the error of its covariance is below that of a bicubic kernel."""
    torch.set_num_threads(1)
    listener = Listener()
    report = ask(noisy, tmp_path / "out", listener, method="kernelgan", iterations=250, limit=1)
    (record,) = report.records
    null = np.linalg.norm(kernel_covariance(bicubic_kernel(13)) - COVARIANCE)
    assert np.linalg.norm(np.array(record.covariance) - COVARIANCE) < 0.9 * null
    assert 0.8 < record.found["raw_sum"] < 1.2
    (kernel,) = load_kernels(tmp_path / "out")
    np.testing.assert_allclose(centre_of_mass(kernel.weights) - kernel.weights.shape[0] // 2, 0.5, atol=0.1)
    assert {"training": "100%", "failed": 0} in [fields for _, fields in listener.updates]


def test_kernelgan_is_the_same_again(noisy, tmp_path):
    """Whatever the number of threads, which is as it was afterwards."""
    before = torch.get_num_threads()
    try:
        for threads, out in enumerate(("one", "two"), start=1):
            torch.set_num_threads(threads)
            ask(noisy, tmp_path / out, method="kernelgan", iterations=3, limit=1)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    ask(noisy, tmp_path / "three", method="kernelgan", iterations=3, limit=1, seed=1)
    one, two, three = ((tmp_path / out / "sub/0.npy").read_bytes() for out in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_a_kernel_without_weights_is_no_kernel():
    finder = KernelGANFinder(2, 1, 0, torch.device("cpu"))
    assert "came to no kernel" in str(finder._finished(-np.ones((13, 13)), 0.5, 0.5))
    assert "diverged" in str(finder._finished(np.full((13, 13), np.nan), 0.5, 0.5))
