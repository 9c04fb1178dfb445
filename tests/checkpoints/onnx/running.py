"""Running: graphs through onnxruntime, on a CPU and quietly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deflow_cli.checkpoints.onnx.graph import Graph, GraphInput

onnxruntime.set_default_logger_severity(3)  # an input with a default is worth a warning to it


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def computed(
    folder: Path,
    build: Callable[[Graph], str],
    output: GraphInput,
    feed: Mapping[str, NDArray[Any]] | None = None,
) -> NDArray[Any]:
    """What a graph gives: ``build`` adds its operators and names the result."""
    graph = Graph("test")
    path = folder / "graph.onnx"
    graph.write(path, build(graph), output, {}, "")
    result: NDArray[Any] = session(path).run(None, dict(feed or {}))[0]
    return result


def words_out(*axes: int | str) -> GraphInput:
    return GraphInput("result", np.int64, axes)


def floats_out(*axes: int | str) -> GraphInput:
    return GraphInput("result", np.float32, axes)
