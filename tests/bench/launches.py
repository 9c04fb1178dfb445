"""How many kernels does a training step launch? Counted as dispatched operations, without a GPU.

    python tests/bench/launches.py [--presets aim,ntire,base] [--side 32] [--low] [--modules 12]

A dispatch mode sees every operation below autograd. Views, allocations and questions about metadata launch
nothing and are not counted; an operation on a list of tensors (foreach, fused) counts once. On a GPU an
operation may be several kernels, or a convolution also a change of layout, so the count is a lower bound of
what a profile shows: 24 911 kernels at AIM where 21 thousand operations are counted. It is the figure to
drive down where no GPU is at hand. Counts hardly depend on the picture's side.

"Plain" is the published order of computation (plain_flow.py). Both take the whole step: forward, backward,
norm of the gradients, AdamW; ours in bf16 nets, as a fit on a GPU.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from speed import build, training_step
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.presets.reader import FIT
from deflow_cli.workflows.fit.step import parameter_groups

FREE = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
    "lift_fresh",
}


class LaunchCounter(TorchDispatchMode):
    """Counts operations that launch kernels, by name and by the module they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.modules: Counter[str] = Counter()
        self._tracker = ModuleTracker()

    def __enter__(self) -> LaunchCounter:
        self._tracker.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._tracker.__exit__(*args)

    @property
    def total(self) -> int:
        return sum(self.operations.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if launches(func, name):
            self.operations[name] += 1
            names = [parent for parent in self._tracker.parents if parent != "Global"]
            inner = max(names, key=lambda parent: parent.count("."), default="outside")
            self.modules[f"{kind(inner)}{', backward' if self._tracker.is_bw else ''}"] += 1
        return func(*args, **(kwargs or {}))


def launches(func: Any, name: str) -> bool:
    """Whether an operation computes: its results are no views of its arguments, nor fresh memory alone."""
    returned = func._schema.returns
    views = any(r.alias_info is not None and not r.alias_info.is_write for r in returned)
    return bool(returned) and not views and name not in FREE and not name.startswith("_local_scalar")


def kind(module: str) -> str:
    """``DeFlow.flow.layers.7.coupling.norm_in`` without its numbers, so that like modules count together."""
    return ".".join(part for part in module.split(".")[1:] if not part.isdigit()) or module


def whole_step(model: DeFlow, preset: str, x: Tensor, rival: str) -> Callable[[], None]:
    """A step with its optimiser, as a fit takes it."""
    fit = FIT.load(preset).fit
    optimizer = torch.optim.AdamW(parameter_groups(model, fit), lr=fit.learning_rate, fused=True)

    def step() -> None:
        training_step(model, x, rival, before_zero=lambda: finish(model, optimizer))

    return step


def finish(model: DeFlow, optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf)
    optimizer.step()


def count(preset: str, rival: str, side: int) -> LaunchCounter:
    """The second step: the first one creates the optimiser's state."""
    model = build(preset, torch.device("cpu"))
    if rival != "plain":
        model.set_net_precision(torch.bfloat16)
        model.train_in_runs()
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    step = whole_step(model, preset, x, rival)
    step()
    with LaunchCounter() as counter:
        step()
    return counter


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="aim,ntire,base")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--low", action="store_true", help="also with `--memory low`")
    parser.add_argument("--modules", type=int, default=0, help="how many of each kind to list")
    options = parser.parse_args()
    print("| | launches of a step, ours | plain | ratio |\n| --- | ---: | ---: | ---: |")
    listed = []
    for preset in options.presets.split(","):
        plain = count(preset, "plain", options.side).total
        for rival in ("ours", "low") if options.low else ("ours",):
            counter = count(preset, rival, options.side)
            name = preset if rival == "ours" else f"{preset}, `--memory low`"
            print(f"| {name} | {counter.total} | {plain} | {counter.total / plain:.2f} |", flush=True)
            listed.append((name, counter))
    for name, counter in listed if options.modules else ():
        for title, counts in (("module", counter.modules), ("operation", counter.operations)):
            print(f"\n| {name}: {title} | launches |\n| --- | ---: |")
            for key, number in counts.most_common(options.modules):
                print(f"| {key} | {number} |")


if __name__ == "__main__":
    main()
