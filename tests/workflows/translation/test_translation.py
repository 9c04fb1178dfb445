"""Fits by the baselines: they learn, resume exactly, and give models that other commands use."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from deflow_cli.checkpoints.translation.files import load_translator
from deflow_cli.config.kernels import KernelSettings
from deflow_cli.config.restorer import SrFitConfig
from deflow_cli.data.blur.pools import KernelPool
from deflow_cli.data.blur.shapes import gaussian_kernel
from deflow_cli.data.photos import packaged_photos
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import CheckpointError, ConfigError, DataError
from deflow_cli.metrics.noise.findings import LOW_PASS_DB
from deflow_cli.presets.methods import fit_method
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.api import fit
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from deflow_cli.workflows.inspect.run import inspect_model
from deflow_cli.workflows.pairs.run import MakePairsRequest, PairSettings, make_pairs
from deflow_cli.workflows.restorer.data import SrSource, open_data
from deflow_cli.workflows.translation import frequency
from deflow_cli.workflows.translation.data import TranslationBatch
from deflow_cli.workflows.translation.dsgan import DsganTrainer
from deflow_cli.workflows.translation.run import TranslationRun
from deflow_cli.workflows.translation.trainer import snapshot
from tests.listening import Listener
from tests.metrics.space.challenge import alexnet
from tests.workflows.translation.folders import FAST, translate

NAMES = list(FAST)
Folders = tuple[Path, Path]


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = (load_file(run / "model.safetensors") for run in (first, second))
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


# -- training ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_run_stopped_and_resumed_ends_with_the_same_weights(
    name: str, unpaired_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("fit.checkpoint_every=3", "fit.preview_every=5", "fit.ema=0.9")
    translate(name, unpaired_folders, tmp_path / "whole", *settings)
    with monkeypatch.context() as patched:

        def stop(run: TranslationRun, step: int) -> None:
            raise KeyboardInterrupt

        patched.setattr(TranslationRun, "preview", stop)
        with pytest.raises(KeyboardInterrupt):
            translate(name, unpaired_folders, tmp_path / "stopped", *settings)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    result = translate(name, unpaired_folders, tmp_path / "stopped", *settings, resume=True)
    assert (result.step, result.interrupted) == (6, False)
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_another_seed_is_another_model(unpaired_folders: Folders, tmp_path: Path) -> None:
    for seed in (0, 1):
        translate("dsgan", unpaired_folders, tmp_path / str(seed), f"fit.seed={seed}", iterations=1)
    a, b = (load_file(tmp_path / seed / "model.safetensors") for seed in "01")
    assert not torch.equal(a["tail.weight"], b["tail.weight"])


def test_the_low_frequencies_are_learnt(unpaired_folders: Folders, tmp_path: Path) -> None:
    settings = ("fit.learning_rate=5e-3", "fit.log_every=10")
    result = translate("dsgan", unpaired_folders, tmp_path / "run", *settings, iterations=80)
    colours = [row["colour"] for row in rows(tmp_path / "run") if "colour" in row]
    assert colours[-1] < 0.3 * colours[0]
    # what `deflow score --realism` calls a problem begins 10 dB below its bound
    assert result.figures["low_pass_psnr"] > LOW_PASS_DB - 10


def test_a_step_that_is_not_finite_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The discriminator has moved already when the generator's loss turns out not to be finite."""
    method = fit_method("dsgan")
    config = method.presets.apply_overrides(
        method.presets.load("tiny"), ["dsgan.features=none", *FAST["dsgan"]]
    )
    trainer = DsganTrainer.build(config, torch.device("cpu"), Silent())
    random = torch.Generator().manual_seed(0)
    batch = TranslationBatch(*(torch.rand(2, 3, 32, 32, generator=random) for _ in range(3)))
    begun = [snapshot(network) for network in trainer.networks]
    assert bool(trainer.train(0, batch)[1])
    moved = [snapshot(network) for network in trainer.networks]
    for first, later in zip(begun, moved, strict=True):
        assert any(not torch.equal(first[key], later[key]) for key in first)
    monkeypatch.setattr(frequency, "log_generator_loss", lambda fake: fake.mean() * float("nan"))
    assert not bool(trainer.train(1, batch)[1])
    for network, before in zip(trainer.networks, moved, strict=True):
        assert all(torch.equal(before[key], value) for key, value in network.tensors().items())
    # neither does one before any other, when the optimisers have no state yet
    trainer = DsganTrainer.build(config, torch.device("cpu"), Silent())
    assert not bool(trainer.train(0, batch)[1])
    for network, first in zip(trainer.networks, begun, strict=True):
        after = network.tensors()
        assert all(torch.equal(first[key], after[key]) for key in first)
        assert all(not value.any() for key, value in after.items() if key not in first)


