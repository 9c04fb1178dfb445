"""Killed, starved, crowded: what is left of a run that ends at any moment, and what the next one makes of it.

``python -m tests.bench.killed --kills 50`` sends SIGKILL at random moments to `degrade`, `make-pairs` (three
formats), `fit` and `sr-train`, runs them again, and compares with a run left alone: the same bits, no
half file under a final name, nothing temporary left. Then the disk is full, and two runs share a folder. Its
tables go to docs/reliability.md, each as soon as it is made; ``--parts`` chooses among them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from deflow_cli.data.pairs.formats import FORMATS, UNFINISHED, PairFormat
from deflow_cli.data.pairs.records import STAGING
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import DataError, DeflowError
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from deflow_cli.workflows.fit import run as fit_workflow
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.pairs.plan import PairSettings
from deflow_cli.workflows.pairs.run import MakePairsRequest, make_pairs
from deflow_cli.workflows.restorer.data import SrSource
from deflow_cli.workflows.restorer.run import SrRequest, sr_train
from tests.workflows.fit.test_fit import small as small_fit
from tests.workflows.restorer.test_sr_train import small as small_sr
from tests.zoo.animals import picture
from tests.zoo.commands import save_models
from tests.zoo.pngs import png_of

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
START, END = "<!-- killed: begin -->\n", "<!-- killed: end -->\n"
FORK = multiprocessing.get_context("fork")  # torch is imported once
IMAGES = 10
DISK_SHARE = 0.6  # of what a run writes


@dataclass(frozen=True)
class Job:
    """A command that writes to a folder, and goes on with what it finds there.

    result: what must be the same bits: of each file a digest, or of weights their tensors'.
    """

    name: str
    run: Callable[[Path], object]
    result: Callable[[Path], dict[str, str]]


# -- commands ---------------------------------------------------------------------------------------------


def run_degrade(inputs: Path, out: Path) -> None:
    request = DegradeRequest(
        inputs / "clean", out, inputs / "model.safetensors", samples=2, skip_existing=True, device="cpu"
    )
    report = degrade(request, Silent())
    if report.failed:
        raise DataError(report.failed[0][1])


def run_pairs(inputs: Path, kind: PairFormat, out: Path) -> None:
    choice = DegraderChoice(model=inputs / "model.safetensors")
    settings = PairSettings(scale=2, format=kind, variants=2)
    make_pairs(MakePairsRequest(inputs / "clean", out, settings, choice, workers=2, device="cpu"), Silent())


def run_fit(inputs: Path, out: Path) -> None:
    request = fit_workflow.FitRequest(
        inputs / "clean",
        inputs / "noisy",
        out,
        small_fit("fit.iterations=30"),
        device="cpu",
        resume=(out / CONFIG_FILE).exists(),
        samples=SampleSizes(start=8, moments=40, final=40, held_out=4),
    )
    fit_workflow.fit(request)


def run_sr(inputs: Path, out: Path) -> None:
    config = small_sr("psnr.iterations=15", "gan.iterations=15")
    resume = (out / CONFIG_FILE).exists()
    sr_train(SrRequest(SrSource(inputs / "pairs"), out, config, device="cpu", resume=resume), Silent())


def files_of(out: Path) -> dict[str, str]:
    """A digest of every file, hidden ones too."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "lock.mdb"
    }


def weights_of(name: str, out: Path) -> dict[str, str]:
    """A digest of every tensor: the files' metadata hold times."""
    tensors = load_file(out / name)
    return {key: hashlib.sha256(value.numpy().tobytes()).hexdigest() for key, value in tensors.items()}


def jobs(inputs: Path) -> list[Job]:
    pairs = [Job(f"make-pairs, {kind}", partial(run_pairs, inputs, kind), files_of) for kind in FORMATS]
    return [
        Job("degrade", partial(run_degrade, inputs), files_of),
        *pairs,
        Job("fit", partial(run_fit, inputs), partial(weights_of, "model.safetensors")),
        Job("sr-train", partial(run_sr, inputs), partial(weights_of, "restorer.safetensors")),
    ]


