"""Ray engine: a data set's units made by actors of a Ray cluster, which holds the model once per actor."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from deflow_cli.data.pairs.formats import UNFINISHED
from deflow_cli.errors import ConfigError, DataError, DeflowError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.pairs.parts import PartMaker
from deflow_cli.workflows.pairs.planning import plan_of_target
from deflow_cli.workflows.pairs.request import MakePairsRequest

BLOCKS_PER_ACTOR = 8  # so that an actor that is done early takes over from the others


class Cluster:
    """A running cluster. ray: the package."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        resources = ray.cluster_resources()
        self._gpus, self._cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))

    def asked(self, request: MakePairsRequest) -> MakePairsRequest:
        """The request with absolute paths, which all machines share, and the kind of device that is used."""
        device = request.device.partition(":")[0]
        if device == "auto":
            device = "cuda" if self._gpus else "cpu"
        places = {name: getattr(request, name) for name in ("source", "target", "kernels", "manifest")}
        found = {name: place.absolute() for name, place in places.items() if place is not None}
        return dataclasses.replace(request, **found, engine_device=device)

    def make(
        self, request: MakePairsRequest, part: PartMaker, missing: set[str], told: Callable[[int], None]
    ) -> None:
        """Have actors make the units that lack pairs. told: of pairs that are made.

        Raises DataError with the reason of a unit that could not be made.
        """
        units = sorted({part.unit_of[key] for key in missing})
        if not units:
            return
        on_gpu = part.plan.manifest.device == "cuda"
        most = max(1, self._gpus if on_gpu else self._cpus)
        actors = min(request.workers or most, most, len(units))
        data = self._ray.data
        data.DataContext.get_current().enable_progress_bars = False
        rows = data.from_items(
            [{"unit": unit} for unit in units],
            override_num_blocks=min(len(units), BLOCKS_PER_ACTOR * actors),
        )
        device = part.plan.manifest.device
        made = rows.map_batches(
            UnitActor,
            fn_constructor_kwargs={"request": dataclasses.replace(request, engine_device="", device=device)},
            batch_size=1,
            compute=data.ActorPoolStrategy(size=actors),
            **({"num_gpus": 1} if on_gpu else {"num_cpus": 1}),
        )
        try:
            for row in made.iter_rows():
                told(int(row["made"]))
        except self._ray.exceptions.RayError as error:
            cause = find_cause(error)
            if cause is None:
                raise
            raise DataError(str(cause), next_step=cause.next_step) from error


def connect() -> Cluster:
    """A cluster that runs. Raises ConfigError that says how to have the package, or a cluster."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            "--engine ray needs the package ray, which is not installed",
            next_step="pip install 'deflow-cli[ray]', or make shards by --shard I/N",
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"--engine ray finds no running cluster ({reason})",
                next_step="start one by `ray start --head`, or set RAY_ADDRESS to that of yours",
            ) from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    return Cluster(ray)


class UnitActor:
    """Makes units of the data set that a request names, whose plan is in its folder."""

    def __init__(self, request: MakePairsRequest) -> None:
        torch.set_num_threads(1)  # the order of sums must not depend on the machine
        plan = plan_of_target(request, request.target / UNFINISHED, Silent())
        self._part = PartMaker(plan, request, 1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """batch: numbers of units, as ``unit``. Returns how many pairs were made of each, as ``made``."""
        made = [self._part.make([unit]) for unit in batch["unit"].tolist()]
        return {"unit": batch["unit"], "made": np.array(made)}


def find_cause(error: BaseException) -> DeflowError | None:
    """The error of ours that Ray passes on."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DeflowError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None
