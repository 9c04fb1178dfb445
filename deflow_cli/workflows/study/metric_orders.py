"""Metric orders: how far the order that people see agrees with that of computed metrics."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from deflow_cli.data.images.listing import name_some
from deflow_cli.errors import DataError
from deflow_cli.metrics.study.agreement import spearman

_DIRECTIONS = {"psnr": True, "ssim": True}  # whether higher is better: a CSV does not say
_DIRECTIONS |= dict.fromkeys(("lpips", "lpips-vgg", "niqe", "brisque", "piqe"), False)
_NEXT = "pass what `deflow score METHOD_DIR... --csv FILE`, or --json, wrote of the same folders"


@dataclass(frozen=True)
class MetricOrder:
    """Spearman's correlation of a metric's means with people's strengths over methods; 1: the same order."""

    metric: str
    spearman: float
    methods: int


@dataclass(frozen=True)
class _Means:
    """Means of a metric by method."""

    metric: str
    higher_is_better: bool
    by_method: Mapping[str, float]


def metric_orders(path: Path, strengths: Mapping[str, float]) -> tuple[MetricOrder, ...]:
    """Every metric of a table of scores against log strengths by method.

    path: a CSV or JSON of ``deflow score``. Raises DataError naming the file for another kind of file, or
    where it lacks a method.
    """
    orders = []
    for found in _read(path):
        known = [name for name in strengths if math.isfinite(found.by_method.get(name, math.nan))]
        missing = sorted(strengths.keys() - known)
        if missing:
            raise DataError(
                f"{path}: {found.metric} of {name_some(missing)} is missing; it has"
                f" {name_some(found.by_method)}",
                next_step=_NEXT,
            )
        sign = 1 if found.higher_is_better else -1
        values = [sign * found.by_method[name] for name in known]
        rho = spearman([strengths[name] for name in known], values)
        orders.append(MetricOrder(found.metric, rho, len(known)))
    return tuple(orders)


def _read(path: Path) -> list[_Means]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})", next_step=_NEXT) from error
    try:
        found = _from_json(text) if text.lstrip().startswith("{") else _from_csv(path, text)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no scores of `deflow score` ({error})", next_step=_NEXT) from error
    if not found:
        raise DataError(f"{path}: holds no scores", next_step=_NEXT)
    return found


def _from_json(text: str) -> list[_Means]:
    document = json.loads(text)
    means: dict[str, dict[str, float]] = defaultdict(dict)
    for row in document["summaries"]:
        if row["mean"] is not None:
            means[row["metric"]][row["method"]] = float(row["mean"])
    return [
        _Means(metric["name"], bool(metric["higher_is_better"]), means[metric["name"]])
        for metric in document["metrics"]
    ]


def _from_csv(path: Path, text: str) -> list[_Means]:
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in csv.DictReader(text.splitlines()):
        if row["value"] and math.isfinite(float(row["value"])):
            values[row["metric"]][row["method"]].append(float(row["value"]))
    unknown = sorted(values.keys() - _DIRECTIONS.keys())
    if unknown:
        raise DataError(
            f"{path}: a CSV does not say whether higher is better for {name_some(unknown)}",
            next_step="pass the JSON of `deflow score --json`, which does",
        )
    return [
        _Means(metric, _DIRECTIONS[metric], {name: fmean(found) for name, found in methods.items()})
        for metric, methods in values.items()
    ]
