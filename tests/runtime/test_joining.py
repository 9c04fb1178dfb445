"""Joining: ranks find each other, agree, hear why another one ended, and never wait for who is gone."""

from __future__ import annotations

import os
import signal
import time

import pytest

from deflow_cli.errors import ConfigError, DeviceError, ToldElsewhere
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.joining import joined_ranks, refuse_ranks
from tests.rank_processes import ends, start_ranks

AGREE = """
import sys
import torch
from deflow_cli.errors import DataError
from deflow_cli.runtime.joining import joined_ranks
try:
    with joined_ranks("cpu") as (ranks, device):
        x = torch.tensor(float(ranks.rank), requires_grad=True)
        mean = ranks.differentiable_mean(x * x)
        (mean * (ranks.rank + 1)).backward()
        print("mean", mean.item(), "gradient", x.grad.item(), "of", ranks.mean(x).item())
        print("agreed", ranks.agree(0.25 if ranks.is_main else 0.5, stop=not ranks.is_main))
        print("said", ranks.on_main(lambda: f"by {ranks.rank}"))
        print("gathered", ranks.gathered(["both", f"of {ranks.rank}"]))
        print("finite", ranks.all_true(torch.tensor(ranks.is_main)).item(), flush=True)
        while sys.argv[1] == "waits":
            ranks.agree(0.0, stop=False)
        try:
            ranks.on_main(lambda: open("no such file"))
        except Exception as error:
            print(type(error).__name__)
        if not ranks.is_main:
            raise DataError("photo.png: is gone")
        ranks.agree(0.0, stop=False)
except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    sys.exit(3)
"""


def test_ranks_agree_and_hear_why_another_one_failed() -> None:
    results = ends(start_ranks(2, AGREE, "fails"))
    failures = (
        ["FileNotFoundError", "TrainingError: rank 0 of 2 ends: rank 1 failed: photo.png: is gone"],
        ["ToldElsewhere", "DataError: photo.png: is gone"],
    )
    for rank, (code, output) in enumerate(results):
        assert code == 3, output
        # each rank's loss is (rank + 1) times the mean of x^2: their gradients' mean is 1.5 times 2 x
        assert output.splitlines() == [
            f"mean 0.5 gradient {3.0 * rank} of 0.5",
            "agreed (0.25, True)",
            "said by 0",
            "gathered ['both', 'of 0', 'of 1']",
            "finite False",
            *failures[rank],
        ]


def test_a_killed_main_rank_ends_the_other_within_seconds() -> None:
    processes = start_ranks(2, AGREE, "waits")
    for process in processes:
        while "finite" not in process.output():
            assert process.poll() is None, process.output()
            time.sleep(0.01)
    os.kill(processes[0].pid, signal.SIGKILL)
    before = time.monotonic()
    code, output = ends(processes)[1]
    assert time.monotonic() - before < 20
    assert code == 3
    assert "the connection to another one was lost" in output
    assert "it was killed, ran out of memory, or its machine is gone" in output


def test_one_process_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined_ranks("cpu") as (ranks, device):
        assert ranks == Ranks(0, 1)
        assert device.type == "cpu"


def test_several_processes_choose_no_gpu_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match="cuda:1"), joined_ranks("cuda:1"):
        pass


def test_what_one_process_does_is_refused_to_several(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="--method cyclegan trains in one process, and torchrun started 2"):
        refuse_ranks("--method cyclegan")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ToldElsewhere):
        refuse_ranks("--method cyclegan")
    monkeypatch.delenv("RANK")
    refuse_ranks("--method cyclegan")


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    Ranks(0, 2).check_parts("fit.batch_size", 8, 2)
    with pytest.raises(ConfigError, match=r"fit.batch_size is 6, and each of 2 processes .* even") as caught:
        Ranks(0, 2).check_parts("fit.batch_size", 6, 2)
    assert "fit.batch_size=8" in caught.value.next_step
    with pytest.raises(ConfigError, match="the same number"):
        Ranks(0, 3).check_parts("sr.batch_size", 4)
    with pytest.raises(ConfigError, match="needs a multiple of 4 patches") as caught:
        Ranks(0, 2).check_parts("sr.batch_size", 12, 4)
    assert "sr.batch_size=16" in caught.value.next_step
