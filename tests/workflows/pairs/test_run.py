"""A run of make-pairs: the same bits however they came about, and what a dry run says."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal

import numpy as np
import pytest

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.pairs.formats import FORMATS, open_pairs
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.workflows.pairs import run as workflow
from tests.inference.small import small_model
from tests.listening import Listener
from tests.workflows.pairs.asking import NONE, ask, choices, files, rows, save


@pytest.mark.parametrize("kind", FORMATS)
def test_workers_do_not_change_a_bit(hr, tmp_path, model_path, kind):
    for workers in (1, 3):
        ask(hr, tmp_path / str(workers), model_path, workers=workers, crop=40, variants=2, format=kind)
    assert files(tmp_path / "1") == files(tmp_path / "3")


def test_another_seed_is_another_data_set(hr, tmp_path, model_path):
    for seed in (0, 1):
        ask(hr, tmp_path / str(seed), model_path, seed=seed)
    zero, one = open_pairs(tmp_path / "0"), open_pairs(tmp_path / "1")
    assert all(
        np.array_equal(a.gt, b.gt) and not np.array_equal(a.lq, b.lq) for a, b in zip(zero, one, strict=True)
    )


def interrupted(monkeypatch, after, action):
    """Let the making of pairs end after so many images."""
    count = iter(range(100))
    genuine = workflow.PairMaker.__call__

    def make(self, planned):
        if next(count) == after:
            action()
        return genuine(self, planned)

    monkeypatch.setattr(workflow.PairMaker, "__call__", make)


def press_ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", FORMATS)
def test_interrupted_and_run_again_it_continues_to_the_same_bytes(
    hr, tmp_path, model_path, monkeypatch, kind
):
    options = {"crop": 40, "format": kind, "workers": 1, "variants": 2}
    ask(hr, tmp_path / "whole", model_path, **options)
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        interrupted(patched, 5, press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            ask(hr, out, model_path, **options)
    assert (out / "deflow.partial.json").is_file()
    assert not (out / "deflow.json").exists()
    with pytest.raises(DataError, match="has not finished"):
        open_pairs(out)
    if kind == "folders":
        for side in ("gt", "lq"):  # no file there that is no image
            assert all(re.fullmatch(r"[\dvs_]+\.png", path.name) for path in (out / side).iterdir())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    report = ask(hr, out, model_path, **options)
    assert report.written < report.pairs or kind == "webdataset"
    assert files(out) == files(tmp_path / "whole")
    if kind == "folders":
        assert before
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    again = ask(hr, out, model_path, **options)
    assert again.written == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_killed_and_run_again_it_continues_to_the_same_bytes(hr, tmp_path, model_path, monkeypatch, kind):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork on this system")
    ask(hr, tmp_path / "whole", model_path, format=kind)

    def be_killed():
        interrupted(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
        ask(hr, tmp_path / "out", model_path, format=kind, workers=1)

    process = multiprocessing.get_context("fork").Process(target=be_killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "out/deflow.partial.json").is_file()
    ask(hr, tmp_path / "out", model_path, format=kind)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("name", ["deflow", "white-noise", "spectral", "noise-patches", "none"])
def test_the_manifest_makes_the_same_data_set(hr, tmp_path, model_path, noisy, kernels, name):
    choice = choices(model_path, noisy)[name]
    if name == "spectral":  # small pictures of HR are below the 64 px that a spectrum takes
        assert ask(hr, tmp_path / "x", choice=choice, scale=1, dry_run=True).pairs == 4
    options = {"crop": 40, "variants": 2, "temperature": (0.7, 1.3), "seed": 3, "format": "webdataset"}
    ask(hr, tmp_path / "one", choice=choice, kernels=kernels, **options)
    (hr / "zz.png").write_bytes((hr / "a.png").read_bytes())  # not of the manifest
    places = DegraderChoice(**{k: v for k, v in choice.options.items() if k in ("model", "noisy", "clean")})
    ask(
        hr, tmp_path / "two", choice=places, kernels=kernels, manifest=tmp_path / "one/deflow.json", workers=1
    )
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_manifest_is_for_its_own_images_model_folders_and_kernels(hr, tmp_path, model_path, noisy, kernels):
    ask(hr, tmp_path / "one", model_path, kernels=kernels)
    manifest = tmp_path / "one/deflow.json"
    other = tmp_path / "other.safetensors"
    save_model(other, small_model(), {"step": 2})
    with pytest.raises(DataError, match=r"other\.safetensors: not the manifest's model small"):
        ask(hr, tmp_path / "two", other, kernels=kernels, manifest=manifest)
    with pytest.raises(ConfigError, match="blur kernels"):
        ask(hr, tmp_path / "two", model_path, manifest=manifest)
    np.save(kernels / "2.npy", np.ones((3, 3)))
    with pytest.raises(DataError, match="not the manifest's kernels"):
        ask(hr, tmp_path / "two", model_path, kernels=kernels, manifest=manifest)
    save(hr / "a.png", np.zeros((70, 70, 3), np.uint8))
    (hr / "b x4.png").unlink()
    with pytest.raises(DataError, match=r"a\.png has another content, b x4\.png is missing"):
        ask(hr, tmp_path / "two", model_path, kernels=kernels, manifest=manifest)
    patchy = choices(model_path, noisy)["noise-patches"]
    ask(hr, tmp_path / "three", choice=patchy)
    save(noisy / "0.png", np.full((90, 90, 3), 7, np.uint8))
    with pytest.raises(DataError, match="noisy pictures are not those"):
        ask(hr, tmp_path / "four", choice=patchy, manifest=tmp_path / "three/deflow.json")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(DataError, match=r"no\.json: not a manifest of pairs"):
        ask(hr, tmp_path / "four", model_path, manifest=tmp_path / "no.json")
    assert not (tmp_path / "two").exists()
    assert not (tmp_path / "four").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_dry_run_tells_and_writes_nothing(hr, tmp_path, model_path, kind):
    options = {"crop": 40, "variants": 2, "format": kind}
    report = ask(hr, tmp_path / "out", model_path, dry_run=True, **options)
    assert not (tmp_path / "out").exists()
    assert (report.images, report.pairs, report.written) == (4, 78, 0)
    assert (report.gt_sizes, report.lq_sizes) == (((40, 40), (40, 40)), ((20, 20), (20, 20)))
    assert report.estimate.seconds > 0
    assert report.estimate.free > 0
    ask(hr, tmp_path / "out", model_path, **options)
    found = open_pairs(tmp_path / "out")
    size = sum(len(part) for index in range(len(found)) for part in found.encoded(index))
    assert report.estimate.bytes == pytest.approx(size, rel=0.2)


def test_a_dry_run_tells_what_is_in_the_way(hr, tmp_path, model_path):
    ask(hr, tmp_path / "out", choice=NONE)
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match="made otherwise: scale 2 there, now 4") as caught:
        ask(hr, tmp_path / "out", choice=NONE, dry_run=True, scale=4)
    assert "--overwrite" in caught.value.next_step
    ask(hr, tmp_path / "out", choice=NONE, dry_run=True, scale=4, overwrite=True)
    assert files(tmp_path / "out") == before
    with pytest.raises(DataError, match=r'made otherwise: degrader "none" there, now "deflow"$'):
        ask(hr, tmp_path / "out", model_path, dry_run=True)
    save(tmp_path / "file.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"file\.png: is a file"):
        ask(hr, tmp_path / "file.png", choice=NONE, dry_run=True)


@pytest.mark.parametrize("kind", FORMATS)
def test_names_that_are_not_utf8_are_kept(hr, tmp_path, kind):
    name = os.fsdecode(b"caf\xe9.png")
    (hr / "a.png").rename(hr / name)
    ask(hr, tmp_path / "out", choice=NONE, format=kind)
    manifest = json.loads((tmp_path / "out/deflow.json").read_text("utf-8"))
    assert name in [image["key"] for image in manifest["images"]]
    listener = Listener()
    ask(hr, tmp_path / "out", choice=NONE, format=kind, reporter=listener)
    assert any("complete already" in note for note in listener.notes)
    ask(hr, tmp_path / "again", manifest=tmp_path / "out/deflow.json")
    assert files(tmp_path / "again") == files(tmp_path / "out")
    # loaders of data sets refuse a text that is not UTF-8
    assert "caf\\xe9.png" in [row["source"] for row in rows(tmp_path / "out")]


def test_links_make_no_second_pair_of_a_picture(hr, tmp_path):
    (hr / "self").symlink_to(".")
    (hr / "sub/twin.png").symlink_to("../a.png")
    listener = Listener()
    report = ask(hr, tmp_path / "out", choice=NONE, reporter=listener)
    assert report.images == 4
    assert [text for text in listener.warnings if "further names" in text] == [
        f"{hr}: left out, further names of files that are used already (1): sub/twin.png"
    ]
