"""The sr-train workflow: ESRGAN's iteration to the letter, stages, exact resume, the best, alarms."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.config.restorer import SrConfig
from deflow_cli.data.images.files import Image, write_image
from deflow_cli.data.pairs.records import Pair
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import CheckpointError, ConfigError, DataError
from deflow_cli.layers.networks import rrdb_trunk
from deflow_cli.models.esrgan.discriminators import build_discriminator
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.esrgan.initialization import start_bicubic, start_identity
from deflow_cli.models.esrgan.losses import Vgg19Features
from deflow_cli.paths import LAST_RESTORER_FILE
from deflow_cli.presets.reader import SR
from deflow_cli.runtime.progress import Silent
from deflow_cli.runtime.seeding import generator as seeded
from deflow_cli.training.engine import Engine
from deflow_cli.workflows.restorer import networks as sr_networks
from deflow_cli.workflows.restorer import run as workflow
from deflow_cli.workflows.restorer.data import SrSource, open_data, split_pairs
from deflow_cli.workflows.restorer.divergence import SATURATED_ROWS, DivergenceMonitor
from deflow_cli.workflows.restorer.request import kept_restorer
from deflow_cli.workflows.restorer.run import SrRequest, sr_train
from deflow_cli.workflows.restorer.step import Moment, RestorerStep, rate_factor
from deflow_cli.workflows.restorer.validation import Measured, choose_scorers
from tests.forking import Forked
from tests.listening import Listener

CPU = torch.device("cpu")
SMALL = [
    "restorer.channels=8",
    "restorer.blocks=1",
    "loss.features=none",
    "loss.discriminator_channels=4",
    "psnr.iterations=6",
    "gan.iterations=6",
    "sr.stage=both",
    "sr.time_budget=0",
    "sr.batch_size=2",
    "sr.gt_size=16",
    "sr.held_out=0.25",
    "sr.log_every=2",
    "sr.validate_every=4",
    "sr.preview_every=100",
    "sr.checkpoint_every=3",
    "sr.select=psnr",
]


def small(*settings: str) -> SrConfig:
    return SR.apply_overrides(SR.load("tiny"), [*SMALL, *settings])


def picture(rng: np.random.Generator, side: int = 48) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / 8
    waves = [np.sin(x * rng.uniform(0.3, 2) + y * rng.uniform(0.3, 2) + k) for k in range(3)]
    return (128 + 60 * np.stack(waves, -1)).clip(0, 255).astype(np.uint8)


def write_pairs(root: Path, scale: int, count: int = 8) -> Path:
    rng = np.random.default_rng(scale)
    for side in ("gt", "lq"):
        (root / side).mkdir(parents=True)
    for index in range(count):
        gt = picture(rng)
        lq = gt[::scale, ::scale] + 10 * rng.standard_normal((48 // scale, 48 // scale, 3))
        write_image(root / "gt" / f"{index:07d}.png", Image(gt))
        write_image(root / "lq" / f"{index:07d}.png", Image(lq.clip(0, 255).astype(np.uint8)))
    return root


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "x2", 2)


def train(
    pairs: Path, out: Path, *settings: str, reporter: Silent | None = None, **fields
) -> workflow.SrResult:
    request = SrRequest(SrSource(pairs), out, small(*settings), device="cpu", **fields)
    return sr_train(request, reporter)


def assert_same(first: Path, second: Path) -> None:
    ours, theirs = load_file(first), load_file(second)
    assert ours.keys() == theirs.keys()
    different = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert not different, different[:3]


def pretend(monkeypatch: pytest.MonkeyPatch, psnrs: list[float]) -> None:
    """Let the validations find these."""
    found = iter(psnrs)

    def measure(validation: workflow.Validation, model: torch.nn.Module) -> Measured:
        return Measured({"psnr": next(found), "ssim": 0.5}, (0.0, 0.0, 0.0))

    monkeypatch.setattr(workflow.Validation, "measure", measure)


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if line.endswith("}")]


# -- one iteration ------------------------------------------------------------------------------------


def random_vgg() -> dict[str, Tensor]:
    """VGG19 with random weights: the real layers, of which no file is at hand."""
    random, state, inputs, index = torch.Generator().manual_seed(4), {}, 3, 0
    plan = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)
    for outputs in plan:
        if outputs:
            weight = torch.randn(outputs, inputs, 3, 3, generator=random) * (2 / (9 * inputs)) ** 0.5
            state[f"features.{index}.weight"], state[f"features.{index}.bias"] = weight, torch.zeros(outputs)
            inputs = outputs
        index += 2 if outputs else 1
    return state


@pytest.mark.parametrize("kind", ["vgg", "patch", "unet"])
def test_gan_iterations_are_those_of_realsr(kind: str) -> None:
    """Two iterations against a plain loop in the published order, which updates G before it looks at D.

    The sums are taken in the same order, since Adam makes steps of the rounding of gradients that vanish.
    """
    side = 32 if kind == "patch" else 16
    settings = ["restorer.scale=2", "sr.clip_gradients=0", f"loss.discriminator={kind}"]
    config = small("sr.stage=gan", *settings)
    features = Vgg19Features(random_vgg()) if kind == "vgg" else None

    def networks() -> tuple[RRDBNet, torch.nn.Module]:
        judge = build_discriminator(kind, side, 4, seeded(1, "judge"))
        return RRDBNet(config.restorer, seeded(1, "generator")), judge

    def images(step: int, size: int) -> Tensor:
        return torch.rand(2, 3, size, size, generator=seeded(step, size))

    batches = [(images(step, side), images(step, side // 2)) for step in range(2)]
    ours = networks()
    step = RestorerStep(*ours, features, config, lambda i: batches[i], lambda i, _: Moment("gan", i + 1, 0.0))
    for index in range(2):
        assert step(index, 0.0, 1.0).finite

    model, judge = networks()
    adam, judges_adam = (
        torch.optim.Adam(net.parameters(), lr=1e-4, betas=(0.9, 0.999), fused=True) for net in (model, judge)
    )
    for gt, lq in batches:
        judge.requires_grad_(False)
        adam.zero_grad()
        restored = model(lq)
        perceptual = 0.0 if features is None else F.l1_loss(features(restored), features(gt).detach())
        fake, real = judge(restored), judge(gt).detach()
        pixel = F.l1_loss(restored, gt)
        adversarial = 0.5 * (entropy(real - fake.mean(), 0.0) + entropy(fake - real.mean(), 1.0))
        (1e-2 * pixel + 5e-3 * adversarial + 1.0 * perceptual).backward()
        adam.step()
        judge.requires_grad_(True)
        judges_adam.zero_grad()
        real, fake = judge(gt), judge(restored.detach())
        judged = 0.5 * (entropy(real - fake.mean(), 1.0) + entropy(fake - real.mean(), 0.0))
        judged.backward()
        judges_adam.step()
    for net, plain in zip(ours, (model, judge), strict=True):
        expected = plain.state_dict()
        for key, value in net.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-7, msg=key)


def entropy(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def test_rates_are_halved_before_the_update() -> None:
    gan = SrConfig().gan
    at = [
        rate_factor(gan, Moment("gan", i, i / 60_000))
        for i in (1, 4999, 5000, 10_000, 19_999, 20_000, 60_000)
    ]
    assert at == [1, 1, 1 / 2, 1 / 4, 1 / 4, 1 / 8, 1 / 16]
    psnr = SrConfig().psnr
    assert rate_factor(psnr, Moment("psnr", 1, 0.0)) == 1.0
    assert rate_factor(psnr, Moment("psnr", 1, 0.5)) == pytest.approx(0.5)


@pytest.mark.parametrize(("scale", "unshuffle"), [(1, 1), (2, 1), (4, 1), (2, 2)])
def test_identity_start_passes_the_input(scale: int, unshuffle: int) -> None:
    config = small(f"restorer.scale={scale}", f"restorer.unshuffle={unshuffle}").restorer
    model = RRDBNet(config, seeded(0))
    start_identity(model)
    image = torch.rand(1, 3, 8, 8, generator=seeded(1))
    if unshuffle == 2:
        image = F.interpolate(F.avg_pool2d(image, 2), scale_factor=2)
    expected = F.interpolate(image, scale_factor=scale)
    torch.testing.assert_close(model(image), expected, rtol=1e-5, atol=1e-6)
    (model(image) ** 2).mean().backward()
    assert model.conv_last.weight.grad is not None
    assert model.conv_last.weight.grad[:, 3:].abs().max() > 0  # the other features can join


@pytest.mark.parametrize(("scale", "error"), [(1, 1e-6), (2, 1e-5), (4, 0.02)])
def test_bicubic_start_enlarges_the_input(scale: int, error: float) -> None:
    """Beside torch's antialiased bicubic, whose kernel has a = -1/2 too, of white noise."""
    model = RRDBNet(small(f"restorer.scale={scale}").restorer, seeded(0))
    start_bicubic(model)
    image = torch.rand(1, 3, 24, 24, generator=seeded(1))
    expected = F.interpolate(image, scale_factor=scale, mode="bicubic", antialias=True)
    inner = (..., slice(4 * scale, -4 * scale), slice(4 * scale, -4 * scale))
    difference = (model(image) - expected)[inner]
    assert difference.square().mean().sqrt() < error * image.std()


