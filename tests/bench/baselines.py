"""The rivals of the paper on data with a known answer: how real each degradation is, and what it is worth.

    python tests/bench/baselines.py --data DIR --domain ntire-like --scale 4 --seeds 3 --out OUT \\
        [--fit-time 2m] [--iterations 500] [--only deflow,none]

Every method is fitted to the two train folders with the same time budget, and the same small restorer
is trained with the same number of iterations on the pairs that it makes: no degradation, white noise, noise
patches, DSGAN, DASR, CycleGAN, DeFlow, and the true degradation where it is known. Rows are medians over the
seeds, with the lowest and the highest. Realism is that of the degraded test pictures beside the real noisy
ones of the same scenes. The program's own commands are run; what OUT holds already is used again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from realism_data import Domain, files, load_domain, read
from restorers import PATCHES, deflow, lay_out, save, score, train

from deflow_cli.data.images.resize import downsample

NETWORKS = ("deflow", "dsgan", "dasr", "cyclegan")
METHODS = ("none", "white-noise", "noise-patches", *NETWORKS)
FIGURES = {  # of `score --realism`, by section and name
    "KL": ("residuals", "KL of histograms"),
    "ACF": ("residuals", "autocorrelation"),
    "PSD dB": ("residuals", "spectrum"),
    "AKLD": ("residuals", "AKLD"),
    "KID": ("told apart by", "KID, NSS features"),
}
QUALITY = {"PSNR": "psnr", "SSIM": "ssim", "NIQE": "niqe"}


def fit(method: str, folder: Path, run: Path, budget: str, scale: int, seed: int) -> None:
    """Fit a method to the two train folders, unless it was."""
    if (run / "model.safetensors").exists():
        return
    shutil.rmtree(run, ignore_errors=True)
    settings = ["fit.report=false"]
    if method != "deflow":
        settings.append(f"{method}.scale={scale}")
        if method != "cyclegan":
            settings.append(f"{method}.features=none")
    clean = folder / ("lr" if method == "deflow" else "hr")  # DeFlow's clean side is made small beforehand
    options = ["--method", method, "--preset", "tiny", "--time-budget", budget, "--seed", str(seed)]
    for setting in settings:
        options += ["--set", setting]
    deflow("fit", str(clean), str(folder / "noisy"), "--out", str(run), "--device", "cpu", *options)


def degrader_options(method: str, folder: Path, run: Path) -> list[str]:
    """How `make-pairs` is told of a method."""
    options = ["--degrader", method]
    if method in NETWORKS:
        return [*options, "--model", str(run)]
    if method == "white-noise":
        return [*options, "--noisy", str(folder / "noisy")]
    if method == "noise-patches":
        return [*options, "--noisy", str(folder / "noisy"), *PATCHES]
    return options


def realism(folder: Path, degraded: Path) -> dict[str, float]:
    """How real the degraded test pictures are."""
    told = deflow(
        "score", "--realism", str(folder / "test" / "noisy"), str(degraded),
        "--clean", str(folder / "test" / "small"), "--quick", "--json",
    )  # fmt: skip
    rows = json.loads(told)["synthetic"][0]["figures"]
    found = {(row["section"], row["name"]): row["value"] for row in rows}  # None: infinite or undefined
    return {name: found[key] for name, key in FIGURES.items() if found.get(key) is not None}


def measure(
    method: str, folder: Path, work: Path, options: argparse.Namespace, seed: int
) -> dict[str, float]:
    """Every figure of one method and one seed."""
    done = work / "figures.json"
    if done.exists():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    work.mkdir(parents=True, exist_ok=True)
    scale, found = options.scale, {}
    if method == "truth":
        pairs = folder / "e-truth"
    else:
        if method in NETWORKS:
            fit(method, folder, work / "fit", options.fit_time, scale, seed)
        chosen = degrader_options(method, folder, work / "fit")
        chosen += ["--scale", str(scale), "--seed", str(seed)]
        pairs = work / "pairs"
        deflow("make-pairs", str(folder / "hr"), str(pairs), *chosen)
        degraded = work / "degraded"
        shutil.rmtree(degraded, ignore_errors=True)
        made = work / "test-pairs"
        deflow("make-pairs", str(folder / "test" / "clean"), str(made), *chosen)
        names = [path.stem for path in files(folder / "test" / "clean")]
        for name, path in zip(names, files(made / "lq"), strict=True):
            save(degraded / f"{name}.png", read(path))
        found |= realism(folder, degraded)
    train(pairs, work / "restorer", options.iterations, [f"sr.seed={seed}", *options.set])
    restored = work / "restored"
    shutil.rmtree(restored, ignore_errors=True)
    noisy = folder / "test" / "noisy"
    deflow("restore", str(noisy), str(restored), "--model", str(work / "restorer"), "--device", "cpu")
    scores = score([restored], folder / "test" / "clean")["restored"]
    found |= {name: scores[key] for name, key in QUALITY.items()}
    done.write_text(json.dumps(found), encoding="utf-8")
    return found


def lay_out_all(domain: Domain, options: argparse.Namespace, folder: Path) -> None:
    """Train folders, true pairs and test as `restorers.py` has them, and the small clean pictures."""
    if (folder / "ready").exists():
        return
    lay_out(domain, options.data, options.domain, options.scale, folder)
    for source, target in (("test/clean", "test/small"), ("hr", "lr")):
        for path in files(folder / source):
            pixels = read(path)
            height, width = (side // options.scale * options.scale for side in pixels.shape[:2])
            pixels = pixels[:height, :width]
            small = pixels if options.scale == 1 else downsample(pixels, options.scale, "matlab")
            save(folder / target / path.name, small)
    (folder / "ready").touch()


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Markdown: the median of each figure, and its lowest and highest where there are several seeds."""
    names = [*FIGURES, *QUALITY]
    lines = ["| method | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for method, rows in found.items():
        cells = [_cell([row[name] for row in rows if name in row], name) for name in names]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float], name: str) -> str:
    if not values:
        return "–"
    digits = 2 if name in ("PSNR", "NIQE", "PSD dB") else 3
    text = f"{statistics.median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--domain", default="ntire-like", help="ntire-like, aim-like, polyu_camera ...")
    parser.add_argument("--scale", type=int, choices=(1, 4), default=4, help="1 leaves DASR out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--fit-time", default="2m", help="time budget of each fit")
    parser.add_argument("--iterations", type=int, default=500, help="of each restorer")
    parser.add_argument("--only", default="", help="some of the methods, by commas")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of sr-train")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    options = parser.parse_args()
    chosen: list[str] = options.only.split(",") if options.only else [*METHODS, "truth"]
    if options.scale == 1:
        chosen = [name for name in chosen if name != "dasr"]  # it makes pictures smaller
    folder = options.out / f"{options.domain}-x{options.scale}"
    lay_out_all(load_domain(options.data, options.domain), options, folder)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    write: Callable[[str], int] = (options.out / f"baselines-{folder.name}.md").write_text
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for method in chosen:
            started = time.perf_counter()
            work = folder / method / f"seed-{seed}"
            found[method].append(measure(method, folder, work, options, seed))
            print(
                f"{method}, seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True
            )
            write(table(found) + "\n")
    title = f"{options.domain}, x{options.scale}: {options.seeds} seeds, fits of {options.fit_time}, "
    print(f"{title}restorers of {options.iterations} iterations\n\n{table(found)}")


if __name__ == "__main__":
    main()
