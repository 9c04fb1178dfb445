"""LPIPS: distance of deep features, weighted to agree with people's judgements (Zhang et al., CVPR 2018)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.layers.networks.trunk import frozen, full_float32, refuse_others, take
from deflow_cli.metrics.base import Metric, Score
from deflow_cli.metrics.options import LPIPS_NETS, ScorerOptions
from deflow_cli.metrics.registry import ScorerContext
from deflow_cli.tensor_files import read_trunk


@dataclass(frozen=True)
class Trunk:
    """A network whose features are compared.

    least: the smallest side of an image in pixels; below it some layer's output would be empty.
    """

    title: str
    metric: str
    least: int


TRUNKS = {"alex": Trunk("AlexNet", "lpips", 31), "vgg": Trunk("VGG-16", "lpips-vgg", 16)}
# Mean and standard deviation of ImageNet's channels, for pixels in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
UNIT_EPS = 1e-10  # added to the norm by which features are divided


class Lpips:
    """LPIPS v0.1 of 8-bit RGB images: 0 for identical ones, about 0.7 for strong damage; lower is better.

    The linear weights are those of the `lpips` package. trunk: torchvision's ImageNet weights of AlexNet
    (net="alex") or VGG-16 (net="vgg"), as tensors or as a .pth or .safetensors file. Input is x / 127.5 - 1,
    the full image without a crop, float32. Raises CheckpointError for a trunk that does not fit.
    """

    def __init__(
        self,
        trunk: Mapping[str, Tensor] | Path,
        net: str = "alex",
        device: torch.device | str = "cpu",
    ) -> None:
        if net not in TRUNKS:
            raise ConfigError(f"LPIPS on {net!r} is not known", next_step=f"use one of {', '.join(TRUNKS)}")
        self._about = TRUNKS[net]
        self._device = torch.device(device)
        self._model = _load(trunk, net, self._device)

    @property
    def metric(self) -> Metric:
        variant = f"{self._about.title}, lin v0.1, RGB, full image, no crop, float32"
        return Metric(
            name=self._about.metric,
            title=f"LPIPS ({self._about.title})",
            higher_is_better=False,
            needs_reference=True,
            digits=3,
            variant=variant,
        )

    def __call__(self, images_bchw: Tensor, references_bchw: Tensor | None = None) -> list[Score]:
        """Score uint8 images B x 3 x H x W against references of the same shape; NaN where too small."""
        if references_bchw is None:
            raise ShapeError("LPIPS compares images with references, and there are none")
        _check(images_bchw, references_bchw)
        if reason := self.too_small(*images_bchw.shape[2:]):
            return [Score(math.nan, reason)] * len(images_bchw)
        with torch.inference_mode(), full_float32(self._device):
            distances_b111 = self._model(self._signed(images_bchw), self._signed(references_bchw))
        return [Score(value) for value in distances_b111.flatten().tolist()]

    def distances(self, images_bchw: Tensor, references_bchw: Tensor) -> Tensor:
        """LPIPS of floating pictures B x 3 x H x W in [0, 1], B values, through which gradients pass.

        For trainings that use LPIPS as a loss; they are not rounded to 8 bits. Raises ShapeError where a side
        is too small.
        """
        if reason := self.too_small(*images_bchw.shape[2:]):
            raise ShapeError(reason)
        values: Tensor = self._model(2 * images_bchw - 1, 2 * references_bchw - 1)
        return values.flatten()

    def features(self, image_chw: Tensor) -> list[Tensor]:
        """Features of a uint8 image at every layer, 1 x C x h x w, scaled at each position to the norm 1."""
        with torch.inference_mode(), full_float32(self._device):
            scaled = self._model.get_submodule("scaling_layer")(self._signed(image_chw[None]))
            layers = self._model.get_submodule("net")(scaled)
            return [layer / (layer.square().sum(1, keepdim=True).sqrt() + UNIT_EPS) for layer in layers]

    def weighted(self, squares_1chw: Tensor, layer: int) -> Tensor:
        """Squared feature differences of a layer, summed over channels with its weights: 1 x 1 x h x w."""
        with torch.inference_mode(), full_float32(self._device):
            weighted: Tensor = self._model.get_submodule(f"lin{layer}")(squares_1chw)
            return weighted

    def too_small(self, height: int, width: int) -> str:
        """Why an image of this size has no LPIPS, or nothing where it has one."""
        least = self._about.least
        if min(height, width) >= least:
            return ""
        return f"{width}x{height}: LPIPS ({self._about.title}) needs at least {least} px a side"

    def _signed(self, images_bchw: Tensor) -> Tensor:
        return images_bchw.to(self._device).to(torch.float32) / 127.5 - 1


def _check(images_bchw: Tensor, references_bchw: Tensor) -> None:
    for name, tensor in (("images", images_bchw), ("references", references_bchw)):
        if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[1] != 3:
            raise ShapeError(f"{name}: {tensor.dtype} {tuple(tensor.shape)}, not uint8 B x 3 x H x W")
    if images_bchw.shape != references_bchw.shape:
        raise ShapeError(
            f"images {tuple(images_bchw.shape)} and references {tuple(references_bchw.shape)} differ"
        )


def _load(trunk: Mapping[str, Tensor] | Path, net: str, device: torch.device) -> nn.Module:
    """The package's model with the trunk in it.

    It is built on the meta device: its own start would draw from the global generator and fill half a
    gigabyte with layers that LPIPS never reads.
    """
    import lpips

    origin, expected = str(trunk) if isinstance(trunk, Path) else "the trunk", _expected(net)
    tensors = read_trunk(trunk) if isinstance(trunk, Path) else trunk
    lin = read_trunk(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth")
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # torchvision's, about the way in which lpips asks for its networks
        model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    state: dict[str, Tensor] = {}
    used = set()
    for key, like in model.state_dict().items():
        part, _, rest = key.partition(".")
        if part == "scaling_layer":
            state[key] = torch.tensor({"shift": SHIFT, "scale": SCALE}[rest]).view(1, 3, 1, 1)
        elif part == "net":  # net.slice2.3.weight is torchvision's features.3.weight
            source = "features." + rest.partition(".")[2]
            used.add(source)
            state[key] = take(tensors, source, like, origin, expected)
        else:  # lin0.model.1.weight, which the package also lists as lins.0.model.1.weight
            name = part if part != "lins" else f"lin{rest[0]}"
            state[key] = take(lin, f"{name}.model.1.weight", like, "lpips", "the lpips package 0.1.4")
    refuse_others(tensors, lambda key: key in used or key.startswith("classifier."), origin, expected)
    return frozen(model, state, device)


def _expected(net: str) -> str:
    return {"alex": "torchvision's alexnet-owt-7be5be79.pth", "vgg": "torchvision's vgg16-397923af.pth"}[net]


def build_lpips_alex(options: ScorerOptions, context: ScorerContext) -> Lpips:
    """LPIPS by AlexNet. Raises CheckpointError where its weights are not on this machine."""
    return _build("alex", options, context)


def build_lpips_vgg(options: ScorerOptions, context: ScorerContext) -> Lpips:
    """LPIPS by VGG16. Raises CheckpointError where its weights are not on this machine."""
    return _build("vgg", options, context)


def _build(net: str, options: ScorerOptions, context: ScorerContext) -> Lpips:
    # the file is the chosen net's, or that of the only one asked for
    alone = len({"lpips", "lpips-vgg"} & set(context.names)) == 1
    given = options.lpips_weights if alone or net == options.lpips_net else None
    return Lpips(context.locate(LPIPS_NETS[net], given, "--lpips-weights"), net, context.device)
