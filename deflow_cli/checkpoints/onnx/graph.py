"""Graph: an ONNX graph, put together operator by operator, and written as a file.

torch's own exporters are not used: they trace Python code for one way through it, differ between torch 2.7
and today, and know no 64-bit integers without sign. The operators here are those of opset 18, all of which
onnxruntime computes on any device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.errors import CheckpointError, ConfigError

OPSET = 18  # the first with operators on the bits of whole numbers
IR_VERSION = 8  # of opset 18
LARGEST_FILE = (1 << 31) - 1  # bytes; of one protocol buffer

Value: TypeAlias = "str | NDArray[Any]"
"""An input of an operator: the name of what another one gave, or a constant."""


@dataclass(frozen=True)
class GraphInput:
    """An input of a graph. axes: a number, or a name where the axis is free. default: where it may be left
    out.
    """

    name: str
    dtype: type[np.generic]
    axes: Sequence[int | str]
    default: NDArray[Any] | None = None


def onnx_package() -> Any:
    """The package ``onnx``. Raises ConfigError where it is not installed."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ConfigError(
            "files of ONNX need the package onnx, which is not installed",
            next_step="pip install 'deflow-cli[onnx]'",
        ) from error
    return onnx


class Graph:
    """A graph that grows by calls: ``graph("Add", a, b)`` adds an operator and returns the name of its
    result.

    Constants are arrays, equal ones are stored once. fixed: inputs that have a default become constants too.
    """

    def __init__(self, name: str, *, fixed: bool = False) -> None:
        self._onnx = onnx_package()
        self._name = name
        self._fixed = fixed
        self._nodes: list[Any] = []
        self._inputs: list[GraphInput] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._tensors: list[Any] = []

    def __call__(self, operator: str, *inputs: Value, **attributes: Any) -> str:
        """The result of an operator that gives one."""
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(self, operator: str, count: int, *inputs: Value, **attributes: Any) -> list[str]:
        """The results of an operator that gives several."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        # onnxruntime 1.19 makes names of new nodes from those of old ones, so these must not be empty
        name = f"{operator}_{len(self._nodes)}"
        outputs = [f"{name}_{index}" for index in range(count)]
        self._nodes.append(self._onnx.helper.make_node(operator, names, outputs, name, **attributes))
        return outputs

    def constant(self, array: NDArray[Any]) -> str:
        """The name of a constant."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self._tensors.append(self._onnx.numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def input(self, given: GraphInput) -> str:
        """Add an input; its name."""
        if self._fixed and given.default is not None:
            return self.constant(given.default)
        self._inputs.append(given)
        return given.name

    def write(
        self, path: Path, result: str, output: GraphInput, facts: Mapping[str, str], description: str
    ) -> int:
        """Write the file, atomically; returns its size in bytes.

        result: what the graph computes, which gets the output's name. facts: the file's metadata. Raises
        CheckpointError where the model is too large for one file.
        """
        helper = self._onnx.helper
        nodes = [*self._nodes, helper.make_node("Identity", [result], [output.name], "output")]
        defaults = [
            self._onnx.numpy_helper.from_array(given.default, given.name)
            for given in self._inputs
            if given.default is not None
        ]
        graph = helper.make_graph(
            nodes,
            self._name,
            [self._described(given) for given in self._inputs],
            [self._described(output)],
            initializer=[*defaults, *self._tensors],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="deflow-cli",
            doc_string=description,
        )
        helper.set_model_props(model, dict(facts))
        size = model.ByteSize()
        if size > LARGEST_FILE:
            raise CheckpointError(f"{path}: {size} bytes are more than a file of ONNX can hold")
        self._onnx.checker.check_model(model)
        write_atomically(path, model.SerializeToString(deterministic=True))
        return int(path.stat().st_size)

    def _described(self, given: GraphInput) -> Any:
        dtype = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype))
        return self._onnx.helper.make_tensor_value_info(given.name, dtype, list(given.axes))


# -- values -----------------------------------------------------------------------------------------------


def whole(*numbers: int) -> NDArray[np.int64]:
    """Whole numbers, as the shapes and indices of ONNX are."""
    return np.array(numbers, np.int64)


def single(number: float) -> NDArray[np.float32]:
    """One number of float32, for arithmetic with tensors of any shape."""
    return np.array(number, np.float32)


def weights(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor's values as float32."""
    values: NDArray[np.float32] = tensor.detach().cpu().float().contiguous().numpy()
    return values


def side(graph: Graph, image: str, axis: int) -> str:
    """The length of an axis, as a list of one whole number."""
    return graph("Shape", image, start=axis, end=axis + 1)


def count_up(graph: Graph, length: str) -> str:
    """0, 1 .. length - 1; length: a list of one whole number."""
    return graph("Range", np.array(0, np.int64), graph("Squeeze", length, whole(0)), np.array(1, np.int64))


def shape_of(graph: Graph, *parts: str | int) -> str:
    """A shape of lists of whole numbers, and of numbers."""
    return graph("Concat", *(whole(part) if isinstance(part, int) else part for part in parts), axis=0)


def cut(graph: Graph, value: Value, axis: int, first: int, end: int | str | None) -> str:
    """A part of an axis. end: None: to the end; a list of one whole number where the graph computes it."""
    last: Value = (
        whole(np.iinfo(np.int64).max) if end is None else end if isinstance(end, str) else whole(end)
    )
    return graph("Slice", value, whole(first), last, whole(axis))
