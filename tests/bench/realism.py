"""How real are the samples? Residual statistics of degraders on a paired test, in one table.

    python tests/bench/realism.py --domain photos      # packaged photographs, no other data needed
    python tests/bench/realism.py --data DIR --domain ntire-like|isp|polyu_camera \\
        [--models NAME=model.safetensors ...]

See README.md beside this file for the folder layout and for what each column means. To measure another
degrader from Python: ``measure(name, degrade_fn, pairs)``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from drawn_noise import DrawnSpectralNoise, WhiteNoise
from numpy.typing import NDArray
from PIL import Image
from realism_data import Domain, Pair, Pixels, load_domain, with_draws

from deflow_cli.degraders.noise.spectral import SpectralNoise
from deflow_cli.metrics.noise.comparison import ResidualStatistics, compare
from deflow_cli.metrics.noise.residual import aligned_bins, kl_divergence, level_histogram, low_pass_psnr
from deflow_cli.reports.contact_sheet import contact_sheet, residual_view

DegradeFn = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
LOWER_IS_BETTER = (
    "kl", "kl_neca", "kl_image", "kl_naf", "acf_rms", "acf_rms_image", "psd_db", "noise_level_rms",
)  # fmt: skip


# ------------------------------------------------------------------ measuring


def as_float(pixels: Pixels) -> NDArray[np.float64]:
    return pixels.astype(np.float64) / 255.0


def statistics(pairs: Sequence[Pair], outputs: Sequence[Pixels]) -> ResidualStatistics:
    return ResidualStatistics.of(
        (as_float(output) - as_float(pair.clean) for pair, output in zip(pairs, outputs, strict=True)),
        (as_float(pair.clean) for pair in pairs),
    )


def real_statistics(pairs: Sequence[Pair]) -> ResidualStatistics:
    return statistics(pairs, [pair.noisy for pair in pairs])


def apply(degrade_fn: DegradeFn, pairs: Sequence[Pair], seed: int = 0) -> list[Pixels]:
    """Degrade every clean test picture, one generator per picture, and quantise to 8 bits."""
    outputs = []
    for index, pair in enumerate(pairs):
        image = torch.from_numpy(as_float(pair.clean).astype(np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            output = degrade_fn(image, torch.Generator().manual_seed(seed * 100_003 + index))
        array = output[0].permute(1, 2, 0).double().clamp(0, 1).cpu().numpy()
        outputs.append(np.rint(array * 255.0).astype(np.uint8))
    return outputs


def figures(
    name: str, pairs: Sequence[Pair], outputs: Sequence[Pixels], real: ResidualStatistics
) -> dict[str, float | str]:
    """The table's row for pictures already made."""
    psnr = [low_pass_psnr(as_float(pair.clean), as_float(o)) for pair, o in zip(pairs, outputs, strict=True)]
    row: dict[str, float | str] = {"name": name}
    row.update(compare(real, statistics(pairs, outputs)))
    row["low_pass_psnr"] = float(np.mean(psnr))
    row["low_pass_psnr_least"] = float(np.min(psnr))
    return row


def measure(
    name: str,
    degrade_fn: DegradeFn,
    test_pairs: Sequence[Pair],
    real: ResidualStatistics | None = None,
    seed: int = 0,
) -> dict[str, float | str]:
    """Degrade the clean test pictures and measure them against the real noisy ones.

    degrade_fn: (1 x 3 x H x W in [0, 1], generator) -> the same shape. ``real``: `real_statistics` of the
    pairs, if known already. Returns ``name``, ``seconds`` and the figures that README.md explains.
    """
    start = time.perf_counter()
    outputs = apply(degrade_fn, test_pairs, seed)
    seconds = time.perf_counter() - start
    row = figures(name, test_pairs, outputs, real_statistics(test_pairs) if real is None else real)
    return {**row, "seconds": seconds}


# ------------------------------------------------------------------ rivals and floors


def thinned(pairs: Sequence[Pair], most: int = 20) -> list[Pair]:
    """At most so many of the pairs, evenly spread: enough for a search."""
    return [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, most).round().astype(int))]


