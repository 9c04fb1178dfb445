"""Files of weights: the very network in any wrapper, or an error that names the file and the reason."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from tests.zoo.weights import Weights
from tests.zoo.weights_judging import problem


def test_the_network_comes_out_of_every_wrapper_or_the_file_is_refused(
    tmp_path: Path, weights: Weights
) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert problem(tmp_path, weights) == ""
    assert printed.getvalue() == ""  # nothing of a file is executed


def test_refused_files_cost_no_image(tmp_path: Path) -> None:
    """A restorer that cannot be read is known before any image is."""
    from deflow_cli.errors import CheckpointError
    from deflow_cli.runtime.progress import Silent
    from deflow_cli.workflows.restore import RestoreRequest, restore
    from tests.zoo.animals import picture
    from tests.zoo.pngs import png_of

    (tmp_path / "a.png").write_bytes(png_of(picture(3)))
    (tmp_path / "x.pth").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        restore(
            RestoreRequest(tmp_path / "a.png", tmp_path / "o.png", tmp_path / "x.pth", device="cpu"), Silent()
        )
    assert not (tmp_path / "o.png").exists()
