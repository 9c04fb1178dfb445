"""`deflow fit`: what the workflow is asked for, and what is refused before it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from deflow_cli.config.fit import RunConfig
from deflow_cli.presets.reader import DSGAN, FIT
from tests.cli.conftest import Recorder, install_workflow


def test_request_has_the_preset_with_its_overrides(deflow, folders, fit_workflow):
    args = ("--preset", "base", "--seed", 3, "--time-budget", "90s", "--device", "cpu", "--downsample", 8)
    result = deflow("fit", *folders, *args, "--set", "fit.learning_rate=2e-4", "--set", "fit.batch_size=4")
    assert result.exit_code == 0, result.output
    request = fit_workflow.requests[0]
    assert (request.clean, request.noisy) == folders
    assert request.out == Path("runs/grainy")
    assert (request.device, request.resume, request.pairs) == ("cpu", False, None)
    fit = request.config.fit
    assert (fit.seed, fit.time_budget, fit.iterations) == (3, 90.0, 0)
    assert (fit.learning_rate, fit.batch_size, fit.leak_test) == (2e-4, 4, False)
    assert request.config.flow.downsample == 8
    assert request.config.flow.shift == FIT.load("base").flow.shift


def test_default_preset_is_the_workflows_choice(deflow, folders, fit_workflow):
    deflow("fit", *folders)
    assert fit_workflow.requests[0].config == FIT.load("tiny")


def test_kernels_reach_the_workflow(deflow, folders, fit_workflow):
    Path("kernels").mkdir()
    deflow("fit", *folders, "--kernels", "kernels")
    deflow("fit", *folders)
    assert [request.kernels for request in fit_workflow.requests] == [Path("kernels"), None]


def test_results_are_on_stdout(deflow, folders, fit_workflow):
    out = deflow("fit", *folders).stdout
    assert "step 7" in out
    assert "runs/x/model.safetensors" in out


def test_json_is_valid_even_without_a_likelihood(deflow, folders, fit_workflow):
    record = json.loads(deflow("fit", *folders, "--json").stdout)
    assert record["model_path"] == "runs/x/model.safetensors"
    assert record["bits_per_dim_clean"] == 3.5
    assert record["bits_per_dim_noisy"] is None


def test_interrupted_is_130(deflow, folders, fit_workflow):
    fit_workflow.answer.interrupted = True
    result = deflow("fit", *folders)
    assert result.exit_code == 130
    assert "--resume" in result.stderr


def test_names_are_made_unique_and_resume_takes_the_last(deflow, folders, fit_workflow):
    for name in ("grainy", "grainy-2"):
        Path("runs", name).mkdir(parents=True)
    deflow("fit", *folders)
    deflow("fit", *folders, "--resume")
    deflow("fit", *folders, "--name", "mine")
    deflow("fit", *folders, "--out", "elsewhere")
    assert [str(r.out) for r in fit_workflow.requests] == [
        "runs/grainy-3",
        "runs/grainy-2",
        "runs/mine",
        "elsewhere",
    ]


def test_resume_keeps_the_runs_own_configuration(deflow, folders, fit_workflow):
    own = FIT.apply_overrides(FIT.load("tiny"), ["fit.seed=5", "fit.iterations=40"])
    Path("run").mkdir()
    Path("run/config.toml").write_text(FIT.to_toml(own))
    result = deflow("fit", *folders, "--out", "run", "--resume", "--seed", 5, "--set", "fit.batch_size=4")
    request = fit_workflow.requests[0]
    assert request.config == own
    assert request.resume
    assert "not applied: fit.batch_size." in result.stderr


def test_changed_data_is_accepted_where_asked_for(deflow, folders, fit_workflow):
    deflow("fit", *folders, "--out", "run", "--resume")
    deflow("fit", *folders, "--out", "run", "--resume", "--accept-changed-data")
    assert [r.accepts_changed_data for r in fit_workflow.requests] == [False, True]


def test_resume_of_nothing_starts_from_the_preset(deflow, folders, fit_workflow):
    assert deflow("fit", *folders, "--preset", "ntire", "--out", "run", "--resume").exit_code == 0
    assert fit_workflow.requests[0].config == FIT.load("ntire")


def test_a_run_is_never_overwritten(deflow, folders, fit_workflow):
    Path("run").mkdir()
    Path("run/config.toml").write_text(FIT.to_toml(RunConfig()))
    result = deflow("fit", *folders, "--out", "run")
    assert (result.exit_code, fit_workflow.requests) == (2, [])
    assert "--resume" in result.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--set", "fit.learnin_rate=1"], 2, ["'fit.learnin_rate'", "did you mean 'fit.learning_rate'"]),
        (["--set", "fit.batch_size=many"], 2, ["fit.batch_size", "'many'", "an integer"]),
        (["--set", "fit.batch_size=3", "--preset", "tiny"], 2, ["fit.batch_size is 3", "even"]),
        (["--set", "fit.seed"], 2, ["sets nothing"]),
        (["--preset", "tinny"], 2, ["'tinny'", "did you mean 'tiny'"]),
        (["--preset", "mine.toml"], 2, ["mine.toml", "no such preset file"]),
        (["--time-budget", "soon"], 2, ["'soon'", "10m"]),
        (["--device", "tpu"], 2, ["'tpu'", "cuda"]),
        (["--pairs", "nowhere"], 1, ["nowhere", "no such folder", "--pairs"]),
        (["--kernels", "nowhere"], 1, ["nowhere", "no such folder", "folder of blur kernels as --kernels"]),
        (["--downsample", "3", "--preset", "tiny"], 2, ["flow.downsample is 3", "2, 4, 8 or 16"]),
    ],
)
def test_wrong_options_name_value_and_expectation(deflow, folders, fit_workflow, args, code, words):
    result = deflow("fit", *folders, *args)
    assert (result.exit_code, fit_workflow.requests) == (code, [])
    for word in words:
        assert word in result.stderr


def test_missing_folder_is_named(deflow, folders, fit_workflow):
    result = deflow("fit", folders[0], "nowhere")
    assert (result.exit_code, fit_workflow.requests) == (1, [])
    assert "nowhere: no such folder" in result.stderr
    assert "NOISY" in result.stderr


# -- other methods ----------------------------------------------------------------------------------------


@pytest.fixture
def translation_workflow(monkeypatch):
    """A fit by another method, which is done at once."""
    result = SimpleNamespace(
        run_dir=Path("runs/x"),
        model_path=Path("runs/x/model.safetensors"),
        method="dsgan",
        step=7,
        interrupted=False,
        seconds=61.0,
        figures={"low_pass_psnr": 31.5},
        report_path=None,
    )
    recorder = Recorder(result)
    install_workflow(
        monkeypatch, "translation.run", fit_translation=recorder, TranslationRequest=SimpleNamespace
    )
    return recorder


def test_a_method_has_its_own_presets_and_options(deflow, folders, translation_workflow):
    args = (
        "--method",
        "dsgan",
        "--perceptual",
        "none",
        "--seed",
        3,
        "--time-budget",
        "90s",
        "--device",
        "cpu",
    )
    result = deflow("fit", *folders, *args, "--set", "dsgan.adversarial=0.006")
    assert result.exit_code == 0, result.output
    request = translation_workflow.requests[0]
    assert (request.clean, request.noisy, request.out) == (*folders, Path("runs/grainy"))
    assert (request.config.fit.seed, request.config.fit.time_budget, request.config.fit.iterations) == (
        3,
        90,
        0,
    )
    assert (request.config.dsgan.features, request.config.dsgan.adversarial) == ("none", 0.006)
    assert request.config.dsgan.patch_size == DSGAN.load("tiny").dsgan.patch_size
    assert "held out: low_pass_psnr 31.500" in result.stdout


def test_a_run_is_resumed_by_its_own_method(deflow, folders, translation_workflow, fit_workflow):
    Path("run").mkdir()
    Path("run/config.toml").write_text(DSGAN.to_toml(DSGAN.load("tiny")))
    assert deflow("fit", *folders, "--out", "run", "--resume").exit_code == 0
    assert translation_workflow.requests[0].method.name == "dsgan"
    result = deflow("fit", *folders, "--out", "run", "--resume", "--method", "deflow")
    assert (result.exit_code, fit_workflow.requests) == (2, [])
    assert "run/config.toml is a configuration of the method dsgan, not of deflow" in result.stderr
    assert "--method dsgan" in result.stderr


def test_a_presets_file_names_its_method(deflow, folders, translation_workflow):
    Path("mine.toml").write_text(DSGAN.to_toml(DSGAN.load("paper")))
    assert deflow("fit", *folders, "--preset", "mine.toml").exit_code == 0
    assert translation_workflow.requests[0].config == DSGAN.load("paper")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--method", "gan"], ["'gan' is unknown", "deflow, dsgan"]),
        (
            ["--method", "dsgan", "--downsample", "4"],
            ["--downsample is nothing to the method dsgan"],
        ),
        (["--perceptual", "none"], ["--perceptual is nothing to the method deflow", "dsgan or dasr"]),
        (["--method", "dsgan", "--preset", "aim"], ["'aim' is no preset", "paper, tiny"]),
        (["--method", "dsgan", "--preset", "tiny", "--perceptual", "vgg"], ["'vgg'", "alexnet or none"]),
        (
            ["--method", "dsgan", "--preset", "tiny", "--set", "dsgan.patch_size=20"],
            ["LPIPS needs at least 31"],
        ),
    ],
)
def test_wrong_options_of_methods(deflow, folders, fit_workflow, translation_workflow, args, words):
    result = deflow("fit", *folders, *args)
    assert (result.exit_code, fit_workflow.requests, translation_workflow.requests) == (2, [], [])
    for word in words:
        assert word in result.stderr


def test_missing_weights_are_told_before_anything_is_done(deflow, folders, translation_workflow):
    result = deflow("fit", *folders, "--method", "dsgan", "--perceptual-weights", "alexnet.pth")
    assert result.exit_code == 1
    assert "alexnet.pth: no such file" in result.stderr
