"""Degraders as graphs: the images of `deflow degrade`, whatever the model, the size and the seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.checkpoints.onnx.degrader import write_onnx_degrader
from deflow_cli.checkpoints.onnx.graph import OPSET
from deflow_cli.checkpoints.onnx.noise import NoiseInputs, RuntimeNoise, SeededNoise
from deflow_cli.errors import CheckpointError
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from tests.checkpoints.onnx.running import session
from tests.golden.tolerances import tolerance
from tests.inference.sampling.test_grain_sampling import grained
from tests.inference.small import build, smooth_images

KEY, SEED = "a.png", 5
TOLERANCE = tolerance("onnx.degrader")  # of values in [0, 1]


def contracting() -> DeFlow:
    """A model that loses detail, between domains of different colours."""
    model = build(gain="contraction")
    for latent in model.prior.shared():
        latent.set_gain(0.7 * torch.eye(latent.channels) + 0.02)
    mean = torch.tensor([[0.5, 0.5, 0.5], [0.4, 0.5, 0.6], [0.5, 0.5, 0.5], [0.4, 0.5, 0.6]])
    std = torch.tensor([[0.2, 0.2, 0.2], [0.1, 0.2, 0.3], [0.2, 0.2, 0.2], [0.1, 0.2, 0.3]])
    model.statistics.set(mean, std, 0.7)
    return model


MODELS: dict[str, Callable[[], DeFlow]] = {
    "mixture": build,
    "as-published": lambda: build(
        "correlated", levels=3, splits="published", scale="published", condition_channels=0
    ),
    "large-h": lambda: build("diagonal", levels=2, splits="all", downsample=2, condition_channels=0),
    "small-h": lambda: build("correlated", levels=2, downsample=8),
    "unconditional": lambda: build("correlated", conditioning="none"),
    "contracting": contracting,
    "stationary-grain": lambda: grained(True),
    "latent-grain": lambda: grained(False),
    "even-grain": lambda: grained(True, spread=0.0),
}


def ours(model: DeFlow, image: Tensor, seed: int, temperature: float) -> Tensor:
    """What ``deflow degrade`` computes of an image of the name KEY, before it is rounded."""
    shift = ShiftDistribution(model.prior)
    components = draw_components(shift, seed, KEY, 1)
    job = Job(shift, [ImageNoise(seed, KEY)], [components], [temperature])
    result = torch.empty_like(image)

    def write(sample: int, window: Window, piece: Tensor) -> None:
        result[(..., *window.slices)] = piece.clamp(0, 1)

    Translator(model, tile=0).translate(image, job, [0], write)
    return result


def array(value: float, dtype: type[np.generic] = np.float32) -> np.ndarray:
    return np.array([value], dtype)


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_gives_the_images_of_deflow_degrade(tmp_path, name):
    model = MODELS[name]()
    path = tmp_path / "degrader.onnx"
    size = write_onnx_degrader(path, model, SeededNoise(KEY, SEED), {})
    assert size == path.stat().st_size
    runs = session(path)
    assert [given.name for given in runs.get_inputs()] == ["image"]
    for height, width in ((48, 64), (37, 50), (3, 2)):  # whole cells, padded by mirroring, by repeating
        image = smooth_images(1, height, width)
        default = runs.run(None, {"image": image.numpy()})[0]
        assert np.abs(default - ours(model, image, SEED, 1.0).numpy()).max() < TOLERANCE
        given = {"seed": array(2**40, np.int64), "temperature": array(0.6)}
        other = runs.run(None, {"image": image.numpy(), **given})[0]
        assert np.abs(other - ours(model, image, 2**40, 0.6).numpy()).max() < TOLERANCE
        assert np.abs(default - image.numpy()).max() > 0.02
        assert np.abs(default - other).max() > 0.02


def test_images_of_a_batch_and_temperature_zero(tmp_path):
    model = build()
    write_onnx_degrader(tmp_path / "d.onnx", model, SeededNoise(KEY, SEED), {})
    runs, images = session(tmp_path / "d.onnx"), smooth_images(3, 24, 32)
    results = runs.run(None, {"image": images.numpy()})[0]
    for index, result in enumerate(results):
        wanted = ours(model, images[index : index + 1], SEED + index, 1.0)
        assert np.abs(result - wanted[0].numpy()).max() < TOLERANCE
    cold = [
        runs.run(None, {"image": images.numpy(), "temperature": array(0), "seed": array(seed, np.int64)})[0]
        for seed in (1, 2)
    ]
    assert np.array_equal(*cold)


@pytest.mark.parametrize("name", ["mixture", "stationary-grain", "latent-grain"])
def test_noise_that_is_passed_in(tmp_path, name):
    model = MODELS[name]()
    write_onnx_degrader(tmp_path / "d.onnx", model, NoiseInputs(), {})
    runs, image = session(tmp_path / "d.onnx"), smooth_images(1, 30, 41)
    noise, whole = ImageNoise(SEED, KEY), Window(0, 0, 32, 44)
    fields = {
        "noise_dequantisation": noise.dequantisation(3, whole),
        "noise_h": noise.h(3, whole.divided(4)),
        "noise_guide": noise.guide(whole.divided(2))[None],
        "noise_grain": noise.grain(0, 3, whole),
        "noise_level": torch.tensor([noise.level(0)]),
        "noise_component": torch.tensor([stable_generator(SEED, KEY, "component", 0).random()]),
        **{
            f"noise_latent_{index}": noise.latent(index, 0, channels, whole.divided(factor))
            for index, (channels, factor) in enumerate(model.flow.latent_plan)
        },
    }
    names = {given.name for given in runs.get_inputs()}
    feed = {key: value.float().numpy() for key, value in fields.items() if key in names}
    assert names == {"image", *feed}
    found = runs.run(None, {"image": image.numpy(), **feed})[0]
    assert np.abs(found - ours(model, image, SEED, 1.0).numpy()).max() < TOLERANCE
    operators = {node.op_type for node in onnx.load(tmp_path / "d.onnx").graph.node}
    assert not operators & {"BitShift", "BitwiseXor", "BitwiseAnd"}


def test_noise_of_the_runtime_is_as_strong_and_new_at_every_call(tmp_path):
    model = build("correlated")
    write_onnx_degrader(tmp_path / "d.onnx", model, RuntimeNoise(), {})
    runs, image = session(tmp_path / "d.onnx"), smooth_images(1, 64, 64)
    first, second = (runs.run(None, {"image": image.numpy()})[0] for _ in range(2))
    difference = (first - second).std()
    ours_differ = (ours(model, image, 1, 1.0) - ours(model, image, 2, 1.0)).std()
    assert difference == pytest.approx(float(ours_differ), rel=0.1)
    cold = [runs.run(None, {"image": image.numpy(), "temperature": array(0)})[0] for _ in range(2)]
    assert (cold[0] - cold[1]).std() < 0.1 * difference  # the noise on h and of the rounding is left


def test_a_fixed_graph_takes_the_image_alone(tmp_path):
    model, image = build(), smooth_images(1, 24, 24)
    path = tmp_path / "d.onnx"
    facts = {"deflow.title": "Film"}
    write_onnx_degrader(path, model, SeededNoise(KEY, 9), facts, temperature=0.5, fixed=True)
    written = onnx.load(path)
    assert [given.name for given in written.graph.input] == ["image"]
    assert [entry.version for entry in written.opset_import] == [OPSET]
    assert {entry.key: entry.value for entry in written.metadata_props} == facts
    found = session(path).run(None, {"image": image.numpy()})[0]
    assert np.abs(found - ours(model, image, 9, 0.5).numpy()).max() < TOLERANCE
    before = path.read_bytes()
    write_onnx_degrader(path, model, SeededNoise(KEY, 9), facts, temperature=0.5, fixed=True)
    assert path.read_bytes() == before


def test_a_model_of_other_channels_is_refused(tmp_path):
    model = build("correlated", in_channels=3)
    object.__setattr__(model.config.flow, "in_channels", 4)
    with pytest.raises(CheckpointError, match="4 channels"):
        write_onnx_degrader(tmp_path / "d.onnx", model, NoiseInputs(), {})
    assert not list(Path(tmp_path).iterdir())
