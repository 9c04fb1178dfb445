"""CUDA graphs: a function whose kernels are recorded once and then launched together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP_CALLS = 3

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
    gradients that are None.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        *,
        before_recording: Callable[[], None] = lambda: None,
    ) -> None:
        self.function, self.before_recording = function, before_recording
        self._calls = 0
        self._failed = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()

    @property
    def is_recorded(self) -> bool:
        return self._graph is not None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._failed or not inputs or not all(tensor.is_cuda for tensor in inputs):
            return tuple(self.function(*inputs))
        if self._graph is None and self._calls < WARM_UP_CALLS:
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
        return len(inputs) == len(self._inputs) and all(
            (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
            for a, b in zip(self._inputs, inputs, strict=True)
        )

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = tuple(tensor.clone() for tensor in inputs)
        self.before_recording()
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads, which pin the next batches, may call CUDA meanwhile
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._outputs = tuple(self.function(*self._inputs))
        except RuntimeError as error:
            self._failed = True
            self.forget()
            _log.warning("steps are computed without a CUDA graph: %s", error)
            return
        self._graph = graph
