"""What is a degradation model worth? The same small restorer trained on the pairs of each degrader.

    python tests/bench/restorers.py --data DIR --domain ntire-like --model MODEL --out DIR

Training pairs are made of the domain's clean train pictures by (a) no degradation, (b) white noise tuned on
the noisy folder and spectral noise, (c) noise patches, (d) the model, (e) the true degradation (known recipe:
drawn on the clean pictures). Everything else is equal: pictures, network, iterations, seed. Each restorer is
applied to the paired test; the last column says how much of the way from (a) to (e) it went, in PSNR. The
commands of the command line are run as a user would run them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from realism_data import Domain, Pair, files, load_domain, read

METRICS = ("psnr", "ssim", "niqe")
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


def lay_out(domain: Domain, data: Path, name: str, folder: Path) -> None:
    """HR, noisy, the paired test, and the true pairs, as folders of PNGs."""
    listed = (data / "synthetic" / "train_clean.txt").read_text(encoding="utf-8").split()
    for index, file in enumerate(listed):
        clean = read(data / "bsd" / "train" / file)
        save(folder / "hr" / f"{Path(file).stem}.png", clean)
        if domain.redraw is not None:
            save(folder / "e-truth" / "gt" / f"{index:07d}.png", clean)
            pair = Pair(Path(file).stem, clean, clean)
            save(folder / "e-truth" / "lq" / f"{index:07d}.png", domain.redraw(pair, 5))
    for path in files(data / "synthetic" / name / "train_noisy"):
        save(folder / "noisy" / f"{path.stem}.png", read(path))
    for pair in domain.pairs:
        save(folder / "test" / "clean" / f"{pair.name}.png", pair.clean)
        save(folder / "test" / "noisy" / f"{pair.name}.png", pair.noisy)


def make_pairs(folder: Path, model: Path) -> dict[str, Path]:
    """The training pairs of each degrader."""
    noisy, hr = str(folder / "noisy"), str(folder / "hr")
    choices = {
        "a none": ["--degrader", "none"],
        "b white": ["--degrader", "white-noise", "--noisy", noisy],
        "b spectral": ["--degrader", "spectral", "--noisy", noisy, "--flattest", "0.25"],
        "c patches": ["--degrader", "noise-patches", "--noisy", noisy, *PATCHES],
        "d deflow": ["--degrader", "deflow", "--model", str(model)],
    }
    made = {}
    for name, options in choices.items():
        out = folder / name.replace(" ", "-")
        deflow("make-pairs", hr, str(out), "--scale", "1", *options)
        made[name] = out
    return made | {"e truth": folder / "e-truth"}


def train(pairs: Path, run: Path, iterations: int, settings: list[str]) -> None:
    options = ["--stage", "psnr", "--preset", "tiny", "--iterations", str(iterations), "--device", "cpu"]
    for setting in settings:
        options += ["--set", setting]
    deflow("sr-train", str(pairs), "--out", str(run), *options)


def score(outputs: list[Path], clean: Path) -> dict[str, dict[str, float]]:
    """Mean of each metric, by folder name."""
    told = deflow("score", *map(str, outputs), "--ref", str(clean), "--metrics", ",".join(METRICS), "--json")
    document = json.loads(told)
    return {
        method["name"]: {name: entry["mean"] for name, entry in method["metrics"].items()}
        for method in document["methods"]
    }


def table(scores: dict[str, dict[str, float]], names: list[str]) -> str:
    lines = ["| trained on | PSNR | SSIM | NIQE | of the gap |", "| --- | ---: | ---: | ---: | ---: |"]
    low, high = scores["a-none"]["psnr"], scores["e-truth"]["psnr"]
    for name in names:
        row = scores[name.replace(" ", "-")]
        share = (row["psnr"] - low) / (high - low) if name != "input" else float("nan")
        told = "" if name == "input" else f"{share:.0%}"
        lines.append(f"| {name} | {row['psnr']:.2f} | {row['ssim']:.4f} | {row['niqe']:.2f} | {told} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--domain", default="ntire-like", help="a synthetic domain, whose recipe is known")
    parser.add_argument("--model", type=Path, required=True, help="fitted to the domain's two train folders")
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of sr-train")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    options = parser.parse_args()
    folder = options.out / options.domain
    domain = load_domain(options.data, options.domain)
    if not (folder / "test").exists():
        lay_out(domain, options.data, options.domain, folder)
    outputs = []
    for name, pairs in make_pairs(folder, options.model).items():
        started = time.perf_counter()
        run, out = folder / "runs" / name.replace(" ", "-"), folder / "out" / name.replace(" ", "-")
        if not (run / "restorer.safetensors").exists():
            train(pairs, run, options.iterations, options.set)
        deflow("restore", str(folder / "test" / "noisy"), str(out), "--model", str(run), "--device", "cpu")
        outputs.append(out)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    scores = score(outputs, folder / "test" / "clean")
    scores["input"] = score([folder / "test" / "noisy"], folder / "test" / "clean")["noisy"]
    names = ["input", *(out.name.replace("-", " ", 1) for out in outputs)]
    text = f"{options.domain}, {len(domain.pairs)} pairs, {options.iterations} iterations\n\n"
    text += table(scores, names)
    print(text)
    (options.out / f"restorers-{options.domain}.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
