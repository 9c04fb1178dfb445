"""The Python API: load a model, or fit one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deflow_cli.checkpoints.format import load_model as load_file
from deflow_cli.checkpoints.registry import default_model
from deflow_cli.config.fit import RunConfig
from deflow_cli.errors import ConfigError
from deflow_cli.inference.degradation_model import DegradationModel, Encoded
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter, Silent

if TYPE_CHECKING:
    from deflow_cli.workflows.fit.run import FitResult

__all__ = ["DegradationModel", "Encoded", "fit", "load_model"]


def load_model(
    path: str | Path | None = None, device: str | torch.device = "cpu", *, tile: int | None = None
) -> DegradationModel:
    """A fitted model, ready for use.

    path: a model file or a run folder; None: the newest fit below ``runs/`` here, else the embedded model.
    device: auto, cpu, cuda or cuda:N. tile: side in pixels; None: chosen by memory, 0: none. Raises
    CheckpointError or DeviceError.

    An unfitted model, only to show the calls:

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from deflow_cli import load_model
    >>> from deflow_cli.checkpoints.format import save_model
    >>> from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
    >>> from deflow_cli.models.deflow.model import DeFlow
    >>> encoder = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
    >>> config = ModelConfig(FlowConfig(levels=2, steps=2, hidden_channels=8), encoder)
    >>> path = Path(tempfile.mkdtemp(), "model.safetensors")
    >>> save_model(path, DeFlow(config), {})
    >>> model = load_model(path)

    What it does, to two images of 21 x 30 pixels:

    >>> image = torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(0))
    >>> generator = torch.Generator().manual_seed(1)
    >>> model.degrade(image, temperature=0.8, generator=generator).shape
    torch.Size([2, 3, 21, 30])
    >>> model.degrade(image, samples=4, generator=generator).shape
    torch.Size([2, 4, 3, 21, 30])
    >>> model.restore(image).shape
    torch.Size([2, 3, 21, 30])
    >>> encoded = model.encode(image, generator)
    >>> bool((model.decode(encoded) - image).abs().max() < 1 / 255)
    True
    >>> model.log_prob(image, degraded=True, generator=generator).shape
    torch.Size([2])
    """
    found = default_model(Path(path) if path is not None else None)
    where = choose_device(str(device))
    model, facts = load_file(found.path, where)
    return DegradationModel(model, where, facts, tile)


def fit(
    clean: str | Path,
    noisy: str | Path,
    *,
    out: str | Path,
    preset: str | RunConfig | None = None,
    settings: Sequence[str] = (),
    pairs: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    reporter: Reporter | None = None,
) -> FitResult:
    """Fit a model to two folders, as ``deflow fit`` does; ``load_model(result.model_path)`` uses it.

    out: the run's folder. preset: a name, a .toml file, or a configuration; None: tiny, with a GPU base.
    settings: overrides such as ``"fit.iterations=1000"``. Raises DeflowError as the command does.
    """
    from deflow_cli.workflows.fit import run as workflow

    out = Path(out)
    own = out / CONFIG_FILE
    if own.exists() and not resume:
        raise ConfigError(f"{out} holds a run already", next_step="pass resume=True, or another out")
    if own.exists():
        config = FIT.load(own)
    else:
        base = (
            preset if isinstance(preset, RunConfig) else FIT.load(preset or workflow.default_preset(device))
        )
        config = FIT.apply_overrides(base, settings)
    request = workflow.FitRequest(
        clean=Path(clean),
        noisy=Path(noisy),
        out=out,
        config=config,
        pairs=Path(pairs) if pairs is not None else None,
        device=device,
        resume=resume,
    )
    return workflow.fit(request, reporter or Silent())