def write_inputs(root: Path) -> Path:
    for folder, first in (("clean", 0), ("noisy", 100)):
        (root / folder).mkdir(parents=True)
        for seed in range(first, first + IMAGES):
            (root / folder / f"{seed}.png").write_bytes(png_of(picture(3, height=72, width=96, seed=seed)))
    save_models(root)
    settings = PairSettings(scale=2)
    make_pairs(
        MakePairsRequest(root / "clean", root / "pairs", settings, DegraderChoice("none"), device="cpu"),
        Silent(),
    )
    return root


# -- killed -----------------------------------------------------------------------------------------------


def _child(run: Callable[[Path], object], out: Path, limit: int | None, told: Path) -> None:
    torch.set_num_threads(1)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(out)
    except DeflowError as error:
        told.write_text(str(error))
        os._exit(1)
    except BaseException as error:  # what no user may see
        told.write_text(f"TRACEBACK {error!r}")
        os._exit(2)
    os._exit(0)


def started(job: Job, out: Path, told: Path, limit: int | None = None) -> BaseProcess:
    process = FORK.Process(target=_child, args=(job.run, out, limit, told))
    process.start()
    return process


def finished(job: Job, out: Path, told: Path, limit: int | None = None) -> int:
    process = started(job, out, told, limit)
    process.join()
    return process.exitcode or 0


def half_files(out: Path, whole: dict[str, str]) -> list[str]:
    """Final names of files that are not complete.

    Pictures must be those of the end, weights and states readable. Of data sets in one file (LMDB, shards) a
    mark says that they are unfinished; without it every file must be that of the end.
    """
    if not out.is_dir():
        return []
    marked = (out / UNFINISHED).exists() or (out / CONFIG_FILE).exists()
    found = []
    for name, digest in files_of(out).items():
        path = out / name
        if path.name.startswith("."):
            continue
        if path.suffix == ".safetensors":
            try:
                load_file(path)
            except (SafetensorError, OSError):
                found.append(name)
        elif name in whole and digest != whole[name] and (path.suffix == ".png" or not marked):
            found.append(name)
    return found


def left_over(out: Path) -> list[str]:
    return [
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if path.name == STAGING or (path.name.startswith(".") and path.name.endswith(".tmp"))
    ]


def run_time(job: Job, root: Path) -> float:
    """Seconds of a whole run, whose result stays in ``whole``.

    The shorter of two: the first one is slower, and kills are to come before the end.
    """
    told, seconds = root / "told.txt", []
    for name in ("warm", "whole"):
        begun = time.perf_counter()
        assert finished(job, root / name, told) == 0, told.read_text()
        seconds.append(time.perf_counter() - begun)
    shutil.rmtree(root / "warm")
    return min(seconds)


def kill_at_random(job: Job, root: Path, kills: int, chooser: random.Random) -> str:
    """A row of the table."""
    told = root / "told.txt"
    seconds = run_time(job, root)
    whole = job.result(root / "whole")
    ended = same = half = left = 0
    for number in range(kills):
        out = root / f"killed{number}"
        process = started(job, out, told)
        time.sleep(chooser.uniform(0, seconds))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        ended += process.exitcode == -signal.SIGKILL
        half += bool(half_files(out, whole))
        code = finished(job, out, told)
        if code:
            print(f"{job.name}: {told.read_text()}")
        is_same = code == 0 and job.result(out) == whole
        if code == 0 and not is_same:
            print(f"{job.name}, kill {number}: another result")
        same += is_same
        remaining = left_over(out)
        if remaining:
            print(f"{job.name}, kill {number}: left {remaining[:3]}")
        left += bool(remaining)
        shutil.rmtree(out)
    return f"| {job.name} | {kills} | {ended} | {same} | {half} | {left} |"


# -- starved and crowded ----------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(root: Path, size: str) -> Iterator[Path | None]:
    """A tmpfs of this size; None where none can be mounted."""
    mount = root / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", mount], capture_output=True)
    try:
        yield mount if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", mount], check=True)
        mount.rmdir()


