"""Compare two checkouts: the same commands on the same small images must write the same files.

    python tests/bench/compare_checkouts.py OLD NEW [--work DIR] [--only fit,degrade]

OLD and NEW are folders that hold ``deflow_cli``; both run in this interpreter's environment. Fits, degrades,
makes pairs with every degrader and in every format, trains a restorer on pairs and on clean images, restores,
scores, inspects and exports, a few steps of each. Prints a line per command and exits with 1 where a file is
missing, new or different. Pages (HTML) are left out, and times, paths and versions inside records.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STEPS = "--set fit.iterations=6 --set fit.patch_size=48 --set fit.batch_size=2 --set fit.validate_every=3 "
STEPS += "--set fit.preview_every=3 --set fit.checkpoint_every=3 --set fit.log_every=2 --set fit.cache_mib=64"
SMALL_FLOW = "--set flow.levels=2 --set flow.steps=2 --set flow.hidden_channels=16 --downsample 4"
SR_STEPS = "--device cpu --set sr.batch_size=2 --set sr.gt_size=32 --set sr.validate_every=2"
SR_STEPS += " --set sr.time_budget=0"
SR_STEPS += " --set sr.checkpoint_every=2 --set sr.log_every=1 --set psnr.iterations=3 --set gan.iterations=3"
GAN = "--arch rrdb-tiny --stage both --perceptual none --discriminator patch --select psnr"
LEFT_OUT = {".html", ".lock", ".mdb-lock"}
UNSTABLE = {"seconds", "working_folder", "out", "run_dir", "torch", "python", "deflow", "created", "path"}
UNSTABLE_METADATA = {"modelspec.date"}

# name: what it needs, and its arguments below the working folder
COMMANDS: dict[str, str] = {
    "fit": f"fit clean noisy --out run --preset tiny --device cpu {STEPS} {SMALL_FLOW}",
    "fit-mixture": f"fit clean noisy --out mix --preset tiny --device cpu {STEPS} {SMALL_FLOW}"
    " --set flow.shift=mixture:2 --set flow.splits=all --memory low --set fit.ema=0.9",
    "fit-published": f"fit clean noisy --out aim --preset aim --device cpu {STEPS} {SMALL_FLOW}"
    " --set encoder.blocks=2 --set encoder.stacked_blocks=0,1 --set encoder.channels=16"
    " --set fit.start=constant --set fit.shift_update=gradient",
    "inspect": "inspect run --json",
    "degrade": "degrade clean degraded --model run --samples 2 --temperature 0.8 --device cpu --json",
    "degrade-mixture": "degrade clean degraded-mix --model mix --temperature 0.5:1.2 --seed 3 --tile 64",
    "degrade-like": "degrade clean degraded-like --model run --like noisy/0.png",
    "reverse": "degrade noisy reversed --model run --reverse",
    "embedded": "degrade clean degraded-embedded",
    "pairs-deflow": "make-pairs clean pairs --scale 2 --device cpu --variants 2 --crop 32",
    "pairs-white": "make-pairs clean pairs-white --degrader white-noise --sigma 8 --scale 2",
    "pairs-tuned": "make-pairs clean pairs-tuned --degrader white-noise --noisy noisy --scale 1"
    " --format lmdb",
    "pairs-spectral": "make-pairs clean pairs-spectral --degrader spectral --noisy noisy --scale 1"
    " --format webdataset --flattest 0.5",
    "pairs-patches": "make-pairs clean pairs-patches --degrader noise-patches --noisy noisy --scale 1"
    " --patch-size 128 --patch-variance 4000 --patch-mean 0",
    "pairs-none": "make-pairs clean pairs-none --degrader none --scale 4 --resize matlab-double",
    "sr-pairs": f"sr-train pairs --out restorer --preset tiny {SR_STEPS} {GAN}",
    "sr-hr": f"sr-train --hr clean --out restorer-hr --preset tiny --scale 2 {SR_STEPS} {GAN}",
    "restore": "restore degraded restored --model restorer --device cpu",
    "score": "score degraded-like degraded-mix --ref clean --metrics psnr,ssim,niqe,piqe"
    " --csv score.csv --json",
    "realism": "score --realism noisy degraded-like --clean clean --quick --json",
    "export": "export restorer restorer.pth",
}


def write_images(folder: Path) -> None:
    """Six clean pictures of 208 x 192 pixels, smooth shapes with some texture, and six noisy others."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:208, :192] / 96.0
    for domain in ("clean", "noisy"):
        (folder / domain).mkdir(parents=True)
        for index in range(6):
            waves = [np.sin(rows * a + columns * b + c) for a, b, c in random.uniform(1, 25, (3, 3))]
            picture = 128 + 60 * np.stack(waves, axis=-1) + 20 * (random.random() - 0.5)
            if domain == "noisy":
                noise = random.normal(0, 9, picture.shape)
                picture = picture + 0.6 * noise + 0.4 * np.roll(noise, 1, axis=1)
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / domain / f"{index}.png")


