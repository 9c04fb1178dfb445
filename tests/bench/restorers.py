"""What is a degradation model worth? The same small restorer trained on the pairs of each degrader.

    python tests/bench/restorers.py --data DIR --domain ntire-like --model MODEL --out DIR [--scale 4]

Training pairs are made of the domain's clean train pictures by (a) no degradation, (b) white noise tuned on
the noisy folder and spectral noise, (c) noise patches, (d) the model, (e) the true degradation: a known
recipe is drawn on the clean pictures, that of isp also without what its camera does to scenes; of a camera,
half of the paired test's scenes are trained on, and all restorers are tested on the other half; with
``--whole-test`` (e) is trained on the very pairs that all are tested on, the most that perfect pairs are
worth. All else is equal: pictures, network, iterations, seed. The last column says how much of the way from
(a) to (e) a restorer went, in PSNR. The commands of the command line are run as a user would run them. At
scale 4 the test is the pictures of ``sr_test``.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from realism_data import Domain, Pair, files, load_domain, pair_up, read

from deflow_cli.arrays import Pixels

METRICS = ("psnr", "ssim", "niqe")
TRUTH, NOISE_ALONE = "e truth", "e truth, noise alone"
MADE = ("a none", "b white", "b spectral", "b spectral, quiet", "c patches", "d deflow")
ROWS = (*MADE, NOISE_ALONE, TRUTH)
PATCHES = ("--patch-size", "128", "--patch-variance", "800")  # the recipe's 20 finds none this flat


def deflow(*arguments: str) -> str:
    """Run a command; its stdout. Ends the bench with the command's own error."""
    done = subprocess.run(
        [sys.executable, "-m", "deflow_cli", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"deflow {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def scene(pair: Pair) -> str:
    """Camera and place of a crop: Canon5D2_fruit of Canon5D2_fruit_x0_y1024."""
    return pair.name.rsplit("_", 2)[0]


def paired_test(domain: Domain, data: Path, name: str, scale: int) -> list[Pair]:
    """The paired test of a domain whose recipe is known; at scale 4 the noisy picture is the small one."""
    if scale == 1:
        return domain.pairs
    root = data / "sr_test"
    if (root / f"lr_{name}").is_dir():
        return pair_up(root / "hr", root / f"lr_{name}")
    assert domain.redraw is not None
    small = pair_up(root / "hr", root / "lr_bicubic")
    drawn = [domain.redraw(Pair(pair.name, pair.noisy, pair.noisy), 0) for pair in small]
    return [replace(pair, noisy=noisy) for pair, noisy in zip(small, drawn, strict=True)]


def drawn(made: Path, degrade: Callable[[Pair, int], Pixels]) -> list[Pair]:
    """A degradation of the input pictures of pairs, each beside its target."""
    inputs = [Pair(path.stem, *[read(made / "lq" / path.name)] * 2) for path in files(made / "gt")]
    return [Pair(one.name, read(made / "gt" / f"{one.name}.png"), degrade(one, 5)) for one in inputs]


def save_pairs(folder: Path, pairs: list[Pair]) -> None:
    for index, pair in enumerate(pairs):
        save(folder / "gt" / f"{index:07d}.png", pair.clean)
        save(folder / "lq" / f"{index:07d}.png", pair.noisy)


def lay_out(
    domain: Domain, data: Path, name: str, scale: int, folder: Path, *, whole_test: bool = False
) -> None:
    """HR, noisy, the paired test, and the true pairs, as folders of PNGs."""
    for group, pictures in (("hr", domain.clean), ("noisy", domain.noisy)):
        for stem, pixels in pictures.named():
            save(folder / group / f"{stem}.png", pixels)
    if domain.redraw is None and whole_test:
        test = true = domain.pairs
    elif domain.redraw is None:
        trained_on = sorted({scene(pair) for pair in domain.pairs})[::2]
        test = [pair for pair in domain.pairs if scene(pair) not in trained_on]
        true = [pair for pair in domain.pairs if scene(pair) in trained_on]
    else:
        test = paired_test(domain, data, name, scale)
        made = folder / "a-none"
        deflow("make-pairs", str(folder / "hr"), str(made), "--scale", str(scale), "--degrader", "none")
        true = drawn(made, domain.redraw)
        if domain.noise_alone is not None:
            save_pairs(folder / folder_name(NOISE_ALONE), drawn(made, domain.noise_alone))
    save_pairs(folder / folder_name(TRUTH), true)
    for pair in test:
        save(folder / "test" / "clean" / f"{pair.name}.png", pair.clean)
        save(folder / "test" / "noisy" / f"{pair.name}.png", pair.noisy)


def make_pairs(folder: Path, model: Path, scale: int, only: list[str]) -> dict[str, Path]:
    """The training pairs of each degrader, or of those of ``only``."""
    noisy, hr = str(folder / "noisy"), str(folder / "hr")
    degraders = (
        ["--degrader", "none"],
        ["--degrader", "white-noise", "--noisy", noisy],
        ["--degrader", "spectral", "--noisy", noisy],
        ["--degrader", "spectral", "--noisy", noisy, "--flattest", "0.25"],
        ["--degrader", "noise-patches", "--noisy", noisy, *PATCHES],
        ["--degrader", "deflow", "--model", str(model)],
    )
    made = {}
    for name, options in zip(MADE, degraders, strict=True):
        if only and name not in only:
            continue
        out = folder / folder_name(name)
        deflow("make-pairs", hr, str(out), "--scale", str(scale), *options)
        made[name] = out
    for name in (NOISE_ALONE, TRUTH):
        pairs = folder / folder_name(name)
        if pairs.is_dir() and (not only or name in only):
            made[name] = pairs
    return made


def folder_name(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def train(pairs: Path, run: Path, iterations: int, settings: list[str]) -> None:
    options = ["--stage", "psnr", "--preset", "tiny", "--iterations", str(iterations), "--device", "cpu"]
    for setting in settings:
        options += ["--set", setting]
    deflow("sr-train", str(pairs), "--out", str(run), *options)


def score(outputs: list[Path], clean: Path) -> dict[str, dict[str, float]]:
    """Mean of each metric, by folder name."""
    told = deflow("score", *map(str, outputs), "--ref", str(clean), "--metrics", ",".join(METRICS), "--json")
    found: dict[str, dict[str, float]] = {}
    for entry in json.loads(told)["summaries"]:
        found.setdefault(entry["method"], {})[entry["metric"]] = entry["mean"]
    return found


def table(scores: dict[str, dict[str, float]], names: list[str]) -> str:
    lines = ["| trained on | PSNR | SSIM | NIQE | of the gap |", "| --- | ---: | ---: | ---: | ---: |"]
    low, high = (scores.get(name, {}).get("psnr", math.nan) for name in ("a-none", "e-truth"))
    for name in names:
        row = scores[folder_name(name)]
        share = (row["psnr"] - low) / (high - low)
        told = "" if name == "input" or math.isnan(share) else f"{share:.0%}"
        lines.append(f"| {name} | {row['psnr']:.2f} | {row['ssim']:.4f} | {row['niqe']:.2f} | {told} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--domain", default="ntire-like", help="ntire-like, isp, polyu_camera ...")
    parser.add_argument("--model", type=Path, required=True, help="fitted to the domain's two train folders")
    parser.add_argument("--scale", type=int, choices=(1, 4), default=1)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--whole-test", action="store_true", help="of a camera: (e) is the test itself")
    parser.add_argument("--only", action="append", default=[], choices=ROWS, help="rows, by name")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of sr-train")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    options = parser.parse_args()
    folder = options.out / f"{options.domain}-x{options.scale}{'-whole' if options.whole_test else ''}"
    domain = load_domain(options.data, options.domain)
    if options.scale != 1 and domain.redraw is None:
        parser.error(f"{options.domain} has no test at scale {options.scale}")
    if options.whole_test and domain.redraw is not None:
        parser.error(f"--whole-test: {options.domain} has a known recipe, of which (e) draws")
    if not (folder / "test").exists():
        whole = options.whole_test
        lay_out(domain, options.data, options.domain, options.scale, folder, whole_test=whole)
    outputs = []
    made = make_pairs(folder, options.model, options.scale, options.only)
    for name, pairs in made.items():
        started = time.perf_counter()
        run, out = folder / "runs" / folder_name(name), folder / "out" / folder_name(name)
        if not (run / "restorer.safetensors").exists():
            train(pairs, run, options.iterations, options.set)
        shutil.rmtree(out, ignore_errors=True)
        deflow("restore", str(folder / "test" / "noisy"), str(out), "--model", str(run), "--device", "cpu")
        outputs.append(out)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    scores = score(outputs, folder / "test" / "clean")
    names = list(made)
    if options.scale == 1:
        scores["input"] = score([folder / "test" / "noisy"], folder / "test" / "clean")["noisy"]
        names.insert(0, "input")
    tested = len(files(folder / "test" / "clean"))
    text = f"{options.domain}, x{options.scale}: {tested} pictures, {options.iterations} iterations\n\n"
    text += table(scores, names)
    print(text)
    (options.out / f"restorers-{folder.name}.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
