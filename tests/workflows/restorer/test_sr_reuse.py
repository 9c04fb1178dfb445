"""Crops used several times: other noise at each use, to the same bits whatever is kept, so also resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.images.files import to_pixels
from deflow_cli.data.jpeg_history import FolderCompression, JpegSetting, compress
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.degraders.flow.encodings import Encodings
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.restorer import crop_reuse as sr_reuse
from deflow_cli.workflows.restorer.data import SrData, SrSource, open_data
from deflow_cli.workflows.restorer.run import SrRequest, sr_train
from tests.inference.small import small_model
from tests.workflows.restorer.test_sr_train import CPU, Listener, assert_same, small, write_pairs

COUNT = 2  # crops per step


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SrSource:
    folder = tmp_path_factory.mktemp("reuse")
    save_model(folder / "model.safetensors", small_model(), {})
    pictures = write_pairs(folder / "pairs", 2) / "gt"
    choice = DegraderChoice("deflow", model=folder / "model.safetensors")
    return SrSource(hr=pictures, scale=2, degrader=choice, temperature=(0.5, 1.0))


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rounds of two steps' crops, and one thread as in every run that is compared."""
    monkeypatch.setattr(sr_reuse, "MOST_STEPS", 2)
    monkeypatch.setattr(sr_reuse, "FEWEST_STEPS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The numbers of the crops of each encoding, as they happen."""
    numbers: list[list[int]] = []
    keep = Encodings.keep

    def kept(self: Encodings, own: list[int], images: Tensor, keys: list[str]) -> None:
        numbers.append(list(own))
        keep(self, own, images, keys)

    monkeypatch.setattr(Encodings, "keep", kept)
    return numbers


def opened(source: SrSource, *settings: str, reporter: Silent | None = None) -> SrData:
    return open_data(source, small(*settings).sr, CPU, reporter or Silent())


def of_step(data: SrData, step: int) -> tuple[Tensor, Tensor]:
    return data.ready(data.crops.batch(step, COUNT), step, CPU)


def test_each_use_has_noise_of_its_own(source: SrSource, encoded: list[list[int]]) -> None:
    data = opened(source, "sr.crop_uses=4")
    found: dict[bytes, list[Tensor]] = {}
    for step in range(8):
        gt, lq = of_step(data, step)
        for clean, degraded in zip(gt, lq, strict=True):
            found.setdefault(clean.numpy().tobytes(), []).append(degraded)
    assert [len(uses) for uses in found.values()] == [4] * 4
    assert encoded == [[0, 1], [2, 3]]  # once each
    for uses in found.values():
        gaps = [(a - b).abs().mean() for i, a in enumerate(uses) for b in uses[:i]]
        assert min(gaps) > 1e-3
        assert (torch.stack(uses) * 255).frac().abs().max() < 1e-3


def test_a_step_is_the_same_whatever_was_kept(source: SrSource) -> None:
    ordered = opened(source, "sr.crop_uses=4")
    batches = [of_step(ordered, step) for step in range(12)]
    jumping = opened(source, "sr.crop_uses=4")
    for step in (11, 6, 7, 2, 0, 9):
        for ours, theirs in zip(of_step(jumping, step), batches[step], strict=True):
            assert torch.equal(ours, theirs), step


def test_once_every_step_has_crops_of_its_own(source: SrSource, encoded: list[list[int]]) -> None:
    data = opened(source, "sr.crop_uses=1")
    gt = torch.cat([of_step(data, step)[0] for step in range(6)])
    assert len({crop.numpy().tobytes() for crop in gt}) == 12
    assert not encoded
    for name in ("crop_uses", "crop_pool_steps"):
        assert name not in data.facts


def test_first_uses_have_the_crops_of_a_run_that_uses_them_once(source: SrSource) -> None:
    several, once = opened(source, "sr.crop_uses=4"), opened(source, "sr.crop_uses=1")
    for step, same in ((0, 0), (1, 1), (8, 2), (9, 3)):
        assert torch.equal(several.crops.batch(step, COUNT)[0], once.crops.batch(same, COUNT)[0])


def test_what_nothing_is_kept_of_is_used_once(source: SrSource) -> None:
    white = SrSource(hr=source.hr, scale=2, degrader=DegraderChoice("white-noise", sigma=5.0))
    assert opened(white, "sr.crop_uses=4").crops.rounds.uses == 1
    heard = Listener()
    assert opened(source, "sr.crop_pool_mib=0", reporter=heard).crops.rounds.uses == 1
    assert any("crops are used once: sr.crop_pool_mib=0 does not hold" in note for note in heard.notes)
    assert opened(source, reporter=heard).facts["crop_pool_steps"] == 2
    assert any("each crop is used 4 times" in note for note in heard.notes)


class StopsAt(Silent):
    def __init__(self, step: int) -> None:
        self.step = step

    def update(self, done: int, **fields: float | int | str) -> None:
        if done == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_resumed_run_ends_with_the_same_bits(
    source: SrSource, tmp_path: Path, encoded: list[list[int]]
) -> None:
    """Stopped in the third pass of the first round: its crops are encoded again, and no other."""
    settings = ["sr.stage=psnr", "psnr.iterations=10", "sr.crop_uses=4", "sr.log_every=1"]
    config = small(*settings, "sr.validate_every=100")

    def run(name: str, reporter: Silent, resume: bool = False) -> bool:
        request = SrRequest(source, tmp_path / name, config, device="cpu", resume=resume)
        return sr_train(request, reporter).interrupted

    assert not run("whole", Silent())
    assert encoded == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert run("halves", StopsAt(5))
    assert not run("halves", Silent(), resume=True)
    again = encoded[6:]
    assert sorted(again[:2]) == [[0, 1], [2, 3]]
    assert again[2:] == [[4, 5], [6, 7]]
    for name in ("restorer-last", "state"):
        assert_same(*(tmp_path / run_name / f"{name}.safetensors" for run_name in ("whole", "halves")))


@pytest.mark.parametrize("uses", [1, 4])
def test_crops_are_compressed_as_the_model_records(source: SrSource, tmp_path: Path, uses: int) -> None:
    setting = JpegSetting.of_quality(50)
    facts = {"compression": FolderCompression(1, ((setting, 1.0),)).to_dict()}
    save_model(tmp_path / "model.safetensors", small_model(), facts)
    choices = {
        name: DegraderChoice("deflow", model=tmp_path / "model.safetensors", compression=name)
        for name in ("auto", "no")
    }
    ours, plain = (
        opened(replace(source, degrader=choices[name]), f"sr.crop_uses={uses}") for name in ("auto", "no")
    )
    for step in (0, 1):
        for crop, before in zip(of_step(ours, step)[1], of_step(plain, step)[1], strict=True):
            assert np.array_equal(to_pixels(crop), compress(to_pixels(before), setting))
    assert np.array_equal(ours.held_out[0].lq, compress(plain.held_out[0].lq, setting))
