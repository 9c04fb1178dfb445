"""Inception: 2048 pooled features of an ImageNet network, for the distance of two sets of patches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from deflow_cli.errors import ShapeError
from deflow_cli.layers.networks.trunk import frozen, full_float32, refuse_others, take
from deflow_cli.tensor_files import read_trunk

INPUT_SIDE = 299  # pixels
INCEPTION_FEATURES = 2048
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
EXPECTED = "torchvision's inception_v3_google-0cc3c7bd.pth"
INCEPTION_BATCH = 32  # patches at a time
UNUSED = ("fc.", "AuxLogits.")  # the classifiers above and beside the features


class InceptionFeatures:
    """Features of the last pooling layer of torchvision's Inception v3 (Szegedy et al., CVPR 2016).

    weights: torchvision's ImageNet weights, as tensors or as a .pth or .safetensors file. They are not the
    TensorFlow weights of published FID and KID values: compare figures of this network only with its own.
    Raises CheckpointError for weights that do not fit.
    """

    dimensions = INCEPTION_FEATURES

    def __init__(self, weights: Mapping[str, Tensor] | Path, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        origin = str(weights) if isinstance(weights, Path) else "the weights"
        tensors = read_trunk(weights) if isinstance(weights, Path) else weights
        from torchvision.models import inception_v3

        with torch.device("meta"):  # without memory and without a draw from the global generator
            model = inception_v3(weights=None, aux_logits=False, transform_input=True, init_weights=False)
            model.fc = torch.nn.Identity()
        state = {}
        for key, like in model.state_dict().items():
            # A count that evaluation never reads, and that older files lack.
            counted = key.endswith("num_batches_tracked")
            state[key] = (
                torch.zeros((), dtype=torch.int64) if counted else take(tensors, key, like, origin, EXPECTED)
            )
        refuse_others(tensors, lambda key: key in state or key.startswith(UNUSED), origin, EXPECTED)
        self._model = frozen(model, state, self._device)

    def __call__(self, patches_bchw: Tensor) -> Tensor:
        """B x 2048 float32 on the CPU, of uint8 RGB patches B x 3 x H x W, resized to 299 x 299."""
        if patches_bchw.dtype != torch.uint8 or patches_bchw.ndim != 4 or patches_bchw.shape[1] != 3:
            raise ShapeError(
                f"patches: {patches_bchw.dtype} {tuple(patches_bchw.shape)}, not uint8 B x 3 x H x W"
            )
        with torch.inference_mode(), full_float32(self._device):
            parts = [self._features(part_bchw) for part_bchw in patches_bchw.split(INCEPTION_BATCH)]
        return torch.cat(parts) if parts else torch.empty(0, INCEPTION_FEATURES)

    def _features(self, patches_bchw: Tensor) -> Tensor:
        x_bchw = patches_bchw.to(self._device).to(torch.float32) / 255
        x_bchw = interpolate(
            x_bchw, (INPUT_SIDE, INPUT_SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        mean, deviation = (torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        features_bd: Tensor = self._model((x_bchw - mean) / deviation)
        return features_bd.cpu()
