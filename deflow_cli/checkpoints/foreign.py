"""Foreign weights: key maps to other layouts, detection of a model's sizes, strict loading.

The published DeFlow layout is mapped key by key, in parts that the published SRFlow layout shares. ESRGAN
weights in any dialect start the encoder of either model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor
from torch.nn import functional as F

from deflow_cli.checkpoints.architectures import DegraderArchitecture, Loaded, check_least_parameters, misfits
from deflow_cli.checkpoints.esrgan.keys import dialect_of, sizes_of, tensor_names
from deflow_cli.checkpoints.wrappers import holds_tensors, unwrap
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.layers.networks.condition_encoder import ConditionEncoder
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.tensor_files import read_content

FLOW_PREFIX = "flowUpsamplerNet.layers."
ENCODER_LACKS = ("conv_hr.", "conv_last.")  # the end of an ESRGAN generator, in our names

# our name (as a pattern) -> the name in published files of DeFlow and of SRFlow
PUBLISHED_LAYERS = (
    (r"encoder\.conv_first\.", r"RRDB.conv_first."),
    (r"encoder\.body\.(\d+)\.rdb(\d)\.conv(\d)\.", r"RRDB.RRDB_trunk.\1.RDB\2.conv\3."),
    (r"encoder\.conv_body\.", r"RRDB.trunk_conv."),
    (r"encoder\.conv_up(\d)\.", r"RRDB.upconv\1."),
    (r"flow\.layers\.(\d+)\.(actnorm|invconv|conv)\.", r"flowUpsamplerNet.layers.\1.\2."),
    (r"flow\.layers\.(\d+)\.coupling\.", r"flowUpsamplerNet.layers.\1.affine.fAffine."),
    (r"flow\.layers\.(\d+)\.injector\.", r"flowUpsamplerNet.layers.\1.affine.fFeatures."),
)
PUBLISHED_NET = (
    (r"weight_in$", "0.weight"),
    (r"norm_in\.", "0.actnorm."),
    (r"weight_mid$", "2.weight"),
    (r"norm_mid\.", "2.actnorm."),
    (r"conv_out\.", "4."),
)


class PublishedDeFlow(DegraderArchitecture):
    """DeFlow (CVPR 2021) with the names that its authors publish; ESRGAN weights start its encoder alone."""

    name = "deflow"

    def detects(self, state: Mapping[str, Tensor]) -> bool:
        # SRFlow's names have the same prefix; its 1x1 convolutions are dense, and not stored as factors
        return any(key.startswith(FLOW_PREFIX) and key.endswith(".invconv.l") for key in state)

    def load(self, state: Mapping[str, Tensor]) -> Loaded[DeFlow]:
        model, unused = load_published(state)
        return Loaded(model, "published", unused)


def read_state_dict(path: Path, tell: Callable[[str], None] | None = None) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file, without the wrappers around them, as float32.

    Nothing in the file is executed. tell: is called with a sentence on what was stripped, where anything
    was. Raises CheckpointError naming the file.
    """
    content = read_content(path)
    found = unwrap(content)
    if found is None:
        held = (
            [str(key) for key, value in content.items() if holds_tensors(value)]
            if isinstance(content, Mapping)
            else []
        )
        beside = f" under a name that is known, only {', '.join(held)}" if held else ""
        raise CheckpointError(f"{path}: holds no state dict{beside}", next_step="export the weights alone")
    if tell is not None and found.text:
        tell(f"{path}: {found.text}")
    return {key: value.float() if value.is_floating_point() else value for key, value in found.state.items()}


def published_name(model: DeFlow, key: str) -> str | None:
    """The published name of one of our state-dict keys; None for what the publication has not."""
    latent = re.match(r"prior\.latents\.(\d+)\.(mean|root)$", key)
    if latent:
        index, kind = int(latent[1]), {"mean": "mean_shift", "root": "cov_shift"}[latent[2]]
        splits = [i for i, layer in enumerate(model.flow.bijections()) if layer.latent_channels]
        return f"flowUpsamplerNet.layers.{splits[index]}.{kind}" if index < len(splits) else kind
    return published_layer_name(key)


