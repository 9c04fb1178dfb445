"""Are the samples as real as they are meant to be? Rivals and models beside targets, median and spread.

    python tests/bench/realism_goals.py --data DIR --domain polyu_camera|isp|scan-like|aim-like \\
        --models tiny=A/model.safetensors,B/model.safetensors,C/model.safetensors [base=...]
    python tests/bench/realism_goals.py --data DIR --domain ntire-like --draws 1 --models tiny=...
    python tests/bench/realism_goals.py --data DIR --domain isp --noisy-folder --limit 50 --models tiny=...

Several files of one name are fits with other seeds, and make one row. The null test asks what a fit finds
where there is nothing to find; see README.md beside this file, which also explains the columns:

    python tests/bench/realism_goals.py --data DIR --domain isp --write-null-folders NULL
    deflow fit NULL/a NULL/b --preset tiny --time-budget 10m --out runs/null
    python tests/bench/realism_goals.py --data DIR --domain isp --null-model runs/null/model.safetensors
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from drawn_noise import WhiteNoise
from realism import DegradeFn, apply, folder_rivals, model_degrader, statistics, white_sigmas, write
from realism_columns import COLUMNS, TARGETS, Column
from realism_data import Domain, load_domain, tested_on_noisy, with_draws
from realism_truth import Run, Truth

FIRST_REDRAW = 101  # the recipe's seeds from here on; --draws counts from 1


# ------------------------------------------------------------------ rows


@dataclass(frozen=True)
class Row:
    """A degrader, measured once for each seed. ``kind``: only rivals and models compete for the best."""

    name: str
    kind: Literal["floor", "rival", "model"]
    runs: list[Run]

    def values(self, key: str) -> list[float]:
        return [run[key] for run in self.runs if not math.isnan(run[key])]

    def median(self, key: str) -> float:
        values = self.values(key)
        return float(np.median(values)) if values else math.nan

    @property
    def medians(self) -> Run:
        return {column.key: self.median(column.key) for column in COLUMNS}

    def cell(self, column: Column) -> str:
        values, median = self.values(column.key), column.shown(self.median(column.key))
        if len(values) < 2:
            return median
        return f"{median} ({column.shown(min(values))}..{column.shown(max(values))})"


def best_white_run(truth: Truth, sigmas: dict[str, float], seed: int) -> Run:
    """White noise of the sigma that matches the test's std; KL, ACF and PSD the best of three sigmas."""
    runs = {}
    for name, sigma in sigmas.items():
        outputs = apply(WhiteNoise(sigma).degrade, truth.pairs, seed)
        runs[name] = truth.measure(outputs, seed) if name == "std" else truth.distances(outputs)
    best = {key: min(run[key] for run in runs.values()) for key in ("kl", "acf_rms", "psd_db")}
    return runs["std"] | best