@pytest.mark.parametrize(("scale", "unshuffle"), [(2, 2), (4, 2)])
def test_bicubic_start_of_unshuffled_pixels_keeps_flat_areas(scale: int, unshuffle: int) -> None:
    config = small(f"restorer.scale={scale}", f"restorer.unshuffle={unshuffle}").restorer
    model = RRDBNet(config, seeded(0))
    start_bicubic(model)
    image = torch.full((1, 3, 24, 24), 0.3)
    inner = (..., slice(8 * scale, -8 * scale), slice(8 * scale, -8 * scale))
    torch.testing.assert_close(model(image)[inner], torch.full((1, 3, 8 * scale, 8 * scale), 0.3))


# -- runs ---------------------------------------------------------------------------------------------


def test_both_stages_leave_what_is_promised(pairs: Path, tmp_path: Path) -> None:
    heard = Listener()
    result = train(pairs, tmp_path / "run", reporter=heard)
    names = {path.name for path in result.run_dir.iterdir()}
    assert {"restorer.safetensors", "restorer-last.safetensors", "restorer-psnr.safetensors"} <= names
    assert {"state.safetensors", "config.toml", "run.json", "log.jsonl", "previews"} <= names
    assert (result.step, result.interrupted, result.select) == (12, False, "psnr")
    model, facts = load_restorer(result.model_path)
    assert (model.config.scale, model.config.channels, facts["stage"], facts["perceptual"]) == (
        2,
        8,
        "gan",
        "none",
    )
    assert facts["step"] == result.best_step
    assert facts["scores"] == result.scores
    assert str(pairs) not in json.dumps(facts)  # the file leaves the machine
    assert any("--perceptual none" in text for text in heard.warnings)
    assert any("GAN stage begins at step 6" in text for text in heard.notes)
    rows = rows_of(result.run_dir)
    assert "discriminator" not in rows[0]
    assert {"pixel", "adversarial", "discriminator", "real_logit"} <= rows[-2].keys()
    held = [row for row in rows if "held_out_psnr" in row]
    assert [row["step"] for row in held] == [4, 6, 8, 12]
    assert result.best_step in (8, 12)  # the best of the last stage
    assert result.input_scores["psnr"] > 10


