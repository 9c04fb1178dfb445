"""Inception features: torchvision's own forward pass, with random weights in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.models import Inception3, inception_v3

from deflow_cli.errors import CheckpointError, ShapeError
from deflow_cli.metrics.distances.inception import InceptionFeatures


@pytest.fixture(scope="module")
def network() -> Inception3:
    """The whole network, classifiers and all, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = inception_v3(weights=None, aux_logits=True, transform_input=True, init_weights=False)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.05)
    return model.eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def features(weights) -> InceptionFeatures:
    return InceptionFeatures(weights)


def _patches(count: int = 2, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_equals_torchvisions_forward(network, features):
    patches = _patches()
    kept = {}
    hook = network.avgpool.register_forward_hook(lambda module, args, out: kept.update(out=out.flatten(1)))
    resized = interpolate(patches.float() / 255, 299, mode="bilinear", antialias=True)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.inference_mode():
        network((resized - mean) / deviation)
    hook.remove()
    found = features(patches)
    assert found.shape == (2, 2048)
    assert found.dtype == torch.float32
    assert found.std(0).max() > 0
    torch.testing.assert_close(found, kept["out"])


def test_the_same_twice_and_in_any_batch(features):
    patches = _patches()
    both = features(patches)
    assert torch.equal(both, features(patches))
    torch.testing.assert_close(features(patches[1:]), both[1:], rtol=1e-4, atol=1e-5)
    assert features(patches[:0]).shape == (0, 2048)


def test_loading_draws_nothing(weights):
    before = torch.get_rng_state()
    InceptionFeatures(weights)
    assert torch.equal(before, torch.get_rng_state())


def test_files_without_classifiers_or_counts_are_enough(network, features):
    core = {
        key: value
        for key, value in network.state_dict().items()
        if not key.startswith(("fc.", "AuxLogits.")) and not key.endswith("num_batches_tracked")
    }
    patches = _patches(1)
    assert torch.equal(InceptionFeatures(core)(patches), features(patches))


def test_a_wrong_file_is_named(network, tmp_path):
    state = network.state_dict()
    del state["Mixed_6a.branch3x3.conv.weight"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"cut\.pth: has no tensor Mixed_6a\.branch3x3\.conv\.weight"):
        InceptionFeatures(tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"features\.0\.weight has no place"):
        InceptionFeatures(network.state_dict() | {"features.0.weight": torch.zeros(1)})


def test_wrong_input_is_refused(features):
    with pytest.raises(ShapeError, match="uint8"):
        features(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ShapeError, match="B x 3"):
        features(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