def published_layer_name(key: str) -> str | None:
    """The published name of a tensor of the encoder or of the flow, in files of DeFlow and of SRFlow.

    None for what those files lack.
    """
    for pattern, replacement in PUBLISHED_LAYERS:
        if re.match(pattern, key):
            name = re.sub("^" + pattern, replacement, key)
            for net_pattern, net_replacement in PUBLISHED_NET:
                name = re.sub(net_pattern, net_replacement, name)
            return name
    return None


def published_key_map(model: DeFlow) -> dict[str, str]:
    """Our state-dict keys -> the published ones. Raises CheckpointError for what the layout cannot hold."""
    config = model.config.flow
    if config.components > 1 or config.condition_channels or config.shift == "diagonal":
        raise CheckpointError("the published layout holds one correlated shift and unprojected features only")
    names = {key: published_name(model, key) for key in model.state_dict()}
    return {key: name for key, name in names.items() if name is not None}


def published_layout(model: DeFlow) -> dict[str, tuple[int, ...]]:
    """Every key and shape of the published state dict for this model's sizes, the unused ones too."""
    state = model.state_dict()
    layout = {theirs: tuple(state[ours].shape) for ours, theirs in published_key_map(model).items()}
    for key in layout:
        if key.endswith(("mean_shift", "cov_shift")):
            layout[key] = layout[key][1:]  # one component
    return layout | unused_published(model)


def unused_published(model: DeFlow) -> dict[str, tuple[int, ...]]:
    """Keys of published files that no computation reads, with their shapes."""
    config = model.config.flow
    unused: dict[str, tuple[int, ...]] = {}
    for index, latent in enumerate(model.prior.shared()):
        name = published_name(model, f"prior.latents.{index}.mean")
        assert name is not None
        unused[name.replace("mean_shift", "I")] = (latent.channels, latent.channels)
    assert model.encoder is not None
    return unused | unused_beside(model.encoder, config.in_channels)


def unused_beside(encoder: ConditionEncoder, image_channels: int) -> dict[str, tuple[int, ...]]:
    """Keys of published files beside an encoder that no computation of the flow reads, with their shapes.

    They are the end of the encoder as a restorer of its own, and a projection that was given up.
    """
    channels = encoder.config.channels
    # 96 whatever the flow's sizes: so in files of two and of three levels
    unused: dict[str, tuple[int, ...]] = {
        "flowUpsamplerNet.f.0.weight": (96, encoder.config.feature_channels, 3, 3),
        "flowUpsamplerNet.f.0.bias": (96,),
    }
    tail = [f"upconv{i}" for i in range(encoder.up_convs + 1, encoder.log2_downsample + 1)]
    for name in [*tail, "HRconv"]:
        unused[f"RRDB.{name}.weight"] = (channels, channels, 3, 3)
        unused[f"RRDB.{name}.bias"] = (channels,)
    unused["RRDB.conv_last.weight"] = (image_channels, channels, 3, 3)
    unused["RRDB.conv_last.bias"] = (image_channels,)
    return unused


def detect_published(state: Mapping[str, Tensor]) -> ModelConfig:
    """Sizes of a published DeFlow state dict, from its keys and shapes alone.

    Raises CheckpointError when a telling key is missing or has no such shape.
    """
    try:
        return _detect_published(state)
    except KeyError as error:
        problem, cause = f"{error} is missing", error  # type: str, Exception
    except (ValueError, IndexError, ZeroDivisionError, ConfigError) as error:
        problem, cause = f"its names and shapes tell no sizes ({error})", error
    raise CheckpointError(
        f"not a DeFlow state dict in the published layout: {problem}",
        next_step="ESRGAN weights initialise an encoder instead: fit --set fit.encoder_weights=FILE",
    ) from cause