def test_best_is_kept_beside_the_last(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [20.0, 30.0, 25.0])
    settings = ["sr.stage=psnr", "psnr.iterations=6", "sr.validate_every=2"]
    result = train(pairs, tmp_path / "run", *settings)
    assert (result.best_step, result.scores["psnr"]) == (4, 30.0)
    best, last = (load_restorer(path)[1] for path in (result.model_path, result.last_path))
    assert (best["step"], last["step"]) == (4, 6)


def test_two_runs_are_bitwise_equal_and_seeds_differ(pairs: Path, tmp_path: Path) -> None:
    first, same, other = (
        train(pairs, tmp_path / name, f"sr.seed={seed}").last_path
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert_same(first, same)
    with pytest.raises(AssertionError):
        assert_same(first, other)


KILLED = """
import sys
from pathlib import Path
import torch
from tests.workflows.restorer.test_sr_train import killed_request
from deflow_cli.workflows.restorer.run import sr_train
torch.set_num_threads(1)
sr_train(killed_request(sys.argv[1], *map(Path, sys.argv[2:4]), resume=bool(sys.argv[4])))
"""


def killed_request(kind: str, data: Path, out: Path, resume: bool) -> SrRequest:
    """A run of two stages on stored pairs, or on pictures that are degraded while it trains."""
    source = SrSource(data)
    if kind == "hr":
        source = SrSource(hr=data / "gt", scale=2, degrader=DegraderChoice("white-noise", sigma=10.0))
    config = small("psnr.iterations=14", "gan.iterations=14", "sr.ema=0.9")
    return SrRequest(source, out, config, device="cpu", resume=resume)


def kill_at(step: int, kind: str, data: Path, out: Path, resume: bool) -> None:
    """Start a run in a process of its own and kill it once its log has a step."""
    process = Forked(KILLED, kind, data, out, "resume" if resume else "")
    while process.poll() is None:
        rows = rows_of(out) if (out / "log.jsonl").exists() else []
        if rows and rows[-1]["step"] >= step:
            break
        time.sleep(0.005)
    assert process.poll() is None, f"the run ended before it could be killed: {process.output()}"
    process.kill()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the killed process: other numbers of threads sum in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow(seconds=30)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("kind", "kills"), [("pairs", (4, 18)), ("hr", (18,))])