def run(checkout: Path, folder: Path, name: str) -> str:
    """One command in a checkout; its last line on failure, else nothing. Results on stdout become a file."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "deflow_cli", *COMMANDS[name].split()]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
    if "--json" in command:
        (folder / f"{name}.stdout.json").write_text(done.stdout)
    return ""


def stable(value: Any) -> Any:
    """JSON without what changes from run to run."""
    if isinstance(value, dict):
        return {key: stable(item) for key, item in value.items() if key not in UNSTABLE}
    if isinstance(value, list):
        return [stable(item) for item in value]
    return value


def content(path: Path) -> str:
    """A hash of what a file says."""
    if path.suffix == ".safetensors":
        return _digest("".join(_safetensors(path)).encode())
    if path.suffix in (".json", ".jsonl"):
        text = path.read_text(encoding="utf-8")
        parts = [text] if path.suffix == ".json" else text.splitlines()
        return _digest(json.dumps([stable(json.loads(part)) for part in parts], sort_keys=True).encode())
    if path.suffix == ".pth":
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors = state.get("params_ema", state)
        return _digest("".join(f"{k}{_digest(v.numpy().tobytes())}" for k, v in tensors.items()).encode())
    return _digest(path.read_bytes())


def _safetensors(path: Path) -> Iterator[str]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        for key in sorted(file.keys()):
            yield f"{key} {_digest(file.get_tensor(key).tobytes())} "
        for key, text in sorted((file.metadata() or {}).items()):
            if key in UNSTABLE_METADATA:
                continue
            try:
                yield f"{key} {json.dumps(stable(json.loads(text)), sort_keys=True)} "
            except ValueError:
                yield f"{key} {text} "


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(folder: Path) -> dict[str, Path]:
    """Files below a folder that count, by their names in it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {p.relative_to(folder).as_posix(): p for p in found if p.suffix not in LEFT_OUT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--work", type=Path, help="kept, and OLD's results in it used again")
    parser.add_argument("--only", default="", help="commands, of: " + ", ".join(COMMANDS))
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="compare-"))
    names = options.only.split(",") if options.only else list(COMMANDS)
    seen: dict[str, set[str]] = {"old": set(), "new": set()}
    for side in seen:
        if not (work / side / "clean").exists():
            write_images(work / side)
    wrong = 0
    for name in names:
        lines = []
        for side, checkout in (("old", options.old), ("new", options.new)):
            marker = work / side / f".{name}.done"
            if side == "new" or not marker.exists():
                if message := run(checkout.resolve(), work / side, name):
                    lines.append(f"{side} failed: {message}")
                else:
                    marker.touch()
        old, new = files(work / "old"), files(work / "new")
        made = {key for key in old.keys() | new.keys() if key not in seen["old"]}
        seen["old"] |= made
        for key in sorted(made):
            if key not in old or key not in new:
                if options.work is None or key in new:
                    lines.append(f"only {'new' if key in new else 'old'}: {key}")
            elif content(old[key]) != content(new[key]):
                lines.append(f"differs: {key}")
        wrong += bool(lines)
        print(
            f"{name:16} {'same, ' + str(len(made)) + ' files' if not lines else '; '.join(lines)}", flush=True
        )
    print(f"{len(names) - wrong} of {len(names)} commands write the same; {work}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