def test_a_run_ends_with_a_page_that_tells_its_failings(unpaired_folders: Folders, tmp_path: Path) -> None:
    settings = ("dasr.scale=2", "fit.report=true", "fit.validate_every=3")  # small pictures of 80 px
    result = translate("dasr", unpaired_folders, tmp_path / "run", *settings)
    assert result.report_path == tmp_path / "run" / "report.html"
    text = result.report_path.read_text()
    assert "No randomness" in text
    for words in ("by dasr", "real noisy", "adversarial", "held_out_low_pass_psnr", "constant_share = 0.625"):
        assert words in text
    assert str(tmp_path) not in text


def test_too_few_images_to_compare_are_said_on_the_page(unpaired_folders: Folders, tmp_path: Path) -> None:
    result = translate("dsgan", unpaired_folders, tmp_path / "run", "fit.report=true", iterations=2)
    assert result.report_path is not None
    assert "How real the noise is was not measured" in result.report_path.read_text()


def test_python_fits_by_a_method_too(unpaired_folders: Folders, tmp_path: Path) -> None:
    settings = ["fit.iterations=2", "fit.time_budget=0", "fit.report=false", *FAST["cyclegan"]]
    options: dict[str, Any] = {"out": tmp_path / "run", "device": "cpu"}
    result = fit(*unpaired_folders, method="cyclegan", preset="tiny", settings=settings, **options)
    assert (result.step, load_translator(result.model_path).method) == (2, "cyclegan")
    assert fit(*unpaired_folders, resume=True, **options).step == 2
    with pytest.raises(ConfigError, match="of the method cyclegan, not of dsgan"):
        fit(*unpaired_folders, resume=True, method="dsgan", **options)


def test_lpips_is_a_part_of_the_loss_and_recorded(unpaired_folders: Folders, tmp_path: Path) -> None:
    file = tmp_path / "alexnet.pth"
    torch.save(alexnet(), file)
    settings = ("dsgan.features=alexnet", f"dsgan.features_file={file}")
    translate("dsgan", unpaired_folders, tmp_path / "run", *settings, iterations=2)
    assert 0 < rows(tmp_path / "run")[0]["perceptual"] < 2
    facts = load_translator(tmp_path / "run" / "model.safetensors").facts
    assert facts["perceptual"] == {"features": "alexnet", "file": "alexnet.pth"}
    config = tomllib.loads(facts["config"])
    assert config["dsgan"]["features_file"] == "alexnet.pth"  # not where it lies on this machine


def test_cyclegan_learns_to_come_back_and_logs_what_eight_bits_cost(
    unpaired_folders: Folders, tmp_path: Path
) -> None:
    settings = ("fit.learning_rate=2e-3", "fit.log_every=10", "fit.validate_every=20", "cyclegan.channels=8")
    translate("cyclegan", unpaired_folders, tmp_path / "run", *settings, iterations=40)
    logged = rows(tmp_path / "run")
    for part in ("cycle", "identity"):
        values = [row[part] for row in logged if part in row]
        assert values[-1] < 0.85 * values[0]  # 0.76 and 0.79 where this was written
    figures = [row for row in logged if "held_out_cycle" in row]
    assert [row["step"] for row in figures] == [20, 40]
    for row in figures:
        gap = row["held_out_cycle_8bit"] - row["held_out_cycle"]
        assert row["held_out_cycle_gap"] == pytest.approx(gap, abs=2e-6)
        assert abs(gap) < 1  # grey levels: nothing is hidden after so few steps


