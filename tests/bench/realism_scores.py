"""Every realism figure of `deflow score --realism`, for rivals, floors and models, in one table.

    python tests/bench/realism_scores.py --data DIR --domain ntire-like|isp|polyu_camera|photos \\
        [--models NAME=model.safetensors ...]

Rows are figures, columns degraders: white noise of the best single sigma, white noise that knows each
picture's own level, the true recipe drawn again where it is known, the spectral rival, the embedded model,
and the models named. Beside each figure stands what two halves of the real pictures score, or the bound.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from drawn_noise import DrawnSpectralNoise, WhiteNoise
from realism import apply, as_float, best_white, model_degrader, real_statistics, write
from realism_data import Domain, Pair, Pixels, load_domain

from deflow_cli.checkpoints.registry import embedded_model
from deflow_cli.degraders.noise.spectral import SpectralNoise
from deflow_cli.paths import weights_folder
from deflow_cli.reports.pages.realism_page import render_realism
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.realism.assess import Assessment, RealSide, assess, measure_real
from deflow_cli.workflows.realism.data import NoisyImage, NoisySet
from deflow_cli.workflows.realism.figures import Figure, figures
from deflow_cli.workflows.realism.view import realism_page, shown

Degrade = Callable[[Pair, int], Pixels]  # pair, seed -> the degraded clean picture


def own_level(pair: Pair, seed: int) -> Pixels:
    """White noise that knows the picture's own noise level."""
    sigma = float((as_float(pair.noisy) - as_float(pair.clean)).std())
    return apply(WhiteNoise(sigma).degrade, [pair], seed)[0]


def degraders(domain: Domain, models: Sequence[str]) -> dict[str, Degrade]:
    """All columns of the table."""
    _, sigma = best_white(domain.pairs, real_statistics(domain.pairs))
    quiet = DrawnSpectralNoise(
        SpectralNoise.from_images(domain.clean(), domain.noisy(), quiet=0.25, match_content=True)
    )
    drawn = {f"white, best σ ({sigma * 255:.1f})": WhiteNoise(sigma).degrade, "spectral": quiet.degrade}
    drawn["embedded"] = model_degrader(str(embedded_model(weights_folder())), 1.0)
    for entry in models:
        name, _, path = entry.rpartition("=")
        drawn[name or Path(path).stem] = model_degrader(path, 1.0)

    def by(
        degrade_fn: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    ) -> Callable[[Pair, int], Pixels]:
        return lambda pair, seed: apply(degrade_fn, [pair], seed)[0]

    found: dict[str, Degrade] = {}
    if domain.redraw is not None:
        found["recipe again"] = domain.redraw
    return found | {"white, own σ": own_level} | {name: by(degrade_fn) for name, degrade_fn in drawn.items()}


def synthetic(name: str, degrade: Degrade, pairs: Sequence[Pair], samples: int) -> NoisySet:
    """Samples of each clean test picture."""
    images = [
        NoisyImage(
            pair.name,
            tuple(degrade(pair, sample * 10_007 + index) for sample in range(1, samples + 1)),
            pair.clean,
        )
        for index, pair in enumerate(pairs)
    ]
    return NoisySet(name, tuple(images), len(images))


def table(real: RealSide, found: Sequence[Assessment]) -> str:
    """Markdown: a row per figure."""
    columns: list[list[Figure]] = [figures(real, one) for one in found]
    keys = list(dict.fromkeys((row.section, row.name) for column in columns for row in column))
    lines = ["| figure | beside | " + " | ".join(one.name for one in found) + " |"]
    lines.append("| --- | ---: |" + " ---: |" * len(found))
    for key in keys:
        rows = [next((row for row in column if (row.section, row.name) == key), None) for column in columns]
        first = next(row for row in rows if row is not None)
        common = first.against in ("real", "real halves", "ideal") and first.reference == first.reference
        beside = f"{shown(first.reference, first.digits)} ({first.against})" if common else first.against
        cells = [_cell(row, common) for row in rows]
        lines.append(f"| {key[0]}: {key[1]} | {beside} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Figure | None, common: bool) -> str:
    if row is None:
        return "–"
    text = shown(row.value, row.digits)
    return (
        text if common or row.reference != row.reference else f"{text} ({shown(row.reference, row.digits)})"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the layout of README.md")
    parser.add_argument("--domain", default="photos", help="ntire-like, isp, polyu_camera, photos ...")
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--samples", type=int, default=2, help="degradations of each test picture")
    parser.add_argument("--limit", type=int, default=0, help="only so many test pairs, 0: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for scores-DOMAIN.md, .json and .html")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    domain = load_domain(options.data, options.domain)
    pairs = domain.pairs[: options.limit or None]
    reals = [NoisyImage(pair.name, (pair.noisy,), pair.clean) for pair in pairs]
    real = measure_real(NoisySet("real", tuple(reals), len(reals)), 0, False, None, Silent())
    found = []
    for name, degrade in degraders(domain, options.models).items():
        made = synthetic(name, degrade, pairs, options.samples)
        found.append(assess(real, made, seed=0, quick=False, inception=None, reporter=Silent()))
    text = f"{options.domain}, {len(pairs)} pairs, {options.samples} samples of each\n\n{table(real, found)}"
    sentences = [f"- {one.name}: " + " ".join(f.sentence for f in one.findings) for one in found]
    text += "\n\n" + "\n".join(sentences)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / f"scores-{options.domain}.md", (text + "\n").encode())
        rows = {one.name: [vars(row) for row in figures(real, one)] for one in found}
        write(options.out / f"scores-{options.domain}.json", json.dumps(rows, indent=1).encode())
        page = render_realism(realism_page(real, found))
        write(options.out / f"scores-{options.domain}.html", page.encode())


if __name__ == "__main__":
    main()
