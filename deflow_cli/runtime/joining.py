"""Joining: how the processes of a training find each other, choose their devices, and end together."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import distributed

from deflow_cli.errors import ConfigError, DeflowError, DeviceError, ToldElsewhere, TrainingError
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.distributed import MAIN_TIMEOUT, STEP_TIMEOUT, Ranks, set_joined

_ADDRESS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells a process
_LAST_WORDS = "deflow/ended/"  # keys of the store: why a rank ended
_HEARD = 1.0  # seconds in which the last words of a rank that ended arrive
_LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "connection refused")
_GO_ON = "see what the other ranks say; the same command with --resume goes on, on any number of processes"


@contextmanager
def joined_ranks(device_name: str) -> Iterator[tuple[Ranks, torch.device]]:
    """The ranks of this training, and this one's device, while the context lasts.

    A process started by torchrun, or with its environment variables, joins the others: by NCCL, each on the
    GPU of its LOCAL_RANK, or on CPUs by Gloo. A group that the caller has initialised is used as it is.
    Any other process is the only rank. Raises TrainingError where the others do not come within
    ``STEP_TIMEOUT``, or where one of them ends early; DeviceError for a device that cannot be. What is raised
    from the moment that ranks wait for each other is ``of_rank``.
    """
    given = distributed.is_available() and distributed.is_initialized()
    if not given and not _is_one_of_many():
        yield Ranks(), choose_device(device_name)
        return
    device = _device_of_rank(device_name)
    store = None if given else _join(device)
    patient = distributed.new_group(backend="gloo", timeout=MAIN_TIMEOUT)
    assert isinstance(patient, distributed.ProcessGroup)  # of all ranks, so this one is in it
    ranks = Ranks(distributed.get_rank(), distributed.get_world_size(), patient)
    set_joined(ranks)
    in_main_thread = threading.current_thread() is threading.main_thread()
    kinds = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()
    handlers = {kind: signal.getsignal(kind) for kind in kinds}
    try:
        yield ranks, device
        if ranks.size > 1:
            distributed.barrier(group=patient)
    except Exception as error:
        told = _as_told(error, ranks, store)
        if isinstance(told, DeflowError):
            told.of_rank = True
        if told is error:
            raise
        raise told from error
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
        set_joined(None)
        failed = sys.exc_info()[0] is not None
        if not given and not (failed and device.type == "cuda"):  # NCCL would wait for those who ended
            with suppress(RuntimeError):
                distributed.destroy_process_group()


def refuse_ranks(work: str) -> None:
    """Raise ConfigError in a process that torchrun started beside others, for what one process does."""
    if not _is_one_of_many():
        return
    if os.environ["RANK"] != "0":
        raise ToldElsewhere(f"{work} is for one process", exit_code=ConfigError.exit_code)
    raise ConfigError(
        f"{work} trains in one process, and torchrun started {os.environ['WORLD_SIZE']}",
        next_step="run it without torchrun",
    )


def _is_one_of_many() -> bool:
    return all(os.environ.get(name) for name in _ADDRESS) and os.environ["WORLD_SIZE"] != "1"


def _device_of_rank(name: str) -> torch.device:
    """The GPU of LOCAL_RANK, or the CPU. Raises DeviceError, on one rank, where the machine has too few."""
    if name not in ("auto", "cuda", "cpu"):
        raise DeviceError(
            f"device {name}: each of several processes has a GPU of its own",
            next_step="leave out --device; CUDA_VISIBLE_DEVICES chooses the GPUs",
        )
    device = choose_device(name)
    if device.type == "cpu":
        return device
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local > count:
        raise ToldElsewhere("no GPU is left")
    if local == count:
        error = DeviceError(
            f"process {local + 1} on a machine of {count} GPUs",
            next_step=f"pass torchrun --nproc-per-node={count}, or --device cpu",
        )
        error.of_rank = True
        raise error
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def _join(device: torch.device) -> distributed.Store:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, _, _ = next(distributed.rendezvous("env://", rank, size, timeout=STEP_TIMEOUT))
        distributed.init_process_group(
            backend,
            store=distributed.PrefixStore("deflow", store),
            rank=rank,
            world_size=size,
            timeout=STEP_TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        lonely = TrainingError(
            f"rank {rank}: the {size} ranks did not meet at {address} ({_first_line(error)})",
            next_step="start all of them, on machines that reach each other at that address and port",
        )
        lonely.of_rank = True
        raise lonely from error
    return store


def _as_told(error: Exception, ranks: Ranks, store: distributed.Store | None) -> Exception:
    """The error of a rank: its own, which the others may hear, or that another one ended."""
    if isinstance(error, RuntimeError) and _is_lost_connection(error) and ranks.size > 1:
        reason = _last_words(ranks, store)
        lost = f"the connection to another one was lost ({_first_line(error)})"
        how = reason or f"{lost}; it was killed, ran out of memory, or its machine is gone"
        return TrainingError(f"rank {ranks.rank} of {ranks.size} ends: {how}", next_step=_GO_ON)
    if store is not None and not isinstance(error, ToldElsewhere):
        text = str(error) if isinstance(error, DeflowError) else f"{type(error).__name__}: {error}"
        with suppress(RuntimeError):
            store.set(f"{_LAST_WORDS}{ranks.rank}", text)
    return error


def _is_lost_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(word in text for word in _LOST)


def _last_words(ranks: Ranks, store: distributed.Store | None) -> str:
    """Why other ranks ended, as far as they could say."""
    until = time.monotonic() + _HEARD
    while store is not None and time.monotonic() < until:
        try:
            for rank in range(ranks.size):
                key = f"{_LAST_WORDS}{rank}"
                if rank != ranks.rank and store.check([key]):
                    return f"rank {rank} failed: {store.get(key).decode(errors='replace')}"
        except RuntimeError:  # the store was the main rank's
            return ""
        time.sleep(0.1)
    return ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
