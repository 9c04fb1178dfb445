"""Two folders to super-resolved noisy photographs: SRFlow, ESRGAN, and SRFlow of clean small pictures.

    python tests/bench/chain.py --data DIR --domain ntire-like --scale 4 --out OUT [--fit-time 2m --time 10m]
    python tests/bench/chain.py --data DIR --domain polyu_camera --scale 2 --out OUT
    python tests/bench/chain.py --domain photos --scale 2 --out OUT

DeFlow is fitted to the clean train folder made small and the noisy one. Restorers are trained for equal times
on the clean folder, made small and degraded by that model (one of them by bicubic alone), and restore the
test's noisy pictures. PSNR, SSIM, NIQE, and "small", the PSNR of results made small against clean pictures of
that size, which is all that can be told where the large picture is not known. What OUT holds already is used
again. OUT/sheet-DOMAIN-xSCALE.png shows crops. The packaged photographs (``photos``) have no other noisy
pictures to restore than those that the model is fitted to.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from realism_data import load_domain, read, tested_on_noisy
from restorers import deflow, lay_out, save

from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.resize import downsample, rescale
from deflow_cli.data.photos import packaged_photos
from deflow_cli.reports.contact_sheet import contact_sheet

CROP, CROPS = 192, 6  # side, px of the large picture, and how many pictures the sheet shows
RESTORERS = {  # name -> options of sr-train
    "ESRGAN, deflow": ("--stage", "psnr", "--preset", "tiny", "--degrader", "deflow"),
    "SRFlow, bicubic": ("--arch", "srflow", "--degrader", "none"),
    "SRFlow, deflow": ("--arch", "srflow", "--degrader", "deflow"),
}
SAMPLED: dict[str, tuple[float | None, ...]] = {
    "SRFlow, bicubic": (0.0, 0.8),
    "SRFlow, deflow": (0.0, 0.8),
}  # temperatures


def lay_out_chain(options: argparse.Namespace, folder: Path) -> None:
    """Folders: hr, small (hr made small), noisy, test/noisy, test/small, and test/clean where it is known."""
    if (folder / "ready").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    domain, known = load_domain(options.data, options.domain), options.scale == 4
    if options.domain == "photos":
        domain = tested_on_noisy(domain, packaged_photos()[1])
    lay_out(domain, options.data, options.domain, options.scale if known else 1, folder)
    for path in list_images(folder / "hr"):
        save(folder / "small" / path.name, small_of(read(path), options.scale))
    paths = list_images(folder / "test" / "clean")
    kept = set(paths[:: max(1, len(paths) // options.pictures)][: options.pictures])
    for path in paths:
        if path not in kept:
            path.unlink()
            (folder / "test" / "noisy" / path.name).unlink()
            continue
        pixels = read(path)
        save(folder / "test" / "small" / path.name, small_of(pixels, options.scale) if known else pixels)
    if not known:
        shutil.rmtree(folder / "test" / "clean")  # of the size of the noisy pictures
    (folder / "ready").touch()


def small_of(pixels: np.ndarray, scale: int) -> np.ndarray:
    height, width = (side // scale * scale for side in pixels.shape[:2])
    return np.asarray(downsample(pixels[:height, :width], scale, "matlab"))


def enlarged(pixels: np.ndarray, scale: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.clip(np.rint(rescale(pixels, scale * height, scale * width)), 0, 255).astype(np.uint8)


def restored(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Folder of the restored test pictures of each method, trained where it was not."""
    model = folder / "fit"
    if not (model / "model.safetensors").exists():
        shutil.rmtree(model, ignore_errors=True)
        how = ["--preset", "tiny", "--time-budget", options.fit_time, "--set", "fit.report=false"]
        deflow(
            "fit", str(folder / "small"), str(folder / "noisy"), "--out", str(model), "--device", "cpu", *how
        )
    found = {"bicubic": folder / "out" / "bicubic"}
    for path in list_images(folder / "test" / "noisy"):
        save(found["bicubic"] / path.name, enlarged(read(path), options.scale))
    for name, how in RESTORERS.items():
        run = folder / "runs" / name.replace(", ", "-")
        if not (run / "restorer.safetensors").exists():
            shutil.rmtree(run, ignore_errors=True)
            data = ["--hr", str(folder / "hr"), "--scale", str(options.scale)]
            if "deflow" in how:
                data += ["--model", str(model)]
            time = ["--time-budget", options.time, "--device", "cpu"]
            deflow("sr-train", *data, *how, *time, "--out", str(run))
        temperatures: tuple[float | None, ...] = SAMPLED.get(name, (None,))
        for temperature in temperatures:
            label = name if temperature is None else f"{name}, T = {temperature:g}"
            found[label] = folder / "out" / label.replace(", ", "-").replace(" ", "")
            if not found[label].exists():
                given = [] if temperature is None else ["--temperature", str(temperature)]
                noisy = str(folder / "test" / "noisy")
                deflow("restore", noisy, str(found[label]), "--model", str(run), "--device", "cpu", *given)
    return found


