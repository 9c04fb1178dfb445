"""How many kernels does a training step launch? Counted as dispatched operations, without a GPU.

    python tests/bench/launches.py [--presets aim,ntire,base] [--low] [--modules 12] [--operations]

A dispatch mode sees every operation below autograd. Views, allocations and questions about metadata launch
nothing and are not counted; an operation on a list of tensors (foreach, fused) counts once. What has a Triton
twin is some thirty operations on a CPU and counts as the twin's kernels do: a coupling two, its gradient one,
the weight gradients of convolutions of one place two (``--operations``: as the operations that they are on a
CPU). On a GPU an operation may be several kernels, or a convolution also a change of layout or a sum of its
bias, so the count is a lower bound of what a profile shows: 24 911 kernels at AIM where 21 thousand
operations were counted. It is the figure to drive down where no GPU is at hand. Counts hardly depend on the
picture's side.

"Plain" is the published order of computation (plain_flow.py). Both take the whole step: forward, backward,
norm of the gradients, AdamW; ours in bf16 nets, as a fit on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from speed import build, training_step
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from deflow_cli.kernels import dispatch, reference
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

    current: LaunchCounter | None = None

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.modules: Counter[str] = Counter()
        self._tracker = ModuleTracker()
        self._in_twin = False

    def __enter__(self) -> LaunchCounter:
        LaunchCounter.current = self
        self._tracker.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        LaunchCounter.current = None
        super().__exit__(*args)
        self._tracker.__exit__(*args)

    @property
    def total(self) -> int:
        return sum(self.operations.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if not self._in_twin and launches(func, name):
            self._add(name, 1)
        return func(*args, **(kwargs or {}))

    def _add(self, name: str, kernels: int) -> None:
        self.operations[name] += kernels
        names = [parent for parent in self._tracker.parents if parent != "Global"]
        inner = max(names, key=lambda parent: parent.count("."), default="outside")
        self.modules[f"{kind(inner)}{', backward' if self._tracker.is_bw else ''}"] += kernels

    @classmethod
    @contextlib.contextmanager
    def twin(cls, name: str, kernels: int) -> Iterator[None]:
        """What is computed inside counts as ``kernels``."""
        counter = cls.current
        if counter is None:
            yield
            return
        counter._add(name, kernels)
        counter._in_twin = True
        yield
        counter._in_twin = False


class Twins:
    """The reference's operations, counted as the kernels that their Triton twins launch."""

    @staticmethod
    def coupling_forward(z: Tensor, raw: Tensor, form: reference.ScaleForm) -> Any:
        return _Coupling.apply(z, raw, form, reference.coupling_forward)

    @staticmethod
    def coupling_inverse(z: Tensor, raw: Tensor, form: reference.ScaleForm) -> Any:
        return _Coupling.apply(z, raw, form, reference.coupling_inverse)

    @staticmethod
    def weight_gradients(x: Tensor, grad: Tensor, side: int) -> Tensor:
        with LaunchCounter.twin("weight gradients", 2):
            found = reference.weight_gradients(x, grad, side)
            return found.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)  # the twin's order


class _Coupling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, raw: Tensor, form: reference.ScaleForm, operation: Any) -> Any:
        ctx.save_for_backward(z, raw)
        ctx.form, ctx.operation = form, operation
        with LaunchCounter.twin("coupling", 2):
            return operation(z, raw, form)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        with LaunchCounter.twin("coupling backward", 1), torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
            found = torch.autograd.grad(ctx.operation(*inputs, ctx.form), inputs, grads)
        return *found, None, None


def launches(func: Any, name: str) -> bool:
    """Whether an operation computes: its results are no views of its arguments, nor fresh memory alone."""
    returned = func._schema.returns
    views = any(r.alias_info is not None and not r.alias_info.is_write for r in returned)
    if not returned:
        return name.startswith(("_foreach", "_fused"))
    return not views and name not in FREE and not name.startswith(("_local_scalar", "_record_function"))


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
        model.to(memory_format=torch.channels_last)  # as ``accelerate`` on a GPU
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
    parser.add_argument("--operations", action="store_true", help="count no operation as its Triton twin")
    parser.add_argument("--modules", type=int, default=0, help="how many of each kind to list")
    options = parser.parse_args()
    if not options.operations:
        dispatch._operations = lambda *tensors: Twins  # type: ignore[assignment, return-value]
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
