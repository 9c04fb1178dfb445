"""Inspect: what a model file holds, whichever kind of model it is."""

from __future__ import annotations

from pathlib import Path

from deflow_cli.checkpoints.foreign import read_state_dict
from deflow_cli.checkpoints.registry import method_of_model, model_of_any_kind
from deflow_cli.checkpoints.srflow.files import SRFLOW_ARCHITECTURE
from deflow_cli.checkpoints.srflow.published import PublishedSRFlow
from deflow_cli.tensor_files import read_safetensors_metadata, tensor_file_kind
from deflow_cli.workflows.inspect.deflow import ModelReport, inspect_deflow
from deflow_cli.workflows.inspect.srflow import SRFlowReport, inspect_srflow
from deflow_cli.workflows.inspect.translator import TranslatorReport, inspect_translator


def inspect_model(path: Path) -> ModelReport | SRFlowReport | TranslatorReport:
    """Describe a degradation model of ours, of any method, or an SRFlow, ours or published.

    path: a file, or a folder that holds one. Raises CheckpointError naming it where it is none of these.
    """
    path = model_of_any_kind(path)[0].path
    if method_of_model(path) is not None:
        return inspect_translator(path)
    return inspect_srflow(path) if _is_srflow(path) else inspect_deflow(path)


def _is_srflow(path: Path) -> bool:
    if tensor_file_kind(path) == "safetensors":
        return read_safetensors_metadata(path).get("modelspec.architecture") == SRFLOW_ARCHITECTURE
    return PublishedSRFlow().detects(read_state_dict(path))
