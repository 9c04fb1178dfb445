"""Models for tensors: a degradation model and a restorer, ready for use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from deflow_cli.checkpoints.format import load_model as load_file
from deflow_cli.checkpoints.registry import default_model
from deflow_cli.checkpoints.restorer import load_restorer as read_restorer_file
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.errors import ConfigError
from deflow_cli.inference.degradation_model import DegradationModel
from deflow_cli.inference.restoring import Restorer
from deflow_cli.inference.super_resolving import SuperResolver
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.device import choose_device
from deflow_cli.workflows.api.arguments import path_or_none


def load_model(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    tile: int | None = None,
    compression: Literal["auto", "no"] = "auto",
) -> DegradationModel:
    """A fitted model, ready for use.

    path: a model file or a run folder; None: the newest fit below ``runs/`` here, else the embedded model.
    device: auto, cpu, cuda or cuda:N. tile: side in pixels; None: chosen by memory, 0: none.
    compression: ``auto``: samples are JPEG compressed where the file records it, each whole image, rounded to
    8 bits; ``no``: never. Raises CheckpointError or DeviceError.

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
    found = default_model(path_or_none(path))
    where = choose_device(str(device))
    model, facts = load_file(found.path, where)
    found_compression = None if compression == "no" else SampleCompression.recorded(facts, found.path)
    finish = None if found_compression is None else found_compression.finish
    return DegradationModel(model, where, facts, tile, GraphedFunction, finish)


def load_restorer(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    tile: int | None = None,
    tta: bool = False,
) -> Restorer | SuperResolver:
    """A restorer, ready for use: ours, or one of others, .pth or .safetensors.

    An ESRGAN is a `Restorer`, an SRFlow a `SuperResolver`; called with images, both restore them.

    path: a file, or a folder with a restorer.safetensors; None: the newest ``runs/*/restorer.safetensors``
    here, else the embedded denoiser. device, tile: as for `load_model`. tta: the mean over the eight turned
    and mirrored variants. Raises CheckpointError or DeviceError.

    An untrained restorer, only to show the calls:

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from deflow_cli import RestorerConfig, load_restorer
    >>> from deflow_cli.checkpoints.restorer import save_restorer
    >>> from deflow_cli.models.esrgan.generator import RRDBNet
    >>> path = Path(tempfile.mkdtemp(), "restorer.safetensors")
    >>> save_restorer(path, RRDBNet(RestorerConfig(scale=4, channels=8, blocks=1)), {})
    >>> restorer = load_restorer(path)
    >>> restorer.scale, restorer(torch.rand(1, 3, 10, 12)).shape
    (4, torch.Size([1, 3, 40, 48]))

    An SRFlow, which gives any number of samples:

    >>> from deflow_cli import SRFlowConfig
    >>> from deflow_cli.checkpoints.srflow.files import save_srflow
    >>> from deflow_cli.config.model import EncoderConfig
    >>> from deflow_cli.config.srflow import SRFlowModelConfig
    >>> from deflow_cli.models.srflow.model import SRFlow
    >>> encoder = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
    >>> config = SRFlowModelConfig(SRFlowConfig(scale=4, steps=1, hidden_channels=8), encoder)
    >>> save_srflow(path, SRFlow(config), {})
    >>> restorer = load_restorer(path)
    >>> x = torch.rand(1, 3, 10, 12)
    >>> restorer.sample(x, temperature=0.8, samples=4, seed=7).shape
    torch.Size([1, 4, 3, 40, 48])
    >>> y = restorer(x)
    >>> latents = restorer.encode(y, x)
    >>> bool((restorer.decode(latents, x) - y).abs().max() < 1e-3), restorer.log_prob(y, x).shape
    (True, torch.Size([1]))
    """
    from deflow_cli.workflows.restore import default_restorer

    found = default_restorer(path_or_none(path))
    where = choose_device(str(device))
    model, _ = read_restorer_file(found.path)
    if isinstance(model, SRFlow):
        if tta:
            raise ConfigError("tta is nothing to an SRFlow", next_step="leave it out")
        return SuperResolver(model, where, tile=tile)
    return Restorer(model, where, tile=tile, tta=tta)
