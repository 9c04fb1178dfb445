"""CUDA graphs: a function whose kernels are recorded once and then launched together."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE as PoolId

WARM_UP_CALLS = 3
KEPT_GRAPHS = 4

TensorFunction = Callable[..., Sequence[Tensor]]
_Signature = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]

_log = logging.getLogger("deflow.cuda_graphs")


class GraphedFunction:
    """Calls ``function(*inputs)`` plainly a few times, and from then on replays it as one CUDA graph.

    A graph launches thousands of small kernels in the time that the host needs for one, and computes the same
    numbers. What that asks of the function: its inputs are CUDA tensors of unchanging shapes, it does not
    make the host wait, it draws no random numbers, and all that it reads besides its inputs (weights, states
    of optimisers) stays where it is in memory: values may change, tensors may not be replaced (``forget``).

    Every call counts, those before the recording too; nothing is computed twice. The results lie in memory
    that the next call overwrites. Inputs of another shape, type or device than the recorded ones are computed
    plainly, and so is everything where recording fails, which is logged once.

    before_recording: brings memory into the state that the recorded function begins with, for instance
    gradients that are None. warm_up_calls: plain calls before the recording; a function with a backward pass
    needs them. pool: gives, at the recording, the memory pool of other graphs whose results are no longer
    needed when this one runs; None is a new pool. name: what is computed, for the log. enabled: if not, all
    calls are plain.
    """

    def __init__(
        self,
        function: TensorFunction,
        *,
        before_recording: Callable[[], None] = lambda: None,
        warm_up_calls: int = WARM_UP_CALLS,
        pool: Callable[[], PoolId | None] = lambda: None,
        name: str = "steps",
        enabled: bool = True,
    ) -> None:
        self.function, self.before_recording = function, before_recording
        self.warm_up_calls, self.pool, self.name = warm_up_calls, pool, name
        self._calls = 0
        self._failed = not enabled
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()

    @property
    def is_recorded(self) -> bool:
        return self._graph is not None

    @property
    def recorded_pool(self) -> PoolId | None:
        """The memory pool of the recorded graph; None where there is none."""
        return None if self._graph is None else self._graph.pool()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._failed or not are_on_cuda(inputs):
            return tuple(self.function(*inputs))
        with torch.cuda.device(inputs[0].device):  # streams, and so recordings, are of the current device
            if self._graph is None and self._calls < self.warm_up_calls:
                self._calls += 1
                return self._on_side_stream(inputs)
            if self._graph is None:
                self._record(inputs)
            if self._graph is None or not self._fits(inputs):
                return tuple(self.function(*inputs))
            torch._foreach_copy_(list(self._inputs), list(inputs))
            self._graph.replay()
            return self._outputs

    def forget(self) -> None:
        """Drop the recording, since tensors that it reads were replaced; the next calls are plain again."""
        self._graph, self._inputs, self._outputs, self._calls = None, (), (), 0

    def _on_side_stream(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A plain call on another stream, where libraries choose the algorithms that will be recorded."""
        main, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            outputs = tuple(self.function(*inputs))
        main.wait_stream(side)
        return outputs

    def _fits(self, inputs: Sequence[Tensor]) -> bool:
        return signature(self._inputs) == signature(inputs)

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = tuple(tensor.clone() for tensor in inputs)
        self.before_recording()
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads, which pin the next batches, may call CUDA meanwhile
            with torch.cuda.graph(graph, pool=self.pool(), capture_error_mode="thread_local"):
                self._outputs = tuple(self.function(*self._inputs))
        except RuntimeError as error:
            self._failed = True
            self.forget()
            _end_random_capture()
            _log.warning("%s are computed without a CUDA graph: %s", self.name, error)
            return
        self._graph = graph


class GraphCache:
    """Calls ``function(*inputs)``, as a CUDA graph for each kind of inputs that came before.

    The first call with inputs of some shapes, types and devices is plain, the second records a graph, later
    ones replay it. What is asked of the function is what :class:`GraphedFunction` asks. Results lie in memory
    that the next call, of whatever shapes, overwrites. At most ``size`` kinds are known, and the one that was
    not called for longest gives way. The graphs share one pool of memory, as large as the largest needs; when
    a call runs out of memory all are dropped, and the call is computed plainly once more before
    torch.OutOfMemoryError is raised. name: what is computed, for the log.

    >>> double = GraphCache(lambda x: [2 * x])
    >>> double(torch.ones(2))  # on a CPU every call is plain
    (tensor([2., 2.]),)
    """

    def __init__(self, function: TensorFunction, size: int = KEPT_GRAPHS, *, name: str = "images") -> None:
        self.function, self.size, self.name = function, size, name
        self._graphs: OrderedDict[_Signature, GraphedFunction | None] = OrderedDict()

    @property
    def recorded(self) -> int:
        """Number of graphs in memory."""
        return len(self._recorded())

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if not are_on_cuda(inputs):
            return tuple(self.function(*inputs))
        try:
            graph = self._graph_of(signature(inputs))
            return tuple(self.function(*inputs)) if graph is None else graph(*inputs)
        except torch.OutOfMemoryError:
            if not self._recorded():
                raise
        self.clear()  # here, where the error no longer holds the call's tensors
        return tuple(self.function(*inputs))

    def clear(self) -> None:
        """Drop all graphs, and give their memory back to the device."""
        had_some = bool(self._recorded())
        self._graphs.clear()
        if had_some:
            torch.cuda.empty_cache()

    def _graph_of(self, key: _Signature) -> GraphedFunction | None:
        """The graph for inputs that are known, after which they are the last to give way; else None."""
        graph = None
        if key in self._graphs:
            graph = self._graphs[key] or self._new_graph()
        self._graphs[key] = graph
        self._graphs.move_to_end(key)
        while len(self._graphs) > self.size:
            self._graphs.popitem(last=False)
        return graph

    def _new_graph(self) -> GraphedFunction:
        return GraphedFunction(self.function, warm_up_calls=0, pool=self._pool, name=self.name)

    def _pool(self) -> PoolId | None:
        return next((graph.recorded_pool for graph in self._recorded()), None)

    def _recorded(self) -> list[GraphedFunction]:
        return [graph for graph in self._graphs.values() if graph is not None and graph.is_recorded]


def are_on_cuda(tensors: Sequence[Tensor]) -> bool:
    """Whether there are any, and all are on a CUDA device."""
    return bool(tensors) and all(tensor.is_cuda for tensor in tensors)


def signature(tensors: Sequence[Tensor]) -> _Signature:
    """What a graph's inputs must have in common with those that were recorded."""
    return tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)


def _end_random_capture() -> None:
    """Make the current device's default generator usable after a recording that failed.

    torch tells the generator that a recording begins, but not that it failed; every draw would be refused.
    """
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(generator.clone_state())