def rows_of(
    domain: Domain, truth: Truth, models: dict[str, list[DegradeFn]], seeds: int, samples: int = 1
) -> list[Row]:
    """The table's rows: floors, rivals, models.

    A model of a single file is drawn ``seeds`` times too, each of several files ``samples`` times.
    """

    def drawn(degrade_fns: Sequence[DegradeFn]) -> list[Run]:
        return [truth.measure(apply(fn, truth.pairs, seed), seed) for seed, fn in enumerate(degrade_fns)]

    def made() -> Iterable[Row]:
        yield Row("real: random halves", "floor", [truth.halves(seed) for seed in range(seeds)])
        if (redraw := domain.redraw) is not None:
            again = [[redraw(pair, FIRST_REDRAW + seed) for pair in truth.pairs] for seed in range(seeds)]
            runs = [truth.measure(outputs, seed) for seed, outputs in enumerate(again)]
            yield Row("real: the recipe drawn again", "floor", runs)
        sigmas = white_sigmas(truth.pairs, truth.statistics)
        yield Row("white, best σ", "rival", [best_white_run(truth, sigmas, seed) for seed in range(seeds)])
        for name, rival in folder_rivals(domain).items():
            yield Row(name, "rival", drawn([rival] * seeds))
        for name, fits in models.items():
            repeated = fits * (seeds if len(fits) == 1 else samples)
            count = f"{len(fits)} fits" if len(fits) > 1 else "one fit"
            count += f", {len(repeated)} draws" if len(repeated) > len(fits) else ""
            yield Row(f"{name} ({count})", "model", drawn(repeated))

    rows = []
    for row in made():
        print(f"measured: {row.name}", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


# ------------------------------------------------------------------ verdicts


@dataclass(frozen=True)
class Verdict:
    """A model in one column. ``meets``: its median meets the target, None without one; ``met``: its runs
    that do; ``best``: the competing rows, rivals and models, of the least distance from the best value."""

    column: Column
    target: float | None
    meets: bool | None
    met: int
    best: list[str]


def verdicts(model: Row, rows: Sequence[Row], real: Run, domain: str) -> list[Verdict]:
    """Of every column: whether the model meets its target, and whose median is best."""
    found = []
    for column in COLUMNS:
        target = TARGETS.get(domain, {}).get(column.key)
        misses = {
            row.name: column.miss(row.median(column.key), real[column.key])
            for row in rows
            if row.kind != "floor" and row.values(column.key)
        }
        least = min(misses.values(), default=math.nan)
        best = [name for name, miss in misses.items() if miss == least]
        if target is None or not model.values(column.key):
            found.append(Verdict(column, target, None, 0, best))
            continue
        met = sum(column.meets(value, target) for value in model.values(column.key))
        found.append(Verdict(column, target, column.meets(model.median(column.key), target), met, best))
    return found


# ------------------------------------------------------------------ showing


def table(rows: Sequence[Row], truth: Truth) -> str:
    """Markdown: a row per degrader, after the real noise's own values in grey levels and dB."""
    real = [column.shown(truth.values[column.key]) for column in COLUMNS]
    lines = [
        "| noise | " + " | ".join(column.head for column in COLUMNS) + " |",
        "| --- |" + " ---: |" * len(COLUMNS),
        "| real (values) | " + " | ".join(real) + " |",
    ]
    lines += [f"| {row.name} | " + " | ".join(row.cell(column) for column in COLUMNS) + " |" for row in rows]
    return "\n".join(lines)


def verdict_table(model: Row, found: Sequence[Verdict]) -> str:
    lines = [f"| column | target | {model.name} | met | best |", "| --- | ---: | ---: | --- | --- |"]
    for verdict in found:
        column, values = verdict.column, model.values(verdict.column.key)
        target = "–" if verdict.target is None else column.shown_target(verdict.target)
        met = "–" if verdict.meets is None else "yes" if verdict.meets else "no"
        if verdict.meets is not None:
            met += f" ({verdict.met} of {len(values)})"
        if model.name in verdict.best:
            best = "yes" if len(verdict.best) == 1 else "shared"
        else:
            best = f"no: {', '.join(verdict.best)}" if verdict.best else "–"
        lines.append(f"| {column.head} | {target} | {model.cell(column)} | {met} | {best} |")
    return "\n".join(lines)


def null_sentence(stds: Sequence[float], rows: Sequence[Row], real: float) -> str:
    """What fits between two clean halves add beside the real noise, in grey levels."""
    spread = f" ({min(stds):.2f}..{max(stds):.2f})" if len(stds) > 1 else ""
    median = float(np.median(stds))
    text = f"Null test: fitted to two halves of the clean pictures it adds {median:.2f}{spread} grey levels; "
    text += f"the real noise has {real:.2f}, of which this is {100 * median / real:.0f} %"
    added = [f"{row.name} {row.median('std_fake'):.2f}" for row in rows if row.kind == "model"]
    return text + ("; models add " + ", ".join(added) if added else "") + "."


# ------------------------------------------------------------------ command line


def write_null_folders(domain: Domain, out: Path) -> None:
    """Copy the clean train pictures alternately to out/a and out/b, as the files that they are."""
    for name, paths in (("a", domain.clean.paths[::2]), ("b", domain.clean.paths[1::2])):
        (out / name).mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copyfile(path, out / name / path.name)


def named_files(entries: Iterable[str]) -> dict[str, list[str]]:
    """NAME=a,b -> {NAME: [a, b]}; entries of one name are joined."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        name, _, paths = entry.partition("=")
        if not name or not paths:
            raise SystemExit(f"--models {entry}: give NAME=FILE[,FILE ...]")
        found.setdefault(name, []).extend(paths.split(","))
    return found


def _as_json(value: object) -> object:
    """JSON has no number for what is not finite: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, list) else value


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the layout of README.md")
    parser.add_argument("--domain", default="photos", help="polyu_camera, isp, scan-like, ntire-like, ...")
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME=FILE[,FILE...]")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--draws", type=int, default=0, help="redraw the test: N degradations per picture")
    parser.add_argument(
        "--noisy-folder",
        action="store_true",
        help="isp, photos: test on the noisy train pictures, whose clean ones only the test sees: the very "
        "noise that a fit was shown, not another draw of it",
    )
    parser.add_argument("--seeds", type=int, default=3, help="draws of each rival and floor")
    parser.add_argument("--samples", type=int, default=1, help="draws of each of several models of a name")
    parser.add_argument("--limit", type=int, default=0, help="only so many test pairs, 0: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for realism-goals-DOMAIN.md and .json")
    parser.add_argument("--null-model", default="", metavar="FILE[,FILE...]", help="fitted to null folders")
    parser.add_argument("--write-null-folders", type=Path, metavar="DIR", help="write DIR/a, DIR/b and stop")
    return parser.parse_args(arguments)


