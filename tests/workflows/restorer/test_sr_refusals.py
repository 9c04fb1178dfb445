"""sr-train: what is refused leaves no trace; a collapse is told with weights worth going back to."""

from __future__ import annotations

from pathlib import Path

import pytest

from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.images.listing import list_images
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import CheckpointError, ConfigError, DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.restorer.data import SrSource, open_data
from deflow_cli.workflows.restorer.divergence import DivergenceMonitor
from deflow_cli.workflows.restorer.step import RestorerStep
from deflow_cli.workflows.restorer.validation import Measured, choose_scorers
from tests.workflows.restorer.test_sr_train import CPU, Listener, pretend, rows_of, small, train, write_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "x2", 2)


def test_pairs_below_the_crop_tell_what_would_do(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="48x48 is smaller than the crop of 64 px") as caught:
        train(pairs, tmp_path / "run", "sr.gt_size=64")
    assert caught.value.next_step == "pass --set sr.gt_size=48"
    with pytest.raises(DataError, match="niqe cannot be had"):
        train(pairs, tmp_path / "run", "sr.select=niqe")
    assert not (tmp_path / "run").exists()


def test_weights_that_were_named_are_used_or_refused(tmp_path: Path) -> None:
    (tmp_path / "alex.pth").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"alex\.pth"):
        choose_scorers("auto", CPU, Silent(), str(tmp_path / "alex.pth"))
    with pytest.raises(ConfigError, match="nothing to the choice by psnr"):
        choose_scorers("psnr", CPU, Silent(), str(tmp_path / "alex.pth"))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (DegraderChoice(sigma=5.0), "--sigma is nothing to the degrader deflow"),
        (DegraderChoice("none", noisy=Path("n")), "--noisy is nothing to the degrader none"),
        (DegraderChoice("white-noise", sigma=5.0, patch_size=64), "--patch-size is nothing"),
        (DegraderChoice("white-noise", sigma=5.0, model=Path("m")), "--model is nothing"),
    ],
)
def test_options_of_another_degrader_are_refused(pairs: Path, choice: DegraderChoice, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_data(SrSource(hr=pairs / "gt", scale=2, degrader=choice), small().sr, CPU, Silent())


def test_degraders_name_the_folder_that_will_not_do(pairs: Path) -> None:
    for name, words in (("spectral", "picture of at least 64x64 px .*gt"), ("noise-patches", "gt: no noise")):
        source = SrSource(hr=pairs / "gt", scale=2, degrader=DegraderChoice(name, noisy=pairs / "gt"))
        with pytest.raises(DataError, match=words) as caught:
            open_data(source, small().sr, CPU, Silent())
        assert caught.value.next_step


def test_small_pictures_are_named_in_one_warning(pairs: Path, tmp_path: Path) -> None:
    for index, path in enumerate(list_images(pairs / "gt")):
        pixels = read_rgb8(path)
        write_image(tmp_path / f"{index}.png", Image(pixels[:8, :8] if index < 5 else pixels))
    heard = Listener()
    source = SrSource(hr=tmp_path, scale=2, degrader=DegraderChoice("none"))
    open_data(source, small().sr, CPU, heard)
    assert [text for text in heard.warnings if "5 pictures left out" in text] == heard.warnings


def test_a_range_of_temperatures_is_drawn_from_per_crop(pairs: Path) -> None:
    choice = DegraderChoice("white-noise", sigma=20.0)
    data = open_data(
        SrSource(hr=pairs / "gt", scale=2, degrader=choice, temperature=(0.1, 1.0)), small().sr, CPU, Silent()
    )
    gt, lq = data.crops.batch(0, 8)
    strengths = (data.ready((gt, lq), 0, CPU)[1] - lq.float() / 255).std((1, 2, 3))
    assert float(strengths.max() / strengths.min()) > 1.5
    with pytest.raises(ConfigError, match=r"temperature 1 to 0\.5"):
        SrSource(pairs, temperature=(1.0, 0.5))


def test_a_gan_that_loses_all_at_once_is_reported(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never was good in its own stage: the way back is to the first one's weights."""
    heard = Listener()
    pretend(monkeypatch, [29.0, 30.0, 10.0, 10.0])
    train(pairs, tmp_path / "run", reporter=heard)
    (told,) = [text for text in heard.warnings if "PSNR fell" in text]
    assert "step 8: the held-out PSNR fell to 10.00 dB, 20.0 dB below what this stage began with" in told
    assert "The weights of step 6 are in" in told
    assert "restorer-psnr.safetensors" in told


def test_a_gan_may_cost_some_psnr(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Listener()
    pretend(monkeypatch, [29.0, 30.0, 26.0, 25.0])
    train(pairs, tmp_path / "run", reporter=heard)
    assert not [text for text in heard.warnings if "PSNR fell" in text]


def test_nobody_is_sent_back_to_the_step_that_collapsed(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "deflow_cli.workflows.restorer.run.Validation.measure",
        lambda self, model: Measured({"psnr": 9.0, "ssim": 0.1}, (0.5, 0.0, 0.0)),
    )
    heard = Listener()
    train(pairs, tmp_path / "run", "sr.stage=psnr", reporter=heard)
    (told,) = [text for text in heard.warnings if "colours drift" in text]
    assert "No better weights are kept yet" in told
    assert "lower psnr.learning_rate" in told


def test_the_degradations_own_shift_is_no_drift() -> None:
    heard, memory = Listener(), {}
    alarm = DivergenceMonitor(lambda: memory, 3.0, heard, lambda step: "", lambda: (0.0, -0.04, 0.0))
    alarm.on_validation(1, Measured({"psnr": 30.0}, (0.0, -0.04, 0.0)))
    assert not heard.warnings
    alarm.on_validation(2, Measured({"psnr": 30.0}, (0.0, -0.07, 0.0)))
    assert "step 2: colours drift" in heard.warnings[0]


def test_killed_as_the_gan_begins_the_log_has_no_line_twice(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(pairs, tmp_path / "whole").run_dir
    step = RestorerStep.__call__

    def killed(self: RestorerStep, number: int, share: float, factor: float):
        if number == 6:
            raise InterruptedError
        return step(self, number, share, factor)

    with monkeypatch.context() as patch:
        patch.setattr(RestorerStep, "__call__", killed)
        with pytest.raises(InterruptedError):
            train(pairs, tmp_path / "killed")
    train(pairs, tmp_path / "killed", resume=True)
    assert [row["step"] for row in rows_of(tmp_path / "killed")] == [row["step"] for row in rows_of(whole)]


def test_resuming_with_other_pairs_is_a_choice(pairs: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path / "run", "psnr.iterations=2", "sr.stage=psnr")
    other, heard = write_pairs(tmp_path / "other", 2, count=9), Listener()
    settings = "psnr.iterations=2", "sr.stage=psnr"
    with pytest.raises(DataError, match=r"not what the run began with: pairs: .* new \(") as caught:
        train(other, tmp_path / "run", *settings, resume=True)
    assert "--accept-changed-data" in caught.value.next_step
    accepted = {"resume": True, "accepts_changed_data": True}
    train(other, tmp_path / "run", *settings, **accepted, reporter=heard)
    assert any("other data than it began with: pairs: " in text for text in heard.warnings)
    assert any("other data than it began with: pairs, pairs_fingerprint" in text for text in heard.warnings)