def figures(out: Path, folder: Path, scale: int) -> dict[str, float]:
    """Means over the test pictures."""
    clean = folder / "test" / "clean"
    reference = (
        ["--ref", str(clean), "--metrics", "psnr,ssim,niqe"] if clean.exists() else ["--metrics", "niqe"]
    )
    told = json.loads(deflow("score", str(out), *reference, "--json"))
    found = {entry["metric"]: entry["mean"] for entry in told["summaries"]}
    small = {path.stem: read(path) for path in list_images(folder / "test" / "small")}
    found["small"] = statistics.mean(
        psnr(small_of(read(path), scale), small[path.stem]) for path in list_images(out)
    )
    return found


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(float(np.square(a.astype(np.float64) - b).mean()), 1e-6)))


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["| restorer | PSNR | SSIM | NIQE | small |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, row in found.items():
        cells = [f"{row[key]:.{digits}f}" if key in row else "–" for key, digits in COLUMNS.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


COLUMNS = {"psnr": 2, "ssim": 4, "niqe": 2, "small": 2}


def sheet(found: Mapping[str, Path], folder: Path, scale: int) -> np.ndarray:
    """Crops, a row a picture: the noisy one, each method's, and the clean one."""
    paths = list_images(folder / "test" / "noisy")[:CROPS]
    clean = folder / "test" / "clean"
    columns = ["noisy", *list(found)[1:], "clean" if clean.exists() else "clean, small"]
    rows = []
    for path in paths:
        noisy = read(path).repeat(scale, 0).repeat(scale, 1)
        if clean.exists():
            last = read(clean / path.name)
        else:
            last = read(folder / "test" / "small" / path.name).repeat(scale, 0).repeat(scale, 1)
        pictures = [noisy, *[read(out / path.name) for out in list(found.values())[1:]], last]
        top, left = ((side - CROP) // 2 for side in noisy.shape[:2])
        rows.append([np.ascontiguousarray(p[top : top + CROP, left : left + CROP]) for p in pictures])
    return np.asarray(contact_sheet(rows, columns, [path.stem for path in paths], scale=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the layout of README.md")
    parser.add_argument("--domain", default="ntire-like")
    parser.add_argument("--scale", type=int, choices=(2, 4), default=4, help="4 has a known large picture")
    parser.add_argument("--fit-time", default="2m", help="time budget of the degradation model")
    parser.add_argument("--time", default="10m", help="time budget of each restorer")
    parser.add_argument("--pictures", type=int, default=8, help="of the test, evenly spread, at most")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    options = parser.parse_args()
    if options.domain == "photos" and options.scale == 4:
        parser.error("photos have no test at scale 4")
    folder = options.out / f"{options.domain}-x{options.scale}"
    lay_out_chain(options, folder)
    found = restored(options, folder)
    Image.fromarray(sheet(found, folder, options.scale)).save(options.out / f"sheet-{folder.name}.png")
    text = table({name: figures(out, folder, options.scale) for name, out in found.items()})
    (options.out / f"chain-{folder.name}.md").write_text(text + "\n", encoding="utf-8")
    title = f"{options.domain}, x{options.scale}: fit of {options.fit_time}, restorers of {options.time}"
    print(f"{title}\n\n{text}")


if __name__ == "__main__":
    main()