def white_sigmas(pairs: Sequence[Pair], real: ResidualStatistics) -> dict[str, float]:
    """The oracle sigmas of white noise: matching the pooled std, least pooled KL, least PSD error."""
    target, some = aligned_bins(real.histograms.sum(axis=0)), thinned(pairs)

    def histogram(sigma: float) -> NDArray[np.int64]:
        total = np.zeros(511, dtype=np.int64)
        for pair, output in zip(some, apply(WhiteNoise(sigma).degrade, some, seed=1), strict=True):
            total += level_histogram(as_float(output) - as_float(pair.clean))
        return total

    grid = real.std * np.linspace(0.6, 1.2, 13)
    histograms = [histogram(float(sigma)) for sigma in grid]
    levels = np.arange(-255, 256) / 255.0
    # clipping at black and white makes the output weaker than sigma, so match what comes out
    stds = [
        np.sqrt(np.average(levels**2, weights=h) - np.average(levels, weights=h) ** 2) for h in histograms
    ]
    return {
        "std": float(np.interp(real.std, stds, grid)),
        "kl": float(grid[np.argmin([kl_divergence(target, aligned_bins(h)) for h in histograms])]),
        "psd": float(10.0 ** (np.nanmedian(real.psd_db) / 20.0) / 255.0),
    }


def best_white(pairs: Sequence[Pair], real: ResidualStatistics) -> tuple[dict[str, float | str], float]:
    """White noise as strong as one sigma can be: per metric the best of the oracle's; and the std's sigma."""
    sigmas = white_sigmas(pairs, real)
    rows = [measure("", WhiteNoise(sigma).degrade, pairs, real) for sigma in sigmas.values()]
    best = dict(rows[0])
    for key in LOWER_IS_BETTER:
        best[key] = min(float(row[key]) for row in rows)
    best["name"] = (
        f"white, best σ per column ({', '.join(f'{sigma * 255:.1f}' for sigma in sigmas.values())})"
    )
    return best, sigmas["std"]


def folder_rivals(domain: Domain) -> dict[str, DegradeFn]:
    """Rivals that see the two train folders and nothing of the test."""
    plain = DrawnSpectralNoise(SpectralNoise.from_images(domain.clean(), domain.noisy()))
    quiet = DrawnSpectralNoise(
        SpectralNoise.from_images(domain.clean(), domain.noisy(), quiet=0.25, match_content=True)
    )
    gray = torch.full((1, 3, 512, 512), 0.5)
    blind = float((quiet.degrade(gray, torch.Generator().manual_seed(0)) - gray).std())
    return {
        "spectral": plain.degrade,
        "spectral, quiet patches": quiet.degrade,
        "white, σ from the two folders": WhiteNoise(blind).degrade,
    }


def white_per_image(pairs: Sequence[Pair], real: ResidualStatistics) -> list[Pixels]:
    """White noise that knows each picture's own noise level."""
    return [
        apply(WhiteNoise(float(np.sqrt(real.moments[index, 2]))).degrade, [pair], seed=2 + index)[0]
        for index, pair in enumerate(pairs)
    ]


def floor_rows(domain: Domain, real: ResidualStatistics) -> list[dict[str, float | str]]:
    """Real against real: alternate pictures, left against right halves, and a second draw of the recipe."""
    rows: list[dict[str, float | str]] = [
        {"name": "real: every other picture against the rest", **compare(real[::2], real[1::2])}
    ]
    halves = []
    for side in (0, 1):
        parts = []
        for pair in domain.pairs:
            width = pair.clean.shape[1] // 2
            columns = slice(side * width, (side + 1) * width)
            parts.append(Pair(pair.name, pair.clean[:, columns], pair.noisy[:, columns]))
        halves.append(real_statistics(parts))
    rows.append({"name": "real: left against right halves", **compare(*halves)})
    if domain.redraw is not None:
        outputs = [domain.redraw(pair, 0) for pair in domain.pairs]
        rows.append(figures("real: the recipe drawn again", domain.pairs, outputs, real))
    return rows


# ------------------------------------------------------------------ showing