def on_a_full_disk(job: Job, root: Path) -> str:
    """The disk is full before the end; then it has room, and the command is run again."""
    told = root / "told.txt"
    assert finished(job, root / "whole", told) == 0, told.read_text()
    whole = job.result(root / "whole")
    size = int(
        DISK_SHARE * sum(path.stat().st_size for path in (root / "whole").rglob("*") if path.is_file())
    )
    with small_disk(root, str(size)) as disk:
        out = (disk or root) / "out"
        code = finished(job, out, told, None if disk else 8000)
        message = told.read_text().replace(str(root), "") if code else "it finished"
        kind = f"tmpfs of {size // 1000} kB" if disk else "files of at most 8 kB"
        remains = root / "moved"
        if out.is_dir():
            shutil.copytree(out, remains)
    verdict = {0: "no error", 1: "error by name", 2: "traceback"}[code]
    print(f"{job.name}: {message}")
    again = finished(job, remains, told)
    if again:
        print(f"{job.name}, again: {told.read_text()}")
    same = "yes" if again == 0 and job.result(remains) == whole and not left_over(remains) else "no"
    return f"| {job.name} | {kind} | {verdict} | {same} |"


def two_at_once(job: Job, root: Path) -> str:
    told, other = root / "told.txt", root / "other.txt"
    seconds = run_time(job, root)
    whole, out = job.result(root / "whole"), root / "shared"
    first = started(job, out, told)
    time.sleep(0.3 * seconds)
    second = started(job, out, other)
    first.join()
    second.join()
    texts = [path.read_text() for path in (told, other) if path.exists()]
    named = "writes there already: process " + str(first.pid)
    refused = "both finish"
    if texts:
        print(f"{job.name}: {texts}")
        refused = "is refused, and names the first" if named in texts[-1] else "fails otherwise"
    same = "yes" if first.exitcode == 0 and job.result(out) == whole else "no"
    return f"| {job.name} | {refused} | {same} |"


@dataclass(frozen=True)
class Part:
    """A table of the page. title: the line above it, which begins like no other's."""

    title: str
    head: tuple[str, str]
    measure: Callable[[Job, Path], str]


def parts(kills: int, seed: int) -> dict[str, Part]:
    chooser = random.Random(seed)
    return {
        "killed": Part(
            f"SIGKILL at {kills} random moments each (seed {seed}), then the same command again:",
            (
                "| command | kills | before its end | the same bits | half files | temporary files left |",
                "|---|--:|--:|--:|--:|--:|",
            ),
            lambda job, root: kill_at_random(job, root, kills, chooser),
        ),
        "disk": Part(
            "A disk that is full before the end, then one with room:",
            (
                "| command | disk | it ends with | run again: the same bits, nothing left |",
                "|---|---|---|---|",
            ),
            on_a_full_disk,
        ),
        "two": Part(
            "Two runs in one folder at the same time:",
            ("| command | the second | the first: the same bits |", "|---|---|---|"),
            two_at_once,
        ),
    }


def table(part: Part, chosen: list[Job], root: Path) -> str:
    lines = [part.title, "", *part.head]
    for job in chosen:
        folder = root / job.name
        folder.mkdir(parents=True)
        lines.append(part.measure(job, folder))
        print(lines[-1], flush=True)
        shutil.rmtree(folder)
    return "\n".join(lines) + "\n"


def with_table(page: str, text: str) -> str:
    """The page with a table in the place of the one whose title begins alike."""
    before, rest = page.split(START)
    old, after = rest.split(END)
    sections = re.split(r"\n(?=[A-Z])", old)
    word = text.split()[0]
    new = [text if section.startswith(word) else section for section in sections]
    return before + START + "\n".join(new) + END + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    names = ["killed", "disk", "two"]
    parser.add_argument("--parts", nargs="*", default=names, choices=names, help="tables to write anew")
    parser.add_argument(
        "--only", nargs="*", default=[], help="words of the commands; no page is written then"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_inputs(Path(folder) / "inputs")
        some = [
            job for job in jobs(inputs) if not chosen.only or any(word in job.name for word in chosen.only)
        ]
        for name, part in parts(chosen.kills, chosen.seed).items():
            if name in chosen.parts:
                text = table(part, some, Path(folder) / name)
                if not chosen.only:
                    PAGE.write_text(with_table(PAGE.read_text("utf-8"), text), "utf-8")


if __name__ == "__main__":
    main()
