"""CUDA graphs: a function whose kernels are recorded once and then launched together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import torch
from torch import Tensor

WARM_UP_CALLS = 3


class GraphedFunction:
    """Calls ``function(*inputs)`` as it is a few times, and from then on replays it as one CUDA graph.

    A graph launches thousands of small kernels in the time that the host needs for one, and computes the same
    numbers. What that asks of the function: all its inputs are CUDA tensors of unchanging shapes, it does not
    make the host wait, it draws no random numbers, and all that it reads besides its inputs (weights, states
    of optimisers) stays where it is in memory: values may change, tensors may not be replaced.

    The calls before the recording count as calls; nothing is computed twice. The results lie in memory that
    the next call overwrites. Inputs of another shape, type or device than the recorded are computed plainly.

    function: tensors in, tensors out. warm_up: plain calls before the recording, on another stream as CUDA
    asks; they let libraries choose their algorithms. before_recording: what brings memory into the state that
    the recorded function begins with, for instance gradients that are None.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        *,
        warm_up: int = WARM_UP_CALLS,
        before_recording: Callable[[], None] = lambda: None,
    ) -> None:
        self.function, self.warm_up, self.before_recording = function, warm_up, before_recording
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()

    @property
    def is_recorded(self) -> bool:
        return self._graph is not None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if not inputs or not all(tensor.is_cuda for tensor in inputs):
            return tuple(self.function(*inputs))
        if self._graph is not None and not self._fits(inputs):
            return tuple(self.function(*inputs))
        if self._graph is None and self._calls < self.warm_up:
            self._calls += 1
            with _SideStream():
                return tuple(self.function(*inputs))
        if self._graph is None:
            self._record(inputs)
        assert self._graph is not None
        for target, source in zip(self._inputs, inputs, strict=True):
            target.copy_(source)
        self._graph.replay()
        return self._outputs

    def forget(self) -> None:
        """Drop the recording, for instance because tensors that it reads were replaced; the next calls are
        plain again."""
        self._graph, self._inputs, self._outputs, self._calls = None, (), (), 0

    def _fits(self, inputs: Sequence[Tensor]) -> bool:
        return len(inputs) == len(self._inputs) and all(
            (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
            for a, b in zip(self._inputs, inputs, strict=True)
        )

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = tuple(tensor.clone() for tensor in inputs)
        self.before_recording()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = tuple(self.function(*self._inputs))
        self._graph = graph


class _SideStream:
    """Work on another CUDA stream, ordered after what came before and before what comes after."""

    def __enter__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        self._context = torch.cuda.stream(self._stream)
        self._context.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._context.__exit__(kind, error, traceback)
        torch.cuda.current_stream().wait_stream(self._stream)