def test_sigkill_and_resume_end_with_the_same_files(
    pairs: Path, tmp_path: Path, kind: str, kills: tuple[int, ...]
) -> None:
    """Killed in each stage; on the fly, each crop's degradation must come back too."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sr_train(killed_request(kind, pairs, whole, False))
    for count, step in enumerate(kills):
        kill_at(step, kind, pairs, killed, resume=count > 0)
    sr_train(killed_request(kind, pairs, killed, True))
    for name in ("restorer", "restorer-last", "restorer-psnr", "state"):
        assert_same(*(run / f"{name}.safetensors" for run in (whole, killed)))
    assert [row["step"] for row in rows_of(whole)] == [row["step"] for row in rows_of(killed)]


def test_ctrl_c_leaves_a_usable_restorer_and_goes_on(pairs: Path, tmp_path: Path) -> None:
    class PressesCtrlC(Silent):
        def update(self, done: int, **fields: float | int | str) -> None:
            if done == 8:
                os.kill(os.getpid(), signal.SIGINT)

    result = train(pairs, tmp_path / "run", reporter=PressesCtrlC())
    assert (result.interrupted, result.step) == (True, 8)
    load_restorer(result.model_path)
    assert not train(pairs, tmp_path / "run", resume=True).interrupted
    assert_same(train(pairs, tmp_path / "whole").last_path, result.last_path)


def test_gan_starts_from_a_file_and_takes_its_sizes(pairs: Path, tmp_path: Path) -> None:
    first = train(pairs, tmp_path / "psnr", "sr.stage=psnr", "restorer.channels=12")
    second = train(pairs, tmp_path / "gan", "sr.stage=auto", "gan.iterations=2", init=first.model_path)
    model, facts = load_restorer(second.model_path)
    assert (model.config.channels, facts["stage"], facts["init"]) == (12, "gan", "restorer.safetensors")
    with pytest.raises(CheckpointError, match="not those of rrdb"):
        train(pairs, tmp_path / "x", "sr.stage=gan", init=first.model_path, arch="rrdb")
    four = write_pairs(tmp_path / "x4", 4)
    with pytest.raises(CheckpointError, match="restores x2, the pairs are x4"):
        train(four, tmp_path / "x", "sr.stage=gan", init=first.model_path)
    with pytest.raises(ConfigError, match="needs a restorer to start from"):
        train(pairs, tmp_path / "x", "sr.stage=gan")
    assert not (tmp_path / "x").exists()


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without foreign weights."""
    for name in ("DEFLOW_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))


@pytest.mark.usefixtures("no_weights")
def test_missing_vgg_names_both_ways_out(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="vgg19") as caught:
        train(pairs, tmp_path / "run", "loss.features=vgg19")
    assert "--perceptual-weights" in caught.value.next_step
    assert "--perceptual none" in caught.value.next_step
    assert not (tmp_path / "run").exists()
    torch.save(random_vgg(), tmp_path / "vgg.pth")
    config = small("loss.features=vgg19", f"loss.features_file={tmp_path / 'vgg.pth'}")
    features = sr_networks.load_features(config, CPU, Silent())
    assert features is not None
    assert sr_networks.load_features(small("sr.stage=psnr", "loss.features=vgg19"), CPU, Silent()) is None


@pytest.mark.usefixtures("no_weights")
def test_steps_that_are_named_are_kept(pairs: Path, tmp_path: Path) -> None:
    """Each in a file; a run of so many steps ends with the same weights."""
    train(pairs, tmp_path / "all", "sr.stage=psnr", "sr.keep_at=4,6", "psnr.schedule=constant")
    train(pairs, tmp_path / "four", "sr.stage=psnr", "psnr.iterations=4", "psnr.schedule=constant")
    kept = [kept_restorer(tmp_path / "all", step) for step in (4, 6)]
    assert sorted((tmp_path / "all").glob("restorer-00*")) == kept
    assert_same(kept[0], tmp_path / "four" / LAST_RESTORER_FILE)
    assert_same(kept[1], tmp_path / "all" / LAST_RESTORER_FILE)
    assert load_restorer(kept[0])[1]["scores"]["psnr"] > 0  # it was validated


def test_best_is_chosen_by_what_was_asked_for(pairs: Path, tmp_path: Path) -> None:
    heard = Listener()
    short = ["sr.stage=psnr", "psnr.iterations=2"]
    assert train(pairs, tmp_path / "auto", *short, "sr.select=auto", reporter=heard).select == "psnr"
    assert any("LPIPS cannot be had" in note for note in heard.notes)
    assert train(pairs, tmp_path / "ssim", *short, "sr.select=ssim").select == "ssim"
    with pytest.raises(CheckpointError, match="alexnet") as caught:
        train(pairs, tmp_path / "lpips", *short, "sr.select=lpips")
    assert "--select psnr" in caught.value.next_step
    with pytest.raises(DataError, match="niqe cannot be had"):  # 48 px are too few
        train(pairs, tmp_path / "niqe", *short, "sr.select=niqe")
    assert not (tmp_path / "lpips").exists()


# -- data ---------------------------------------------------------------------------------------------


def test_scale_is_the_pairs_own(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="are x2, not x4"):
        open_data(SrSource(pairs, scale=4), small().sr, CPU, Silent())
    with pytest.raises(ConfigError, match="no multiple of the scale 2"):
        open_data(SrSource(pairs), small("sr.gt_size=15").sr, CPU, Silent())
    other = write_pairs(tmp_path / "x4", 4)
    with pytest.raises(DataError, match="x4, those to train on x2"):
        open_data(SrSource(pairs, val=other), small().sr, CPU, Silent())
    with pytest.raises(ConfigError, match="both PAIRS and --hr"):
        SrSource(pairs, hr=pairs)


def test_bad_pairs_are_named_and_left_out(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", 2)
    (folder / "lq" / "0000003.png").write_bytes(b"no picture")
    write_image(folder / "gt" / "0000005.png", Image(picture(np.random.default_rng(0), 8)))
    write_image(folder / "lq" / "0000005.png", Image(picture(np.random.default_rng(0), 4)))
    heard = Listener()
    train(folder, tmp_path / "run", "sr.stage=psnr", "sr.held_out=0", reporter=heard)
    said = "\n".join(heard.warnings)
    for name, reason in (("0000003", "cannot be decoded"), ("0000005", "8x8 is smaller than the crop of 16")):
        assert re.search(f"pair {name} left out: .*{reason}", said), said


def test_crops_match_and_take_all_eight_turns(pairs: Path) -> None:
    data = open_data(SrSource(pairs), small("sr.held_out=0").sr, CPU, Silent())
    gt, lq = data.crops.batch(3, 8)
    again, _ = data.crops.batch(3, 8)
    assert torch.equal(gt, again)
    assert not torch.equal(gt, data.crops.batch(4, 8)[0])
    assert (gt.shape, lq.shape) == ((8, 3, 16, 16), (8, 3, 8, 8))
    # lq is every second pixel of gt, plus noise; which one it is depends on the flips
    nearest = [
        (gt[:, :, y::2, x::2].float() - lq.float()).abs().mean((1, 2, 3)) for y in (0, 1) for x in (0, 1)
    ]
    assert torch.stack(nearest).min(0).values.max() < 10  # noise of 10 grey levels: 8 on average
    corners = torch.stack(nearest).argmin(0)
    assert len(corners.unique()) > 1  # flips happen
    epoch = torch.cat([data.crops.batch(step, 4)[0] for step in range(2)])
    assert len({crop.numpy().tobytes() for crop in epoch}) == 8


def test_crops_of_pictures_are_those_of_the_picture_made_small(pairs: Path) -> None:
    from deflow_cli.data.images.files import read_rgb8
    from deflow_cli.data.images.resize import downsample
    from deflow_cli.data.pairs.crops import CleanCrops

    path = pairs / "gt" / "0000000.png"
    crops = CleanCrops([path], scale=2, gt_size=16, flips=False, seed=0)
    whole = downsample(read_rgb8(path), 2, "matlab")
    for top, left in ((0, 0), (5, 7), (16, 16), (0, 16)):
        _, lq = crops.cut(crops.load(0), top, left)
        assert np.array_equal(lq, whole[top : top + 8, left : left + 8])


def test_degradations_are_fresh_for_every_crop_and_the_same_again(pairs: Path) -> None:
    source = SrSource(hr=pairs / "gt", scale=2, degrader=DegraderChoice("white-noise", sigma=10.0))
    data = open_data(source, small().sr, CPU, Silent())
    batch = data.crops.batch(0, 4)
    gt, first = data.ready(batch, 0, CPU)
    clean = batch[1].float() / 255
    assert gt.shape == (4, 3, 16, 16)
    assert 0.02 < float((first - clean).std()) < 0.06
    assert torch.equal(first, data.ready(batch, 0, CPU)[1])
    assert not torch.equal(first, data.ready(batch, 1, CPU)[1])
    assert torch.equal((first * 255).round() / 255, first)  # as from an 8-bit file
    held = open_data(source, small().sr, CPU, Silent()).held_out
    assert all(np.array_equal(a.lq, b.lq) for a, b in zip(data.held_out, held, strict=True))
    assert data.facts["degrader"]["name"] == "white-noise"


def test_variants_and_crops_of_a_picture_are_held_out_together() -> None:
    marks = ("_v01_s001", "_v01_s002", "_v02_s001", "_v02_s002")
    keys = [f"{image:07d}{mark}" for image in range(8) for mark in marks]
    train_on, held = split_pairs(keys, 0.25, 0)
    assert len(held) == 8
    assert not {keys[i][:7] for i in train_on} & {keys[i][:7] for i in held}


# -- alarms -------------------------------------------------------------------------------------------


def watch(heard: Listener) -> DivergenceMonitor:
    memory: dict = {}
    return DivergenceMonitor(lambda: memory, 3.0, heard, lambda step: "Go back to step 40")


def test_falling_psnr_is_reported_once_with_the_way_back() -> None:
    heard = Listener()
    alarm = watch(heard)
    for step, psnr in enumerate((25.0, 28.0, 26.0, 24.5, 24.0, 27.0, 24.0)):
        alarm.on_validation(step, Measured({"psnr": psnr}, (0.0, 0.0, 0.0)))
    assert len(heard.warnings) == 2
    assert "step 3: the held-out PSNR fell to 24.50 dB, 3.5 dB below" in heard.warnings[0]
    assert "Go back to step 40" in heard.warnings[0]


def test_saturated_discriminator_is_reported() -> None:
    heard = Listener()
    alarm = watch(heard)
    for step in range(2 * SATURATED_ROWS):
        alarm.on_row(step, {"discriminator": 0.5 if step == SATURATED_ROWS - 1 else 0.001})
    assert len(heard.warnings) == 1
    assert f"step {2 * SATURATED_ROWS - 1}: the discriminator is saturated" in heard.warnings[0]


def test_colour_drift_is_reported() -> None:
    heard = Listener()
    watch(heard).on_validation(7, Measured({"psnr": 30.0}, (0.001, -0.03, 0.0)))
    assert "step 7: colours drift" in heard.warnings[0]
    assert "+0.3, -7.6, +0.0" in heard.warnings[0]


def test_a_collapsing_run_says_so_while_it_runs(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Listener()
    pretend(monkeypatch, [30.0, 22.0, 22.0])
    train(pairs, tmp_path / "run", "sr.stage=psnr", "sr.validate_every=2", reporter=heard)
    assert "The weights of step 2 are in" in heard.warnings[0]
    assert "restorer.safetensors: go back to them with --init" in heard.warnings[0]


def test_validation_scores_8_bit_images() -> None:
    gt = np.full((48, 48, 3), 100, np.uint8)
    pair = Pair("a", gt, gt)
    scorers, _ = choose_scorers("psnr", CPU, Silent())
    model = torch.nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3)[..., None, None])
        model.bias.fill_(1.4 / 255)
    measured = workflow.Validation([pair], scorers, CPU).measure(model)
    assert measured.drift == pytest.approx((1 / 255,) * 3)
    assert measured.scores["psnr"] == pytest.approx(20 * np.log10(255))


def test_a_time_budget_is_shared_by_both_stages(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "share", property(lambda engine: engine.progress.step / 8))  # of any machine
    settings = ["psnr.iterations=0", "gan.iterations=0", "sr.time_budget=2", "sr.psnr_share=0.4"]
    result = train(pairs, tmp_path / "run", *settings, "loss.discriminator=unet")
    facts = load_restorer(result.model_path)[1]
    assert (result.step, facts["stage"], facts["gan_from"]) == (8, "gan", [4, 0.5])


def test_bf16_trains_both_stages(pairs: Path, tmp_path: Path) -> None:
    result = train(pairs, tmp_path / "run", "psnr.iterations=1", "gan.iterations=1", "sr.precision=bf16")
    assert (result.step, rows_of(result.run_dir)[-1].get("skipped", 0)) == (2, 0)
    assert all(torch.isfinite(value).all() for value in load_file(result.last_path).values())


def test_compiled_steps_are_those_of_plain_ones(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled where asked for alone; by the tracer, since what the code generator makes needs a compiler."""
    compiled = []

    def traced(function, wanted):
        if not wanted:
            return function
        compiled.append(function.__name__)
        return torch.compile(function, dynamic=False, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(rrdb_trunk, "maybe_compiled", traced)
    monkeypatch.setattr(workflow, "can_compile", lambda device, reporter: True)
    settings = ["sr.stage=psnr", "psnr.iterations=2", "sr.precision=fp32"]
    plain = load_file(train(pairs, tmp_path / "plain", *settings).last_path)
    assert not compiled
    found = load_file(train(pairs, tmp_path / "compiled", *settings, "sr.compile=yes").last_path)
    assert set(compiled) == {"_dense_block", "_dense_block_backward"}
    for key, value in found.items():
        torch.testing.assert_close(value, plain[key], rtol=1e-5, atol=1e-6, msg=key)


def test_a_bad_step_changes_no_weight(pairs: Path) -> None:
    config = small("sr.stage=gan", "restorer.scale=2")
    networks = RRDBNet(config.restorer, seeded(1)), build_discriminator("vgg", 16, 4, seeded(2))
    before = [{k: v.clone() for k, v in net.named_parameters()} for net in networks]
    images = torch.rand(2, 3, 16, 16, generator=seeded(3)), torch.full((2, 3, 8, 8), float("nan"))
    step = RestorerStep(*networks, None, config, lambda i: images, lambda i, _: Moment("gan", 1, 0.0))
    assert not step(0, 0.0, 1.0).finite
    for net, kept in zip(networks, before, strict=True):
        assert all(torch.equal(value, kept[key]) for key, value in net.named_parameters())