def test_dasr_learns_the_low_frequencies(unpaired_folders: Folders, tmp_path: Path) -> None:
    settings = ("fit.learning_rate=5e-3", "fit.log_every=10", "dasr.frequencies=wavelet")
    translate("dasr", unpaired_folders, tmp_path / "run", *settings, iterations=60)
    colours = [row["colour"] for row in rows(tmp_path / "run") if "colour" in row]
    assert colours[-1] < 0.6 * colours[0]


def test_without_alexnets_weights_both_ways_out_are_told(
    unpaired_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(CheckpointError, match="alexnet") as caught:
        translate("dsgan", unpaired_folders, tmp_path / "run", "dsgan.features=alexnet")
    assert "--perceptual-weights FILE" in caught.value.next_step
    assert "--perceptual none" in caught.value.next_step
    assert not (tmp_path / "run").exists()


def test_pictures_that_are_too_small_are_told(unpaired_folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="160"):
        translate("dsgan", unpaired_folders, tmp_path / "run", "dsgan.patch_size=48")
    assert not (tmp_path / "run").exists()


def test_a_changed_folder_is_not_gone_on_with(unpaired_folders: Folders, tmp_path: Path) -> None:
    clean, noisy = unpaired_folders
    copy = tmp_path / "noisy"
    copy.mkdir()
    for file in noisy.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    translate("dsgan", (clean, copy), tmp_path / "run", iterations=2)
    next(copy.iterdir()).unlink()
    with pytest.raises(DataError, match="not what the run began with: noisy: 1 missing"):
        translate("dsgan", (clean, copy), tmp_path / "run", iterations=2, resume=True)


def test_clean_images_made_small_by_kernels(unpaired_folders: Folders, tmp_path: Path) -> None:
    clean, kernels = tmp_path / "clean", tmp_path / "kernels"
    clean.mkdir()
    kernels.mkdir()
    for photo in packaged_photos()[0][:4]:
        (clean / photo.name).write_bytes(photo.read_bytes())
    folders = (clean, unpaired_folders[1])
    np.save(kernels / "one.npy", gaussian_kernel(np.eye(2), 13, 0.5))
    (kernels / "kernels.json").write_text(KernelPool(KernelSettings()).text({}))
    too_large = "cyclegan.patch_size=400"
    with pytest.raises(DataError, match="can be used"):
        translate("cyclegan", folders, tmp_path / "refused", too_large, iterations=2, kernels=kernels)
    assert not (tmp_path / "refused").exists()
    result = translate("cyclegan", folders, tmp_path / "run", iterations=2, kernels=kernels)
    told = load_translator(result.model_path).facts["clean_kernels"]
    assert (told["count"], told["scale"], told["used"]) == (1, 2, 1)
    for path in clean.iterdir():
        with Image.open(path) as large, Image.open(tmp_path / "run" / "clean-blurred" / path.name) as small:
            assert (2 * small.width, 2 * small.height) == large.size
    with pytest.raises(DataError, match=r"not what the run began with: clean: .*kernels: 1 missing"):
        translate("cyclegan", folders, tmp_path / "run", iterations=2, resume=True)


# -- models at work ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def models(unpaired_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models of runs of two steps."""
    root = tmp_path_factory.mktemp("models")
    return {name: translate(name, unpaired_folders, root / name, iterations=2).model_path for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_made_by_what_the_file_says(
    name: str, models: dict[str, Path], unpaired_folders: Folders, tmp_path: Path
) -> None:
    request = MakePairsRequest(
        unpaired_folders[0],
        tmp_path / "pairs",
        PairSettings(scale=4, variants=2),
        DegraderChoice(model=models[name]),
        device="cpu",
    )
    reporter = Listener()
    report = make_pairs(request, reporter)
    assert report.degrader["name"] == name
    assert report.degrader["random"] is False
    assert (report.gt_sizes[0], report.lq_sizes[0]) == ((160, 160), (40, 40))
    first, second = (np.asarray(Image.open(path)) for path in sorted((tmp_path / "pairs/lq").iterdir())[:2])
    assert np.array_equal(first, second)  # a known failing: no randomness
    assert f"the degrader {name} is not random: all variants of an image are equal" in reporter.warnings
    again = MakePairsRequest(
        unpaired_folders[0],
        tmp_path / "again",
        degrader=DegraderChoice(model=models[name]),
        manifest=tmp_path / "pairs" / "deflow.json",
    )
    make_pairs(again, Silent())
    assert (tmp_path / "again/deflow.json").read_bytes() == (tmp_path / "pairs/deflow.json").read_bytes()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dasr"])
def test_images_are_degraded_at_their_size(
    name: str, models: dict[str, Path], unpaired_folders: Folders, tmp_path: Path
) -> None:
    request = DegradeRequest(unpaired_folders[0], tmp_path / "out", models[name], device="cpu", samples=2)
    reporter = Listener()
    report = degrade(request, reporter)
    assert report.failed == []
    targets = report.records[0].targets
    first, second = (np.asarray(Image.open(target)) for target in targets)
    assert first.shape == (160, 160, 3)
    assert np.array_equal(first, second)
    assert any("is not random" in warning for warning in reporter.warnings)


def test_a_network_that_shrinks_explains_itself(
    models: dict[str, Path], unpaired_folders: Folders, tmp_path: Path
) -> None:
    clean, _ = unpaired_folders
    with pytest.raises(ConfigError, match="makes images 4 times smaller itself; here they keep") as caught:
        degrade(DegradeRequest(clean, tmp_path / "out", models["dasr"], device="cpu"), Silent())
    assert "make-pairs HR OUT --degrader dasr --scale 4" in caught.value.next_step
    choice = DegraderChoice("dasr", model=models["dasr"])
    request = MakePairsRequest(clean, tmp_path / "p", PairSettings(scale=2), choice, device="cpu")
    with pytest.raises(ConfigError, match="4 times smaller itself, and the scale is 2"):
        make_pairs(request, Silent())
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    np.save(kernels / "k.npy", np.full((3, 3), 1 / 9))
    request = MakePairsRequest(clean, tmp_path / "p", degrader=choice, kernels=kernels, device="cpu")
    with pytest.raises(ConfigError, match="no kernel blurs them before"):
        make_pairs(request, Silent())


def test_a_small_picture_is_what_the_network_makes_of_the_large_one(
    models: dict[str, Path], unpaired_folders: Folders, tmp_path: Path
) -> None:
    choice = DegraderChoice("dasr", model=models["dasr"])
    make_pairs(MakePairsRequest(unpaired_folders[0], tmp_path / "p", degrader=choice, device="cpu"), Silent())
    large, small = (np.asarray(Image.open(tmp_path / f"p/{side}/0000001.png")) for side in ("gt", "lq"))
    generator = load_translator(models["dasr"]).generator
    expected = generator(torch.from_numpy(large.copy()).permute(2, 0, 1)[None].float() / 255)
    rounded = (expected[0].permute(1, 2, 0) * 255).round().numpy()  # the nearest, not cut off
    assert np.array_equal(small, rounded)


@pytest.mark.parametrize("name", NAMES)
def test_restorers_train_on_what_it_degrades(
    name: str, models: dict[str, Path], unpaired_folders: Folders
) -> None:
    source = SrSource(hr=unpaired_folders[0], degrader=DegraderChoice(model=models[name]))
    sr = SrFitConfig(batch_size=2, gt_size=64, crop_uses=1, validate_pairs=1, validate_side=128)
    data = open_data(source, sr, torch.device("cpu"), Silent())
    assert data.facts["degrader"]["name"] == name
    gt, lq = data.ready(data.crops.batch(0, 2), 0, torch.device("cpu"))
    assert (gt.shape, lq.shape) == ((2, 3, 64, 64), (2, 3, 16, 16))
    generator = load_translator(models[name]).generator
    given = gt if name == "dasr" else data.crops.batch(0, 2)[1].float() / 255
    assert torch.allclose(lq, (generator(given) * 255).round() / 255, atol=1.01 / 255)
    assert data.held_out[0].lq.shape == (32, 32, 3)


@pytest.mark.parametrize("option", ["reverse", "like"])
def test_what_a_network_cannot_do_is_told(
    option: str, models: dict[str, Path], unpaired_folders: Folders, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"reverse": {"reverse": True}, "like": {"like": unpaired_folders[1]}}[option]
    request = DegradeRequest(unpaired_folders[0], tmp_path / "out", models["dsgan"], device="cpu", **given)
    with pytest.raises(ConfigError, match=f"--{option} is nothing to a model of dsgan"):
        degrade(request, Silent())


def test_a_degrader_that_does_not_fit_the_file_is_told(
    models: dict[str, Path], unpaired_folders: Folders, tmp_path: Path
) -> None:
    def ask(**choice: Any) -> None:
        make_pairs(
            MakePairsRequest(unpaired_folders[0], tmp_path / "p", degrader=DegraderChoice(**choice)), Silent()
        )

    with pytest.raises(CheckpointError, match="a model of dsgan, not a DeFlow") as caught:
        ask(name="deflow", model=models["dsgan"])
    assert "--degrader dsgan" in caught.value.next_step
    flow = Path(__file__).parents[3] / "weights" / "camera-noise.safetensors"
    with pytest.raises(CheckpointError, match=r"another kind \(deflow\), not of dsgan"):
        ask(name="dsgan", model=flow)


def test_the_newest_of_a_method_is_found_and_none_is_told(
    models: dict[str, Path], unpaired_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = MakePairsRequest(
        unpaired_folders[0], tmp_path / "p", degrader=DegraderChoice("dsgan"), device="cpu"
    )
    with pytest.raises(CheckpointError, match="no model of dsgan here") as caught:
        make_pairs(request, Silent())
    assert "deflow fit --method dsgan" in caught.value.next_step
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "model.safetensors").write_bytes(models["dsgan"].read_bytes())
    assert make_pairs(request, Silent()).model_origin == "newest fit here"


@pytest.mark.parametrize(
    ("name", "scale", "reach"), [("dsgan", 1, 4), ("dasr", 4, 10), ("cyclegan", 1, None)]
)
def test_inspect_tells_what_it_is(name: str, scale: int, reach: int | None, models: dict[str, Path]) -> None:
    report = inspect_model(models[name]).as_dict()
    sizes = report["sizes"]
    assert (sizes["method"], sizes["scale"], sizes["reach"], sizes["random"]) == (name, scale, reach, False)
    tensors = load_file(models[name])
    assert sizes["parameters"] == sum(value.numel() for value in tensors.values())
    assert report["training"]["step"] == 2
    if name == "dsgan":  # 8 features: in, one block of two convolutions, out
        assert sizes["multiply_adds_per_pixel"] == 9 * (3 * 8 + 2 * 8 * 8 + 8 * 3)


def test_a_damaged_file_is_told(models: dict[str, Path], tmp_path: Path) -> None:
    from deflow_cli.checkpoints.format import read_tensors, write_tensors

    tensors, metadata = read_tensors(models["dsgan"])
    tensors.pop("tail.bias")
    write_tensors(tmp_path / "a.safetensors", tensors, metadata)
    with pytest.raises(CheckpointError, match=r"a.safetensors: .*missing tail.bias"):
        load_translator(tmp_path / "a.safetensors")
    write_tensors(tmp_path / "b.safetensors", tensors, {**metadata, "deflow.config": '{"channels": 1e9}'})
    with pytest.raises(CheckpointError, match=r"b.safetensors: the stored configuration"):
        load_translator(tmp_path / "b.safetensors")
