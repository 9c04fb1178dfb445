"""The folder of a data set: nothing of others is lost, and one run writes at a time."""

from __future__ import annotations

import numpy as np
import pytest

from deflow_cli.data.pairs.formats import open_pairs
from deflow_cli.errors import DataError
from deflow_cli.workflows.pairs.target import alone
from tests.workflows.pairs.asking import ask, files, save


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
    with alone(tmp_path / "out"), pytest.raises(DataError, match="another deflow make-pairs"):
        ask(hr, tmp_path / "out", model_path)
    assert not (tmp_path / "out").exists()


def test_hr_and_out_may_not_be_mixed_up(hr, tmp_path, model_path):
    with pytest.raises(DataError, match="lies inside OUT"):
        ask(hr, hr, model_path)
    with pytest.raises(DataError, match="lies inside OUT"):
        ask(hr, tmp_path, model_path)
    for seed in (0, 1):  # an earlier OUT inside HR is no source
        assert ask(hr, hr / "out", model_path, seed=seed, overwrite=True).images == 4
    assert ask(hr / "a.png", tmp_path / "single", model_path).pairs == 1
