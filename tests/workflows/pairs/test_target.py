"""The folder of a data set: nothing of others is lost, and one run writes at a time."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from deflow_cli.data.pairs.formats import FORMATS, open_pairs
from deflow_cli.errors import DataError
from deflow_cli.workflows.pairs import run as pairs_run
from deflow_cli.workflows.pairs.target import alone
from tests.listening import Listener
from tests.test_paths import left_by_a_killed_process
from tests.workflows.pairs.asking import NONE, ask, files, save


def test_another_request_into_the_same_folder_is_refused_and_told_apart(hr, tmp_path, model_path):
    out = tmp_path / "out"
    ask(hr, out, model_path)
    before = files(out)
    with pytest.raises(
        DataError, match=r"seed 0 there, now 5, .*scale 2 there|scale 2 there, now 4, seed"
    ) as caught:
        ask(hr, out, model_path, scale=4, seed=5)
    assert "--overwrite" in caught.value.next_step
    (hr / "c.png").write_bytes((hr / "a.png").read_bytes())
    with pytest.raises(DataError, match="the images of HR"):
        ask(hr, out, model_path)
    assert files(out) == before
    report = ask(hr, out, model_path, scale=4, format="lmdb", overwrite=True)
    assert report.written == 5
    assert not (out / "gt").exists()
    assert open_pairs(out).scale == 4


def test_files_of_others_are_never_touched(hr, tmp_path, model_path):
    out = tmp_path / "out"
    save(out / "gt/0000001.png", np.zeros((8, 8, 3), np.uint8))
    for overwrite in (False, True):
        with pytest.raises(DataError, match="no data set of deflow: gt"):
            ask(hr, out, model_path, overwrite=overwrite)
        assert list(files(out)) == ["gt/0000001.png"]
    ask(hr, tmp_path / "ours", model_path)
    (tmp_path / "ours/gt/mine.png").write_bytes(b"mine")
    before = files(tmp_path / "ours")
    with pytest.raises(DataError, match=r"mine\.png"):
        ask(hr, tmp_path / "ours", model_path, seed=1, overwrite=True)
    assert files(tmp_path / "ours") == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be a folder"):
        ask(hr, tmp_path / "file", model_path)


def test_a_lost_file_of_a_complete_set_is_made_again(hr, tmp_path, model_path):
    out = tmp_path / "out"
    ask(hr, out, model_path)
    before = files(out)
    (out / "lq/0000002.png").unlink()
    assert ask(hr, out, model_path).written == 1
    assert files(out) == before


def test_one_run_at_a_time(hr, tmp_path, model_path):
    pytest.importorskip("fcntl")
    with alone(tmp_path / "out", Listener()), pytest.raises(DataError, match="another deflow make-pairs"):
        ask(hr, tmp_path / "out", model_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_run_that_ended_before_its_first_pair_goes_on(hr, tmp_path, monkeypatch, kind):
    out, options = tmp_path / "out", {"choice": NONE, "format": kind}
    ask(hr, tmp_path / "whole", **options)
    genuine = pairs_run.make_writer

    def killed(*arguments):
        genuine(*arguments)  # which makes folders
        raise KeyboardInterrupt

    monkeypatch.setattr(pairs_run, "make_writer", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(hr, out, **options)
    monkeypatch.setattr(pairs_run, "make_writer", genuine)
    half = left_by_a_killed_process(out)
    ask(hr, out, **options)
    assert not half.exists()
    assert files(out) == files(tmp_path / "whole")


def test_hr_and_out_may_not_be_mixed_up(hr, tmp_path, model_path):
    with pytest.raises(DataError, match="lies inside OUT"):
        ask(hr, hr, model_path)
    with pytest.raises(DataError, match="lies inside OUT"):
        ask(hr, tmp_path, model_path)
    for seed in (0, 1):  # an earlier OUT inside HR is no source
        assert ask(hr, hr / "out", model_path, seed=seed, overwrite=True).images == 4
    assert ask(hr / "a.png", tmp_path / "single", model_path).pairs == 1


# -- damaged later ----------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "cut": cut,
    "flip": flip,
    "empty": lambda path: path.write_bytes(b""),
    "lost": lambda path: path.unlink(),
}
STORED = {
    "folders": ["gt/0000001.png", "lq/0000003.png", "metadata.jsonl", "meta_info.txt"],
    "lmdb": ["gt.lmdb/data.mdb", "lq.lmdb/data.mdb", "lq.lmdb/meta_info.txt", "metadata.jsonl"],
    "webdataset": ["000000.tar", "metadata.jsonl"],
}


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_damaged_is_made_anew(hr, tmp_path, kind):
    out, options = tmp_path / "out", {"choice": NONE, "format": kind}
    ask(hr, out, **options)
    whole = files(out)
    heard = Listener()
    assert ask(hr, out, **options, reporter=heard).written == 0
    assert heard.notes[-1] == f"{out}: complete already"
    for name in STORED[kind]:
        for damage in DAMAGE.values():
            damage(out / name)
            heard = Listener()
            ask(hr, out, **options, reporter=heard)
            assert files(out) == whole
            assert heard.warnings == [f"{out}: 1 files are damaged or missing, and made anew: {name}"]
            assert not any("complete already" in note for note in heard.notes)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_unfinished_set_is_checked_too(hr, tmp_path, kind):
    """As after a power cut: marked as unfinished, without checksums, and a file with a flipped bit."""
    out, options = tmp_path / "out", {"choice": NONE, "format": kind}
    ask(hr, out, **options)
    whole = files(out)
    for name in [name for name in STORED[kind] if name.endswith((".png", ".mdb", ".tar"))]:
        for damage in (cut, flip):
            (out / "sha256sums.txt").unlink()
            (out / "deflow.json").rename(out / "deflow.partial.json")
            damage(out / name)
            ask(hr, out, **options)
            assert files(out) == whole


def test_a_set_without_checksums_gets_them(hr, tmp_path):
    out = tmp_path / "out"
    ask(hr, out, choice=NONE)
    whole = files(out)
    for damage in (lambda path: path.unlink(), lambda path: path.write_text("nonsense")):
        damage(out / "sha256sums.txt")
        assert ask(hr, out, choice=NONE).written == 0
        assert files(out) == whole


def test_the_checksums_are_those_of_sha256sum(hr, tmp_path):
    ask(hr, tmp_path / "out", choice=NONE)
    command = shutil.which("sha256sum")
    if command is None:
        pytest.skip("sha256sum is not on this machine")
    subprocess.run([command, "--check", "--strict", "sha256sums.txt"], cwd=tmp_path / "out", check=True)


def test_files_that_nobody_listed_are_told(hr, tmp_path):
    ask(hr, tmp_path / "out", choice=NONE)
    save(tmp_path / "out/gt/9.png", np.zeros((8, 8, 3), np.uint8))
    heard = Listener()
    ask(hr, tmp_path / "out", choice=NONE, reporter=heard)
    assert heard.warnings == [f"{tmp_path / 'out'}: 1 files there are none of the data set: gt/9.png"]