def pairs_of(options: argparse.Namespace) -> str:
    return " of the noisy folder" if options.noisy_folder else ", redrawn" if options.draws else ""


def report(domain: Domain, options: argparse.Namespace) -> tuple[str, dict[str, object]]:
    """The text, and the same figures for JSON."""
    truth = Truth(domain.pairs)
    models = {
        name: [model_degrader(path, options.temperature) for path in paths]
        for name, paths in named_files(options.models).items()
    }
    rows = rows_of(domain, truth, models, options.seeds, options.samples)
    real_std = truth.statistics.std * 255.0
    parts = [
        f"{options.domain}, {len(domain.pairs)} pairs{pairs_of(options)}, temperature"
        f" {options.temperature}; median (least..greatest) over seeds. Std of the real noise: {real_std:.2f}"
        " grey levels; of others: over the real one's.",
        table(rows, truth),
    ]
    judged = {
        row.name: verdicts(row, rows, truth.values, options.domain) for row in rows if row.kind == "model"
    }
    parts += [verdict_table(row, judged[row.name]) for row in rows if row.kind == "model"]
    if options.domain == "ntire-like" and not options.draws:
        parts.append("The targets of ntire-like are meant for --draws 1.")
    null = []
    for seed, path in enumerate(filter(None, options.null_model.split(","))):
        outputs = apply(model_degrader(path, options.temperature), truth.pairs, seed)
        null.append(statistics(truth.pairs, outputs).std * 255.0)
    if null:
        parts.append(null_sentence(null, rows, real_std))
    facts: dict[str, object] = {
        "domain": options.domain,
        "pairs": len(domain.pairs),
        "draws": options.draws,
        "temperature": options.temperature,
        "real": truth.values | {"std": real_std},
        "rows": [
            {"name": row.name, "kind": row.kind, "median": row.medians, "runs": row.runs} for row in rows
        ],
        "verdicts": {
            name: {
                one.column.key: {"target": one.target, "meets": one.meets, "met": one.met, "best": one.best}
                for one in found
            }
            for name, found in judged.items()
        },
        "null_std": null,
    }
    return "\n\n".join(parts), facts


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    domain = load_domain(options.data, options.domain)
    if options.write_null_folders:
        write_null_folders(domain, options.write_null_folders)
        return
    if options.noisy_folder:
        if options.domain not in ("isp", "photos"):
            raise SystemExit("--noisy-folder needs a domain that is degraded as it is read: isp or photos")
        domain = tested_on_noisy(domain, domain.noisy.paths)
    if options.draws:
        domain = with_draws(domain, options.draws)
    domain = replace(domain, pairs=domain.pairs[: options.limit or None])
    text, facts = report(domain, options)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / f"realism-goals-{options.domain}.md", (text + "\n").encode())
        data = json.dumps(_as_json(facts), indent=1).encode()
        write(options.out / f"realism-goals-{options.domain}.json", data)


if __name__ == "__main__":
    main()
