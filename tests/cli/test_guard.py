"""Guard: of the ranks of one training, who tells an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rank_processes import ends, start_ranks

PROGRAM = "from deflow_cli.__main__ import main; main()"
OF_ANOTHER_MACHINE = f"import os; os.environ['LOCAL_RANK'] = '0'; {PROGRAM}"
FAILS_ALONE = """
from deflow_cli.cli.guard import guarded
from deflow_cli.errors import DataError
from deflow_cli.runtime.joining import joined_ranks

def train():
    with joined_ranks("cpu") as (ranks, device):
        if not ranks.is_main:
            raise DataError("photo.png: is gone", next_step="bring it back")
        ranks.agree(0.0, stop=False)

guarded(train, in_ranks=True)()
"""


@pytest.mark.parametrize("command", ["fit FOLDER FOLDER", "sr-train FOLDER"])
def test_what_all_ranks_of_a_machine_find_is_told_once(command: str, tmp_path: Path) -> None:
    words = command.replace("FOLDER", str(tmp_path / "gone")).split()
    (code, output), (other, beside) = ends(start_ranks(2, PROGRAM, *words))
    assert (code, other) == (1, 1)
    assert f"error: {tmp_path}/gone: no such folder" in output
    assert beside == ""


def test_each_machine_tells_what_it_finds(tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    for code, output in ends(start_ranks(2, OF_ANOTHER_MACHINE, "fit", *folders)):
        assert code == 1
        assert f"error: {tmp_path}/a: no such folder" in output


def test_an_error_of_one_rank_is_told_by_it() -> None:
    (code, output), (other, beside) = ends(start_ranks(2, FAILS_ALONE))
    assert (code, other) == (1, 1)
    assert beside == "error: photo.png: is gone\n  next: bring it back\n"
    assert "error: rank 0 of 2 ends: rank 1 failed: photo.png: is gone" in output