def _detect_published(state: Mapping[str, Tensor]) -> ModelConfig:
    sizes = published_sizes(state, "invconv.l")
    flow = FlowConfig(
        levels=sizes.levels,
        steps=sizes.steps,
        transition_steps=sizes.transition_steps,
        hidden_channels=sizes.hidden_channels,
        splits=sizes.splits,
        downsample=sizes.downsample,
        in_channels=sizes.image_channels,
    )
    return ModelConfig(flow, sizes.encoder(_published_stack(sizes.blocks, sizes.stacked)))


@dataclass(frozen=True)
class PublishedSizes:
    """Sizes that names and shapes of a published DeFlow or SRFlow file tell.

    blocks: of the encoder's trunk. stacked: how many of them are stacked into the features; which ones is not
    recorded.
    """

    levels: int
    steps: int
    transition_steps: int
    hidden_channels: int
    splits: Literal["published", "all", "none"]
    downsample: int
    image_channels: int
    channels: int
    growth_channels: int
    blocks: int
    stacked: int

    def encoder(self, stacked_blocks: tuple[int, ...]) -> EncoderConfig:
        """The encoder's configuration, given the blocks that are stacked."""
        return EncoderConfig(self.channels, self.growth_channels, self.blocks, stacked_blocks)


def published_sizes(state: Mapping[str, Tensor], pointwise: str) -> PublishedSizes:
    """The sizes of a published DeFlow or SRFlow state dict.

    pointwise: the tensor that every 1x1 convolution has, ``invconv.l`` of a factored one, ``invconv.weight``
    of a dense one. Raises KeyError, ValueError, IndexError or ZeroDivisionError where a telling tensor is
    missing or misshapen.
    """
    prefix = FLOW_PREFIX
    layers = sorted({int(k.split(".")[2]) for k in state if k.startswith(prefix)})
    couplings = [i for i in layers if f"{prefix}{i}.affine.fAffine.0.weight" in state]
    transitions = [i for i in layers if f"{prefix}{i}.{pointwise}" in state and i not in couplings]
    splits = [i for i in layers if f"{prefix}{i}.conv.weight" in state]
    # a level is a run of couplings behind its transitions
    levels = sum(1 for i in transitions if i - 1 not in transitions)
    if not couplings or not levels:
        raise KeyError("flowUpsamplerNet.layers.*.affine.fAffine.0.weight")
    published = max(levels - 2, 0)
    kinds: dict[int, Literal["published", "all", "none"]] = {0: "none", levels - 1: "all"}
    kinds[published] = "published"
    if len(splits) not in kinds:
        raise KeyError(f"{published} or {levels - 1} splits expected, {len(splits)} found: one")
    features = state[f"{prefix}{couplings[0]}.affine.fFeatures.0.weight"].shape[1]
    channels = state["RRDB.conv_first.weight"].shape[0]
    return PublishedSizes(
        levels=levels,
        steps=len(couplings) // levels,
        transition_steps=len(transitions) // levels,
        hidden_channels=state[f"{prefix}{couplings[0]}.affine.fAffine.0.weight"].shape[0],
        splits=kinds[len(splits)],
        downsample=_published_downsample(state),
        image_channels=state["RRDB.conv_first.weight"].shape[1],
        channels=channels,
        growth_channels=state["RRDB.RRDB_trunk.0.RDB1.conv1.weight"].shape[0],
        blocks=1 + max(int(k.split(".")[2]) for k in state if k.startswith("RRDB.RRDB_trunk.")),
        stacked=features // channels - 1,
    )


def _published_downsample(state: Mapping[str, Tensor]) -> int:
    """s from the up-convolutions: a whole file has log2(s), of which the last is never used.

    A file without its unused tensors (no HRconv either) has one less.
    """
    ups = sum(1 for index in range(1, 5) if f"RRDB.upconv{index}.weight" in state)
    return int(2 ** (ups if "RRDB.HRconv.weight" in state else ups + 1))


