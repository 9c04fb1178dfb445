"""SRFlow files: a super-resolving flow of ours in one safetensors file.

Published files hold tensors that no computation reads. Ours carry them beside the model's, as spare tensors,
so that a model can be exported again as it came.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deflow_cli.checkpoints.architectures import check_least_parameters, misfits
from deflow_cli.checkpoints.foreign import unused_beside
from deflow_cli.checkpoints.format import restorer_metadata, write_tensors
from deflow_cli.config.checks import check_types
from deflow_cli.config.model import EncoderConfig
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.srflow.model import SRFlow

SRFLOW_ARCHITECTURE = "srflow"  # the architecture's name in ModelSpec
SRFLOW_DESCRIPTION = "Super-resolves photographs, by samples of what the small image leaves open"
SPARE = "published."  # begins the names of spare tensors


def save_srflow(
    path: Path, model: SRFlow, facts: Mapping[str, Any], spare: Mapping[str, Tensor] | None = None
) -> None:
    """Write an SRFlow model as ``restorer.safetensors``, atomically; ``load_restorer`` reads it.

    facts: JSON-ready facts of the training, as for ``restorer_metadata``. spare: tensors of a published file
    that no computation reads, by their names.

    >>> import tempfile
    >>> from deflow_cli.checkpoints.restorer import load_restorer
    >>> encoder = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
    >>> model = SRFlow(SRFlowModelConfig(SRFlowConfig(scale=2, steps=1, hidden_channels=8), encoder))
    >>> path = Path(tempfile.mkdtemp(), "restorer.safetensors")
    >>> save_srflow(path, model, {"title": "Untrained"})
    >>> loaded, facts = load_restorer(path)
    >>> loaded.config == model.config, facts["title"], facts["dialect"]
    (True, 'Untrained', 'deflow')
    """
    config = dataclasses.asdict(model.config)
    metadata = restorer_metadata(path, SRFLOW_ARCHITECTURE, SRFLOW_DESCRIPTION, config, facts)
    carried = {SPARE + name: value for name, value in (spare or {}).items()}
    write_tensors(path, model.state_dict() | carried, metadata)


def srflow_from_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SRFlow:
    """The model of a file of ours, in evaluation mode.

    Raises CheckpointError where the configuration is missing or broken, or a tensor does not fit it.
    """
    config = srflow_config_from_json(metadata.get("deflow.config", ""))
    check_least_parameters(tensors, config.least_parameters)
    model = SRFlow(config)
    layout = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    own = {key: value for key, value in tensors.items() if not key.startswith(SPARE)}
    if problems := misfits(own, layout):
        raise CheckpointError(
            f"tensors do not fit the stored configuration: {problems}", next_step="copy the file again"
        )
    model.load_state_dict(own, strict=True)
    return model.eval()


def srflow_config_from_json(text: str) -> SRFlowModelConfig:
    """The configuration stored beside the tensors. Raises CheckpointError when it is not one of ours."""
    try:
        content = json.loads(text)
        encoder = dict(content["encoder"])
        encoder["stacked_blocks"] = tuple(encoder["stacked_blocks"])
        config = SRFlowModelConfig(SRFlowConfig(**content["srflow"]), EncoderConfig(**encoder))
        check_types(config.srflow)
        check_types(config.encoder)
        return config
    except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"the stored configuration cannot be read ({error})") from error


def spare_tensors(model: SRFlow, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors that no computation reads, as its file of ours or of the authors carries them."""
    names = unused_beside(model.encoder, model.config.srflow.image_channels)
    return {name: state[key] for name in names for key in (SPARE + name, name) if key in state}
