"""Score: figures as from direct calls, reasons for what is not defined, methods compared, nothing silent."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.metrics.base import Metric, Score
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.metrics.quality.fidelity import Psnr, Ssim
from deflow_cli.metrics.quality.piqe import Piqe
from deflow_cli.metrics.summary import summarize
from deflow_cli.reports.pages.pictures import window_of
from deflow_cli.runtime.progress import Silent
from deflow_cli.texts import encoded
from deflow_cli.workflows.score import measure as scoring
from deflow_cli.workflows.score import scorers
from deflow_cli.workflows.score.examples import html_text, pick
from deflow_cli.workflows.score.run import ScoreRequest, csv_text, score
from deflow_cli.workflows.score.scorers import choose_metrics

SIDE = 48
FAST = ("psnr", "ssim", "piqe")


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch):
    """Nothing pulled on this machine may change a test."""

    def locate(name: str, given: Path | None = None, option: str = "") -> Path:
        raise CheckpointError(f"{name}: not here", next_step=f"pull {name}, or {option} FILE")

    monkeypatch.setattr(scorers, "locate", locate)


def _picture(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 200, size[0])[None, :, None] + rng.normal(0, 8, (size[1], size[0], 3))
    return np.clip(np.rint(ramp), 0, 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """References, a method, and one that adds much more noise; sizes differ between the images."""
    gt, good, bad = (tmp_path / name for name in ("gt", "good", "bad"))
    for index, size in enumerate([(48, 48), (64, 48), (48, 48), (48, 64)]):
        clean = _picture(index, size)
        noise = np.random.default_rng(100 + index).normal(0, 1, clean.shape)
        _save(gt / f"{index}.png", clean)
        for folder, strength in ((good, 3.0), (bad, 15.0)):
            _save(folder / f"{index}.png", np.clip(clean + strength * noise, 0, 255).astype(np.uint8))
    return gt, good, bad


def _tensor(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)).transpose(2, 0, 1).copy())[None]


def _values(report) -> dict[tuple[str, str, str], float]:
    return {(one.method, one.image, one.metric): one.value for one in report.scores}


def _run(*outputs: Path, reference: Path | None = None, metrics=FAST, **how):
    return score(ScoreRequest(outputs, reference, metrics, **how), Silent())


def test_values_are_those_of_direct_calls(folders):
    gt, good, _ = folders
    values = _values(_run(good, reference=gt))
    for index in range(4):
        a, b = _tensor(good / f"{index}.png"), _tensor(gt / f"{index}.png")
        for scorer in (Psnr(), Ssim(), Piqe()):
            direct = scorer(a, b)[0].value
            assert values["good", str(index), scorer.metric.name] == pytest.approx(direct, abs=1e-12)


def test_the_protocol_decides_window_and_border(folders):
    gt, good, _ = folders
    a, b = _tensor(good / "0.png"), _tensor(gt / "0.png")
    cases = {
        ScorerOptions("sr"): (Psnr(4), Ssim("gaussian", 4)),
        ScorerOptions("sr", crop_border=0): (Psnr(0), Ssim("gaussian", 0)),
        ScorerOptions("rwsr", crop_border=2, luma=True): (Psnr(2, "y"), Ssim("uniform", 2, "y")),
    }
    for how, direct in cases.items():
        report = _run(good, reference=gt, metrics=("psnr", "ssim"), options=how)
        for scorer in direct:
            name = scorer.metric.name
            assert _values(report)["good", "0", name] == pytest.approx(scorer(a, b)[0].value, abs=1e-12)
            variant = next(metric.variant for metric in report.metrics if metric.name == name)
            assert variant == scorer.metric.variant
            assert variant in csv_text(report).replace('"', "")
            assert variant in html_text(report)


def test_batches_and_threads_change_nothing(folders, monkeypatch):
    gt, good, bad = folders
    whole = _run(good, bad, reference=gt)
    monkeypatch.setattr(scoring, "BATCH_PIXELS", {"cpu": 1})
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert _run(good, bad, reference=gt) == whole
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_summaries_and_ranks(folders):
    gt, good, bad = folders
    report = _run(bad, good, reference=gt, metrics=("psnr",))
    of_bad, of_good = report.summaries
    assert of_good.summary.mean == pytest.approx(
        np.mean([v for (m, _, _), v in _values(report).items() if m == "good"])
    )
    assert (of_bad.rank, of_good.rank) == (2, 1)
    assert report.best == {"psnr": ("good", 4)}
    assert report.mean_ranks == {"bad": 2.0, "good": 1.0}
    assert of_bad.difference is not None
    assert of_bad.difference.high < -5


def test_the_seed_moves_the_resampling_alone(folders, monkeypatch):
    gt, good, _ = folders
    drawn = []

    def record(values, rng):
        drawn.append(rng.integers(0, 1 << 30))
        return summarize(values, rng)

    monkeypatch.setattr("deflow_cli.workflows.score.run.summarize", record)
    reports = [_run(good, reference=gt, metrics=("psnr",), seed=seed) for seed in (0, 0, 1)]
    assert reports[0].scores == reports[2].scores
    assert reports[0].summaries[0].summary.mean == reports[2].summaries[0].summary.mean
    assert reports[0] == reports[1]
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_infinite_psnr_is_infinite_and_not_in_the_mean(folders):
    gt, good, _ = folders
    _save(good / "1.png", np.asarray(Image.open(gt / "1.png")))
    report = _run(good, reference=gt, metrics=("psnr",))
    assert _values(report)["good", "1", "psnr"] == math.inf
    summary = report.summaries[0].summary
    assert (summary.n, summary.of, summary.infinite) == (3, 4, 1)
    assert math.isfinite(summary.mean)
    assert any("1 of 4 values are infinite" in note for note in report.notes)
    assert ",psnr,inf," in csv_text(report)


def test_constant_and_small_images_have_reasons_and_stay_out_of_means(tmp_path):
    _save(tmp_path / "out/flat.png", np.full((192, 192, 3), 90, np.uint8))
    _save(tmp_path / "out/small.png", _picture(1))
    _save(tmp_path / "out/fine.png", _picture(2, (192, 192)))
    report = _run(tmp_path / "out", metrics=("niqe",))
    reasons = {one.image: one.reason for one in report.scores}
    assert reasons["fine"] == ""
    assert "48x48" in reasons["small"]
    assert reasons["flat"]
    summary = report.summaries[0].summary
    assert (summary.n, summary.of) == (1, 3)
    assert math.isfinite(summary.mean)
    assert any("2 of 3 values are not defined" in note for note in report.notes)
    assert not report.unreadable


def test_a_broken_file_costs_its_own_values_alone(folders):
    gt, good, bad = folders
    data = (good / "2.png").read_bytes()
    (good / "2.png").write_bytes(data[: len(data) // 2])
    report = _run(good, bad, reference=gt)
    values = _values(report)
    assert {key for key, value in values.items() if math.isnan(value)} == {("good", "2", m) for m in FAST}
    assert [path for path, _ in report.unreadable] == [good / "2.png"]
    assert report.best["psnr"] == ("good", 3)
    assert [row.summary.n for row in report.summaries if row.metric == "psnr"] == [3, 4]
    assert any("1 image could not be read" in note for note in report.notes)
    assert "nan" not in csv_text(report).lower()


def test_a_broken_reference_costs_no_blind_metric(folders):
    gt, good, _ = folders
    (gt / "2.png").write_bytes(b"no image")
    report = _run(good, reference=gt, metrics=("psnr", "piqe"))
    values = _values(report)
    assert math.isnan(values["good", "2", "psnr"])
    assert math.isfinite(values["good", "2", "piqe"])
    assert [reason.startswith("its reference") for _, reason in report.unreadable] == [True]


def test_without_weights_the_others_report(folders):
    gt, good, _ = folders
    report = _run(good, reference=gt, metrics=())
    assert [metric.name for metric in report.metrics] == ["psnr", "ssim", "niqe", "piqe"]
    assert [(m.metric, m.next_step) for m in report.unavailable] == [
        ("lpips", "pull alexnet, or --lpips-weights FILE"),
        ("brisque", "pull brisque, or --brisque-model FILE"),
    ]
    assert not report.asked_in_vain
    assert _run(good, reference=gt, metrics=("psnr", "brisque")).asked_in_vain
    asked = ScorerOptions(brisque_model=Path("mine"))
    assert _run(good, metrics=(), options=asked).asked_in_vain


def test_methods_with_other_images_are_not_compared(folders, tmp_path):
    _, good, bad = folders
    (bad / "3.png").unlink()
    report = _run(good, bad, metrics=("piqe",))
    assert not report.best
    assert [row.rank for row in report.summaries] == [None, None]
    assert any("bad lacks 1 of 4 images: 3" in note for note in report.notes)


class _Picky:
    """A scorer that fails on batches and on dark images, as a device without memory would."""

    metric = Metric("picky", "Picky", True, False, 2, "test")

    def __call__(self, images_bchw, references_bchw=None):
        if len(images_bchw) > 1 or images_bchw.float().mean() < 50:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [Score(float(images_bchw.float().mean()))]


def test_what_does_not_fit_the_memory_is_tried_alone(folders, tmp_path, monkeypatch):
    _, good, _ = folders
    _save(good / "0.png", np.full((SIDE, SIDE, 3), 9, np.uint8))
    monkeypatch.setattr("deflow_cli.workflows.score.run.build_scorers", lambda *_: ([_Picky()], []))
    report = _run(good, metrics=())
    assert [one.reason for one in report.scores] == ["too large for this device's memory", "", "", ""]


def test_other_runtime_errors_are_bugs_and_stay_whole(folders, monkeypatch):
    def broken(images, references):
        raise RuntimeError("a bug")

    broken.metric = _Picky.metric
    monkeypatch.setattr("deflow_cli.workflows.score.run.build_scorers", lambda *_: ([broken], []))
    with pytest.raises(RuntimeError, match="a bug"):
        _run(folders[1], metrics=())


def test_csv_has_every_value(folders):
    gt, good, bad = folders
    report = _run(good, bad, reference=gt)
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert len(rows) == 2 * 4 * 3
    assert {(r["method"], r["image"], r["metric"]): float(r["value"]) for r in rows} == _values(report)


def test_metrics_in_fixed_order_and_lpips_by_its_net():
    plain = ScorerOptions()
    assert choose_metrics((), False, plain) == ("niqe", "brisque", "piqe")
    assert choose_metrics(("piqe", "psnr", "psnr"), True, plain) == ("psnr", "piqe")
    assert choose_metrics(("lpips", "lpips-vgg"), True, plain) == ("lpips", "lpips-vgg")
    assert choose_metrics(("lpips",), True, ScorerOptions(lpips_net="vgg")) == ("lpips-vgg",)


@pytest.mark.parametrize(
    ("named", "reference", "options", "words"),
    [
        (("fid",), True, ScorerOptions(), "'fid' is not a metric"),
        (("psnr",), False, ScorerOptions(), "psnr needs references"),
        ((), True, ScorerOptions("pirm"), "'pirm'"),
        ((), True, ScorerOptions(lpips_net="squeeze"), "'squeeze'"),
        ((), False, ScorerOptions(crop_border=4), "--crop-border has no effect"),
        ((), False, ScorerOptions(luma=True), "--y has no effect"),
        (("psnr",), True, ScorerOptions(brisque_model=Path("x")), "--brisque-model has no effect"),
        (("niqe",), True, ScorerOptions(lpips_weights=Path("x")), "--lpips-weights has no effect"),
    ],
)
def test_options_that_cannot_be_or_do_nothing_are_refused(named, reference, options, words):
    with pytest.raises(ConfigError, match=words):
        choose_metrics(named, reference, options)


def test_a_negative_border_is_refused(folders):
    with pytest.raises(ConfigError, match="-1"):
        _run(folders[1], reference=folders[0], options=ScorerOptions(crop_border=-1))


def test_the_page_shows_the_worst_and_the_best(folders):
    gt, good, _ = folders
    _save(good / "3.png", _picture(77, (48, 64)))
    report = _run(good, reference=gt, metrics=("psnr",))
    why = pick(report)
    assert why["good", "3"] == ["worst PSNR"]
    assert len(why) == 3
    page = html_text(report)
    assert "Worst PSNR: 3 of good" in page
    assert "Best PSNR" in page


def test_the_page_of_methods_shows_where_they_differ(folders):
    gt, good, bad = folders
    page = html_text(_run(good, bad, reference=gt, metrics=("psnr",)))
    assert "Methods differ by" in page
    assert "good leads with a mean rank of 1.00" in page


def test_large_pictures_are_cut_where_they_differ_most(tmp_path):
    clean = _picture(0, (1300, 64))
    worse = clean.copy()
    worse[10:20, 900:910] = 0
    _save(tmp_path / "gt/a.png", clean)
    _save(tmp_path / "out/a.png", worse)
    page = html_text(_run(tmp_path / "out", reference=tmp_path / "gt", metrics=("psnr",)))
    assert "of 1300x64, where the difference is largest" in page
    rows, columns = window_of((worse.astype(float) - clean).sum(-1) ** 2, 32)
    assert rows.start <= 10
    assert rows.stop >= 20
    assert columns.start <= 900
    assert columns.stop >= 910


@pytest.mark.parametrize(
    ("names", "net", "expected"),
    [
        (("lpips",), "alex", [("alexnet", True)]),
        (("lpips-vgg",), "alex", [("vgg16", True)]),
        (("lpips", "lpips-vgg"), "alex", [("alexnet", True), ("vgg16", False)]),
        (("lpips", "lpips-vgg"), "vgg", [("alexnet", False), ("vgg16", True)]),
    ],
)
def test_lpips_weights_go_to_the_net_they_are_meant_for(monkeypatch, names, net, expected):
    asked = []

    def locate(name: str, given: Path | None = None, option: str = "") -> Path:
        asked.append((name, given is not None))
        return Path(name)

    monkeypatch.setattr(scorers, "locate", locate)
    monkeypatch.setattr("deflow_cli.metrics.quality.lpips.Lpips", lambda path, net, device: (path.name, net))
    options = ScorerOptions(lpips_net=net, lpips_weights=Path("mine"))
    built, missing = scorers.build_scorers(names, options, torch.device("cpu"))
    assert asked == expected
    assert not missing
    assert built == [(name, {"alexnet": "alex", "vgg16": "vgg"}[name]) for name, _ in expected]


def test_names_that_are_not_utf8_are_in_the_files(folders):
    gt, good, _ = folders
    for folder in (gt, good):
        os.rename(folder / "1.png", os.fsencode(folder) + b"/caf\xe9.png")
    report = _run(good, reference=gt, metrics=("psnr",))
    assert b"\ngood,caf\xe9,psnr," in encoded(csv_text(report))
    assert "caf\ufffd" in html_text(report)