def table(rows: Sequence[dict[str, float | str]], real: ResidualStatistics, pairs: Sequence[Pair]) -> str:
    """The markdown table; the first row holds the real noise's own values where it has any."""
    head = [
        "noise", "KL, pooled", "KL, per image", "ACF RMS", "PSD dB", "std ratio", "kurtosis",
        "kurtosis per image", "channel corr.",
        "low-pass PSNR", "colour shift", "std flat", "std dark", "std bright",
    ]  # fmt: skip
    psnr = float(np.mean([low_pass_psnr(as_float(pair.clean), as_float(pair.noisy)) for pair in pairs]))
    values = [
        "", "", "", "", f"std {real.std * 255:.2f}",
        f"{real.excess_kurtosis:.2f}", f"{real.image_kurtosis:.2f}",
        ", ".join(f"{c:.2f}" for c in real.channel_correlation), f"{psnr:.1f}",
        ", ".join(f"{c * 255:+.2f}" for c in real.colour_shift),
        *(f"{value * 255:.2f}" for value in real.region_std.values()),
    ]  # fmt: skip
    lines = [
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
        "| " + " | ".join(["real (values)", *values]) + " |",
    ]
    formats = (
        ("kl", "{:.4f}"), ("kl_image", "{:.4f}"), ("acf_rms", "{:.4f}"), ("psd_db", "{:.2f}"),
        ("std_ratio", "{:.3f}"), ("kurtosis_fake", "{:.2f}"), ("kurtosis_image_fake", "{:.2f}"),
        ("channel_correlation_rms", "±{:.2f}"), ("low_pass_psnr", "{:.1f}"), ("colour_shift", "{:.2f}"),
        ("std_flat_fake", "{:.2f}"), ("std_dark_fake", "{:.2f}"), ("std_bright_fake", "{:.2f}"),
    )  # fmt: skip
    for row in rows:
        values = [
            form.format(row[key]) if key in row and row[key] == row[key] else "–" for key, form in formats
        ]
        lines.append("| " + " | ".join([str(row["name"]), *values]) + " |")
    return "\n".join(lines)


def sheet(
    pairs: Sequence[Pair], made: dict[str, list[Pixels]], gain: int, rows: int = 5, side: int = 96
) -> Pixels:
    """Crops: clean, real noisy, each degrader's, then all residuals amplified; pixels doubled."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, rows).round().astype(int))
    lines, labels = [], []
    for index in chosen:
        pair = pairs[index]
        height, width, _ = pair.clean.shape
        top, left = (height - side) // 2, (width - side) // 3
        window = (slice(top, top + side), slice(left, left + side))
        outputs = {"real": pair.noisy, **{name: outputs[index] for name, outputs in made.items()}}
        residuals = [
            residual_view(as_float(o[window]) - as_float(pair.clean[window]), gain) for o in outputs.values()
        ]
        lines.append([pair.clean[window], *(o[window] for o in outputs.values()), *residuals])
        labels.append(pair.name[:18])
    columns = ["clean", "real", *made, f"real residual x{gain}", *(f"{name} x{gain}" for name in made)]
    return contact_sheet(lines, columns, labels, scale=2)


def write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def model_degrader(path: str, temperature: float) -> DegradeFn:
    from deflow_cli import load_model

    model = load_model(path)
    return lambda image, generator: model.degrade(image, temperature=temperature, generator=generator)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the layout of README.md")
    parser.add_argument(
        "--domain", default="photos", help="ntire-like, aim-like, scan-like, isp, polyu_camera, photos"
    )
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument(
        "--draws", type=int, default=0, help="redraw the test: N degradations of each picture"
    )
    parser.add_argument(
        "--samples", type=int, default=1, help="degradations of each picture by every degrader, pooled"
    )
    parser.add_argument("--limit", type=int, default=0, help="only so many test pairs, 0: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for realism-DOMAIN.md and .json")
    parser.add_argument("--sheet", type=Path, help="contact sheet to write, PNG")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    domain = load_domain(options.data, options.domain)
    if options.draws:
        domain = with_draws(domain, options.draws)
    pairs = domain.pairs[: options.limit or None]
    domain = replace(domain, pairs=pairs)
    real = real_statistics(pairs)
    rows = floor_rows(domain, real)
    white, sigma = best_white(pairs, real)
    rows.append(white)
    rows.append(figures("white, each picture's own σ", pairs, white_per_image(pairs, real), real))
    degraders: dict[str, DegradeFn] = {}
    for entry in options.models:
        name, _, path = entry.rpartition("=")
        degraders[name or Path(path).stem] = model_degrader(path, options.temperature)
    degraders["white"] = WhiteNoise(sigma).degrade
    repeated = list(pairs) * options.samples
    real_repeated = real_statistics(repeated) if options.samples > 1 else real
    degraders.update(folder_rivals(domain))
    made: dict[str, list[Pixels]] = {}
    for name, degrade_fn in degraders.items():
        made[name] = apply(degrade_fn, repeated)
        if name != "white":
            rows.append(figures(name, repeated, made[name], real_repeated))
    text = (
        f"{options.domain}, {len(pairs)} pairs, {options.samples} samples of each, temperature "
        f"{options.temperature}\n\n" + table(rows, real, pairs)
    )
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / f"realism-{options.domain}.md", (text + "\n").encode())
        write(options.out / f"realism-{options.domain}.json", json.dumps(rows, indent=1).encode())
    if options.sheet:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        pixels = sheet(pairs, made, gain=8 if real.std * 255 < 8 else 4)
        Image.fromarray(pixels).save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