def _published_stack(blocks: int, count: int) -> tuple[int, ...]:
    """Which trunk blocks are stacked: 1, 8, 15, 22 of 23; every block where there are as many."""
    if blocks == 23 and count == 4:
        return (1, 8, 15, 22)
    if blocks == count:
        return tuple(range(count))
    raise CheckpointError(
        f"the file has {blocks} encoder blocks of which {count} are stacked; which ones is not recorded",
        next_step="only 23 blocks with 4 stacked, or all blocks stacked, can be imported",
    )


def load_published(state: Mapping[str, Tensor]) -> tuple[DeFlow, list[str]]:
    """A model from a published state dict, loaded strictly; also the names of its unused tensors.

    Raises CheckpointError listing missing, unexpected or misshapen tensors.
    """
    config = detect_published(state)
    check_least_parameters(state, config.least_parameters)
    model = DeFlow(config)
    layout, unused = published_layout(model), unused_published(model)
    problems = misfits(state, dict(sorted(layout.items())), optional=unused)
    if problems:
        raise CheckpointError(f"state dict does not fit the model: {problems}")
    ours = model.state_dict()
    for key, name in published_key_map(model).items():
        ours[key] = state[name].reshape(ours[key].shape).to(ours[key].dtype)
    model.load_state_dict(ours, strict=True)
    return model.eval(), sorted(set(state) & set(unused))


def esrgan_encoder(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our names of the tensors of an ESRGAN generator in any dialect -> the names in its file.

    Raises CheckpointError where the dialect is unknown or a tensor of the file is none of a generator's.
    """
    dialect = dialect_of(state)
    names = tensor_names(dialect, *sizes_of(state, dialect))
    known = set(names.values())
    for key in state:
        if key not in known:
            raise CheckpointError(f"unexpected tensor {key} in ESRGAN weights ({dialect.name} keys)")
    return {ours: theirs for ours, theirs in names.items() if theirs in state}


class HasEncoder(Protocol):
    """A model with an encoder of its condition: DeFlow, where its flow is conditioned, or SRFlow."""

    @property
    def encoder(self) -> ConditionEncoder | None: ...


def load_encoder(model: HasEncoder, state: Mapping[str, Tensor]) -> list[str]:
    """Start a model's encoder from ESRGAN weights; returns the file's tensors that it does not use.

    The trunk of ESRGAN ends in another skip connection than an encoder's, from the first convolution and not
    from the blocks' output, so that its weights are a start and no more. The RRDB files of SRFlow's
    authors have the encoder's. The up-convolutions that the encoder has beyond the file's keep their
    start, and input channels beyond the image's, which an SRFlow's encoder may have, begin unseen. Raises
    CheckpointError when a tensor's shape differs or one of the trunk is missing.
    """
    if model.encoder is None:
        raise CheckpointError("this model has no encoder (flow.conditioning is none)")
    names = esrgan_encoder(state)
    ours = model.encoder.state_dict()
    # the end of a generator, and the up-convolutions beyond the encoder's
    spare = [
        key
        for key in names
        if key.startswith(ENCODER_LACKS) or (key not in ours and key.startswith("conv_up"))
    ]
    unused = [names.pop(key) for key in spare]
    taken = {key: state[theirs] for key, theirs in names.items()}
    first = "conv_first.weight"
    if first in taken and (spare_inputs := ours[first].shape[1] - taken[first].shape[1]) > 0:
        taken[first] = F.pad(taken[first], (0, 0, 0, 0, 0, spare_inputs))
    optional = {k for k in ours if k.startswith(("conv_up", "project."))}
    missing = sorted(set(ours) - set(taken) - optional)
    unknown = sorted(set(taken) - set(ours))
    if missing or unknown:
        raise CheckpointError(
            f"encoder weights do not fit: missing {missing[:3]}, unexpected {unknown[:3]}",
            next_step="encoder.blocks must be the file's number of blocks",
        )
    for key, value in taken.items():
        if value.shape != ours[key].shape:
            raise CheckpointError(
                f"{key} is {tuple(value.shape)} in the file, {tuple(ours[key].shape)} in the encoder",
                next_step="set encoder.channels and encoder.growth_channels as in the file",
            )
    model.encoder.load_state_dict(ours | taken, strict=True)
    return sorted(unused)
