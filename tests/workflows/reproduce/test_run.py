"""An experiment on a miniature: every stage by the same code, resumed, redone where it must be, rehearsed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.errors import CheckpointError, ConfigError, DataError
from deflow_cli.paths import MODEL_FILE, RESTORER_FILE, STATE_FILE
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.layouts import find_layout
from deflow_cli.workflows.reproduce.recipes import recipe
from deflow_cli.workflows.reproduce.run import ReproduceReport, ReproduceRequest, do_all, reproduce
from deflow_cli.workflows.reproduce.steps import restoring
from deflow_cli.workflows.reproduce.steps.base import STAGES, Bench, Cost, ExperimentStep
from deflow_cli.workflows.reproduce.steps.ledger import Facts, Ledger
from tests.checkpoints.fake_hub import FakeRepo, connect, fake_hub
from tests.listening import Listener

from .conftest import SMALLEST

pytestmark = pytest.mark.slow(seconds=1.5)  # each; most of it are imports and plots
METHODS = ("none", "white-noise", "dasr", "deflow")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A finished one. conditions: of the steps before each stage was run, by stage."""

    request: ReproduceRequest
    report: ReproduceReport
    conditions: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def finished(aim_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """`reproduce aim`, one stage after the other, each resumed from the one before."""
    out = tmp_path_factory.mktemp("experiment") / "out"
    request = ReproduceRequest(
        "aim", aim_data, out, only=METHODS, settings=SMALLEST, scale_down=True, device="cpu"
    )
    conditions = {}
    for stage in STAGES:
        report = reproduce(dataclasses.replace(request, stage=stage), Silent())
        conditions[stage] = {step.name: step.condition for step in report.steps}
    return Experiment(request, report, conditions)


def rehearse(request: ReproduceRequest, **changes: object) -> dict[str, str]:
    """Conditions of the steps by a dry run."""
    asked = dataclasses.replace(request, dry_run=True, **changes)
    return {step.name: step.condition for step in reproduce(asked, Silent()).steps}


def test_every_stage_does_its_steps_once(finished: Experiment) -> None:
    before: set[str] = set()
    for conditions in finished.conditions.values():
        assert {name for name, how in conditions.items() if how == "done"} == before
        assert {how for name, how in conditions.items() if name not in before} <= {"new"}
        before = set(conditions)
    assert before == {
        "prepare",
        "start",
        *(
            f"{kind}/{method}/seed0"
            for method in ("dasr", "deflow")
            for kind in ("fit", "pairs", "restorers", "scores", "realism")
        ),
        *(f"{kind}/none/seed0" for kind in ("pairs", "restorers", "scores", "realism")),
        *(f"tune/white-noise/{name}" for name in ("sigma4", "sigma8", "choice")),
        *(f"{kind}/white-noise/seed0" for kind in ("restorers", "scores", "realism")),
    }


def test_a_start_belongs_to_the_first_stage_that_needs_it(finished: Experiment) -> None:
    assert "start" in finished.conditions["degraders"]  # white noise is tuned by restorers
    without = dataclasses.replace(finished.request, only=("none",), dry_run=True)
    stages = {step.name: step.stage for step in reproduce(without, Silent()).steps}
    assert stages["start"] == "restorers"


def test_each_step_is_a_command_whose_folder_can_be_looked_at(finished: Experiment) -> None:
    out = finished.request.out
    assert (out / "fit" / "deflow" / "seed0" / MODEL_FILE).is_file()
    assert (out / "fit" / "deflow" / "seed0" / STATE_FILE).is_file()
    assert len(list((out / "pairs" / "none" / "seed0" / "lq").iterdir())) == 12
    kept = sorted(path.name for path in (out / "restorers" / "none" / "seed0").glob("restorer-00*"))
    assert kept == ["restorer-0000010.safetensors", "restorer-0000012.safetensors"]
    scores = json.loads((out / "scores" / "none" / "seed0" / "scores.json").read_text())
    assert [method["name"] for method in scores["methods"]] == ["10", "12"]
    assert scores["protocol"]["crop_border"] == 0
    realism = json.loads((out / "realism" / "deflow" / "seed0" / "realism.json").read_text())
    assert (realism["real"]["images"], realism["real"]["with_clean"]) == (4, 4)


def test_the_table_is_published_and_measured(finished: Experiment) -> None:
    table = finished.report.table
    assert table is not None
    rows = {row.method: row for row in table.rows}
    assert list(rows) == ["none", "white-noise", "noise-patches", "dsgan", "dasr", "cyclegan", "deflow"]
    assert rows["cyclegan"].scores == {}
    assert rows["dasr"].scores.keys() == rows["deflow"].scores.keys()
    assert set(rows["deflow"].scores) == {"test", "held-out", "last"}
    assert 5 < rows["none"].scores["last"]["psnr"].median < 40
    assert rows["none"].steps["last"] == ("12",)
    assert "akld" in rows["deflow"].realism
    assert any(note.startswith("White noise: sigma ") for note in table.notes)
    text, document, page = (path.read_text(encoding="utf-8") for path in finished.report.files)
    assert "Scaled down" in text
    assert "| DeFlow | 22.25 | 0.62 | 0.349 |" in text
    assert json.loads(document)["rows"][-1]["method"] == "deflow"
    assert "no measure of the methods" in page
    assert page.count('<figure class="set">') == 4  # the validation images
    for label in ("input", "No degradation", "DeFlow", "truth"):
        assert page.count(f"<figcaption>{label}</figcaption>") == 4


def test_a_finished_experiment_is_done(finished: Experiment) -> None:
    hears = Listener()
    report = reproduce(finished.request, hears)
    assert {step.condition for step in report.steps} == {"done"}
    assert sum("done before" in note for note in hears.notes) == len(report.steps)
    assert report.table == finished.report.table


def test_a_change_redoes_what_depends_on_it_alone(finished: Experiment) -> None:
    def changed(*settings: str) -> set[str]:
        conditions = rehearse(finished.request, settings=(*SMALLEST, *settings))
        assert set(conditions.values()) <= {"done", "changed"}
        return {name for name, how in conditions.items() if how == "changed"}

    restorers = {f"restorers/{method}/seed0" for method in METHODS}
    scores = {f"scores/{method}/seed0" for method in METHODS}
    tuned = {f"tune/white-noise/{name}" for name in ("sigma4", "sigma8", "choice")}
    noise = {"realism/white-noise/seed0"}  # its std may be another
    assert changed("gan.learning_rate=2e-5") == restorers | scores | tuned | noise
    kinds = ("fit", "pairs", "restorers", "scores", "realism")
    assert changed("fit.learning_rate=1e-4") == {f"{kind}/deflow/seed0" for kind in kinds}


def test_another_seed_adds_steps_and_redoes_none(finished: Experiment) -> None:
    conditions = rehearse(finished.request, seeds=2)
    assert {name for name, how in conditions.items() if how == "new"} == {
        name for name in conditions if name.endswith("seed1")
    }
    assert {how for name, how in conditions.items() if not name.endswith("seed1")} == {"done"}


def test_changed_data_redo_everything_that_saw_them(finished: Experiment, tmp_path: Path) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(finished.request.data, data)
    assert set(rehearse(finished.request, data=data).values()) == {"done"}
    next((data / "valid-input-noisy").iterdir()).write_bytes(b"another picture")
    conditions = rehearse(finished.request, data=data)
    assert {name.partition("/")[0] for name, how in conditions.items() if how == "changed"} == {
        "scores",
        "realism",
        "tune",
        "restorers",
    }
    assert conditions["restorers/deflow/seed0"] == conditions["fit/deflow/seed0"] == "done"


def test_an_interrupted_step_goes_on(finished: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "scores/none/seed0"
    record = finished.request.out / "steps" / f"{name.replace('/', '.')}.json"
    whole = record.read_text()
    record.write_text(whole.replace('"done": true', '"done": false'))
    hears = Listener()
    restored: list[Path] = []
    original = restoring.restore

    def counting(request, reporter):
        report = original(request, reporter)
        restored.extend(record.target for record in report.records)
        return report

    monkeypatch.setattr(restoring, "restore", counting)
    report = reproduce(finished.request, hears)
    assert {step.name for step in report.steps if step.condition == "interrupted"} == {name}
    assert restored == []  # the images were there
    assert any("going on where it was interrupted" in note for note in hears.notes)
    assert json.loads(record.read_text())["done"] is True


@dataclasses.dataclass(frozen=True)
class Failing(ExperimentStep):
    """A step that does what its name says."""

    def run(self, bench: Bench) -> Facts:
        if "bad" in self.name:
            raise DataError(f"{self.name} cannot be", next_step="mend it")
        return {"did": self.name}


def failing_steps(*names: str) -> list[Failing]:
    """Each needs the one before of its method."""
    steps: list[Failing] = []
    for name in names:
        needs = tuple(step.name for step in steps if step.method_of == name.split("/")[-1])
        steps.append(Failing(name, "score", needs, {}, name, (), Cost()))
    return steps


def bench_of(finished: Experiment, out: Path, steps: list[Failing], hears: Listener) -> Bench:
    experiment = EXPERIMENTS["aim"]
    how = recipe(experiment, small=True, settings=(), budget=0.0, trainings=1)
    layout = find_layout(finished.request.data, experiment)
    return Bench(experiment, layout, how, Ledger(out, steps), "cpu", hears)


def test_a_method_that_fails_does_not_stop_the_others(finished: Experiment, tmp_path: Path) -> None:
    steps = failing_steps("prepare", "fit/bad", "pairs/bad", "fit/good", "pairs/good")
    hears = Listener()
    bench = bench_of(finished, tmp_path, steps, hears)
    [failed] = do_all(steps, bench)
    assert (failed.name, failed.reason, failed.next_step) == ("fit/bad", "fit/bad cannot be", "mend it")
    conditions = {step.name: bench.ledger.standing(step.name).condition for step in steps}
    assert conditions["pairs/good"] == "done"
    assert conditions["pairs/bad"] == "new"
    assert any("the other methods go on" in warning for warning in hears.warnings)


def test_what_all_methods_need_stops_all(finished: Experiment, tmp_path: Path) -> None:
    for names in (("bad-start", "fit/good"), ("prepare", "fit/bad")):
        steps = failing_steps(*names)
        with pytest.raises(DataError, match="cannot be"):
            do_all(steps, bench_of(finished, tmp_path / names[0], steps, Listener()))


def test_a_training_that_is_interrupted_ends_the_experiment(
    finished: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = restoring.sr_train

    def interrupted(request, reporter):
        return dataclasses.replace(original(request, reporter), interrupted=True)

    monkeypatch.setattr(restoring, "sr_train", interrupted)
    request = dataclasses.replace(finished.request, out=tmp_path, only=("none",), stage="restorers")
    with pytest.raises(KeyboardInterrupt):
        reproduce(request, Silent())
    assert rehearse(request) == {
        "prepare": "done",
        "pairs/none/seed0": "done",
        "start": "interrupted",
        "restorers/none/seed0": "new",
    }
    monkeypatch.undo()
    hears = Listener()
    reproduce(request, hears)
    assert any(note.startswith("resumed at step 2") for note in hears.notes)
    assert set(rehearse(request).values()) == {"done"}
    before = (tmp_path / "restorers" / "none" / "seed0" / "restorer-last.safetensors").read_bytes()
    changed = dataclasses.replace(request, settings=(*SMALLEST, "gan.learning_rate=2e-3"))
    report = reproduce(changed, hears)
    assert [step.name for step in report.steps if step.condition == "changed"] == ["restorers/none/seed0"]
    assert any("gan.learning_rate was 0.0001, is 0.002" in note for note in hears.notes)
    assert (tmp_path / "restorers" / "none" / "seed0" / "restorer-last.safetensors").read_bytes() != before
    kept = tmp_path / "replaced" / "restorers.none.seed0.1" / "restorer-last.safetensors"
    assert kept.read_bytes() == before


def test_a_budget_of_time_and_a_given_start(finished: Experiment, tmp_path: Path) -> None:
    init = finished.request.out / "start" / "restorer.safetensors"
    report = reproduce(
        dataclasses.replace(finished.request, out=tmp_path, only=("none",), budget=0.5, init=init), Silent()
    )
    assert "start" not in {step.name for step in report.steps}
    assert report.table is not None
    row = next(row for row in report.table.rows if row.method == "none")
    assert row.steps["last"] == ("last",)
    assert row.steps["held-out"] == ("held-out",)
    with pytest.raises(CheckpointError, match="no such file"):
        reproduce(dataclasses.replace(finished.request, init=tmp_path / "no.pth"), Silent())


def test_a_start_on_the_hub_is_the_one_of_its_revision(
    finished: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = finished.request.out / "start" / "restorer.safetensors"
    other = finished.request.out / "restorers" / "none" / "seed0" / "restorer-last.safetensors"
    asked = dataclasses.replace(finished.request, out=tmp_path / "out", only=("none",), stage="restorers")
    with fake_hub() as hub:
        connect(monkeypatch, hub.url, tmp_path / "cache")
        hub.repos["ann/start"] = FakeRepo(private=False)
        for branch, path in (("v1", start), ("main", other)):
            hub.commit("ann/start", branch, {RESTORER_FILE: path.read_bytes()}, {RESTORER_FILE})
        report = reproduce(dataclasses.replace(asked, init=Path("hf://ann/start@v1")), Silent())
        assert all(step.done for step in report.steps)
        assert "start" not in {step.name for step in report.steps}
        newer = rehearse(asked, init=Path("hf://ann/start"))
    assert set(rehearse(asked, init=start).values()) == {"done"}  # by its content, wherever it lies
    assert newer == rehearse(asked, init=other)
    assert newer["restorers/none/seed0"] == "changed"


def test_what_is_missing_is_said_before_anything_is_done(finished: Experiment, tmp_path: Path) -> None:
    """Not after days of fits."""
    settings = (*SMALLEST, "loss.features=vgg19", f"loss.features_file={tmp_path / 'vgg19.pth'}")
    request = dataclasses.replace(finished.request, out=tmp_path / "out", settings=settings)
    with pytest.raises(CheckpointError, match=r"vgg19\.pth: no such file") as refused:
        reproduce(request, Silent())
    assert "--set loss.features=none" in refused.value.next_step
    assert not (tmp_path / "out" / "prepare").exists()


def test_weights_that_are_brought_later_are_used_then(
    finished: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = restoring.lacking_weights(("psnr", "lpips")) == {}
    monkeypatch.setattr(restoring, "find", lambda remote: None if here else Path("alexnet.pth"))
    request = dataclasses.replace(finished.request, dry_run=True)
    steps = {step.name: step for step in reproduce(request, Silent()).steps}
    assert "measures was ['psnr', 'ssim'" in steps["scores/deflow/seed0"].why
    assert steps["tune/white-noise/sigma4"].condition == "changed"  # it is tuned by LPIPS
    assert steps["restorers/deflow/seed0"].condition == "done"


def test_settings_without_effect_redo_nothing(finished: Experiment) -> None:
    quiet = (*SMALLEST, "fit.log_every=7", "sr.cache_mib=99", "fit.report=true")
    assert set(rehearse(finished.request, settings=quiet).values()) == {"done"}


def test_a_dry_run_names_every_step_and_writes_nothing(tmp_path: Path) -> None:
    """On empty pictures of the right names."""
    for folder, names in {
        "Corrupted-tr-x": ["Flickr2K_000001.png"],
        "Corrupted-tr-y": [f"{k:04}.png" for k in range(1, 801)],
        "Corrupted-va-x": ["0801.png"],
        "track1-valid-gt": ["0801.png"],
    }.items():
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "data" / folder / name).touch()
    request = ReproduceRequest("ntire", tmp_path / "data", tmp_path / "out", dry_run=True)
    report = reproduce(request, Silent())
    assert report.missing_data == ()
    names = [step.name for step in report.steps]
    assert {"prepare", "start", "tune/white-noise/choice", "restorers/deflow/seed0"} <= set(names)
    assert "pairs/white-noise/seed0" not in names  # its noise is drawn anew for every crop
    for number, step in enumerate(report.steps):
        assert step.what
        assert step.condition == "new"
        needed = [name for name in step.inputs if name in names]
        assert all(names.index(name) < number for name in needed)
    assert any("Corrupted-tr-y (800 images)" in text for text in report.steps[0].inputs)
    inputs = {step.name: step.inputs for step in report.steps}
    assert any("Corrupted-tr-x (1 images)" in text for text in inputs["restorers/noise-patches/seed0"])
    assert report.estimate.seconds > 60_000 * 0.0348 * 5
    assert report.estimate.bytes > 800 * 2.8e6 * 1.6
    assert "H200" in report.how_estimated
    assert any("deflow weights pull" in line for line in report.missing_weights) or not report.missing_weights
    assert not (tmp_path / "out").exists()


def test_ablations_scaled_down_are_scored_by_realism_alone(aim_data: Path, tmp_path: Path) -> None:
    request = ReproduceRequest(
        "ablations",
        aim_data,
        tmp_path / "out",
        only=("no-conditional", "full"),
        settings=SMALLEST,
        scale_down=True,
        device="cpu",
    )
    report = reproduce(request, Silent())
    assert {step.name.partition("/")[0] for step in report.steps} == {"prepare", "fit", "realism"}
    table = report.table
    assert table is not None
    assert len(table.rows) == 10
    measured = {row.method for row in table.rows if row.realism}
    assert measured == {"no-conditional", "full"}
    assert all(row.scores == {} for row in table.rows)
    text = report.files[0].read_text(encoding="utf-8")
    assert text.count("| 22.25 | 0.62 | 0.349 |") == 3  # the full model stands thrice


def test_photographs_of_phones_are_blurred_by_kernels_of_theirs(tmp_path: Path) -> None:
    for name in ("DPEDiphone-tr-x", "DPEDiphone-va"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    request = ReproduceRequest("dped", tmp_path, tmp_path / "out", dry_run=True)
    steps = {step.name: step for step in reproduce(request, Silent()).steps}
    assert "kernelgan" in steps["kernels"].what
    assert "kernels" in steps["pairs/deflow/seed0"].inputs
    assert "kernels" in steps["pairs/kernelgan/seed0"].inputs
    assert "kernels" not in steps["pairs/none/seed0"].inputs
    given = tmp_path / "pool"
    given.mkdir()
    np.save(given / "one.npy", np.full((5, 5), 0.04))
    steps = {step.name for step in reproduce(dataclasses.replace(request, kernels=given), Silent()).steps}
    assert "kernels" not in steps
    assert "pairs/kernelgan/seed0" in steps


def test_a_method_without_its_folder_is_left_out(tmp_path: Path) -> None:
    for name in ("DPEDiphone-tr-x", "DPEDiphone-va"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    hears = Listener()
    report = reproduce(ReproduceRequest("dped", tmp_path, tmp_path / "out", dry_run=True), hears)
    assert "fit/cyclegan/seed0" not in {step.name for step in report.steps}
    assert any(warning.startswith("cyclegan is left out: it needs") for warning in hears.warnings)
    (tmp_path / "DIV2K_train_HR").mkdir()
    (tmp_path / "DIV2K_train_HR" / "0001.png").touch()
    report = reproduce(ReproduceRequest("dped", tmp_path, tmp_path / "out", dry_run=True), hears)
    step = next(step for step in report.steps if step.name == "fit/cyclegan/seed0")
    assert "DIV2K_train_HR (1 images)" in step.inputs[0]


def test_a_dry_run_names_what_is_missing(tmp_path: Path) -> None:
    request = ReproduceRequest("dped", tmp_path, tmp_path / "out", dry_run=True)
    report = reproduce(request, Silent())
    assert len(report.missing_data) == 2
    assert report.steps == ()
    with pytest.raises(DataError, match="no phone photographs to train on"):
        reproduce(dataclasses.replace(request, dry_run=False), Silent())


def test_options_that_do_not_fit(aim_data: Path, tmp_path: Path) -> None:
    request = ReproduceRequest("aim", aim_data, tmp_path / "out", dry_run=True)
    for changes, message in (
        ({"experiment": "set5"}, "'set5' is no experiment"),
        ({"seeds": 0}, "0 seeds"),
        ({"kernels": tmp_path}, "--kernels is nothing to aim"),
        ({"only": ("post-hoc",)}, "no method of aim"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            reproduce(dataclasses.replace(request, **changes), Silent())
