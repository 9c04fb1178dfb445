"""Fixtures of the command line: a runner, and workflows that only record how they were called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deflow_cli.cli.main import app

Deflow = Callable[..., Result]


@dataclass
class Recorder:
    """Stands for a workflow: keeps the requests, and answers or raises what a test put in."""

    answer: Any = None
    error: BaseException | None = None
    requests: list[Any] = field(default_factory=list)
    keywords: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, *request: Any, **keywords: Any) -> Any:
        self.keywords.append(keywords)
        self.requests.append(request[0] if len(request) == 2 else request)
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def deflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deflow:
    """Run the program in an empty folder: ``deflow("fit", "clean", "noisy")``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args], prog_name="deflow")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two empty folders, clean and noisy."""
    clean, noisy = tmp_path / "clean", tmp_path / "grainy"
    clean.mkdir()
    noisy.mkdir()
    return clean, noisy


def install_workflow(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Put a module of ``members`` in the place of ``deflow_cli.workflows.name`` for one test."""
    module = ModuleType(f"deflow_cli.workflows.{name}")
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    package, _, leaf = module.__name__.rpartition(".")
    monkeypatch.setattr(importlib.import_module(package), leaf, module, raising=False)


@pytest.fixture
def fit_workflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A fit that is done at once; without a preset it takes tiny."""

    @dataclass
    class Result:
        run_dir: Path
        model_path: Path
        step: int
        interrupted: bool
        bits_per_dim_clean: float
        bits_per_dim_noisy: float
        seconds: float
        report_path: Path | None = Path("runs/x/report.html")

    recorder = Recorder(
        Result(Path("runs/x"), Path("runs/x/model.safetensors"), 7, False, 3.5, float("nan"), 61.0)
    )
    install_workflow(
        monkeypatch, "fit.run", fit=recorder, FitRequest=SimpleNamespace, default_preset=lambda device: "tiny"
    )
    return recorder


@pytest.fixture
def degrade_workflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A degrade that writes two images for its one input."""

    @dataclass
    class Record:
        source: Path
        targets: list[Path]
        temperature: float
        component: int
        seconds: float

    @dataclass
    class Report:
        model: Path
        model_origin: str
        records: list[Record]
        skipped: list[Path]
        failed: list[tuple[Path, str]]

    record = Record(Path("a.png"), [Path("out/a_1.png"), Path("out/a_2.png")], 0.8, 1, 0.5)
    recorder = Recorder(Report(Path("m.safetensors"), "embedded", [record], [], []))
    install_workflow(monkeypatch, "degrade", degrade=recorder, DegradeRequest=SimpleNamespace)
    return recorder


@pytest.fixture
def inspect_workflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """An inspect with a small nested report."""
    report = {"parameters": 1234, "flow": {"levels": 3, "spectrum": [0.5, 0.25]}, "nll": float("nan")}
    recorder = Recorder(SimpleNamespace(as_dict=lambda: report))
    install_workflow(monkeypatch, "inspect.run", inspect_model=recorder)
    return recorder


@pytest.fixture
def demo_workflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A demo that is done at once."""
    answer = SimpleNamespace(
        contact_sheet=Path("d/sheet.png"),
        model_path=Path("d/model.safetensors"),
        text="Look.",
        report_path=Path("d/report.html"),
    )
    recorder = Recorder(answer)
    install_workflow(monkeypatch, "demo", demo=recorder)
    return recorder


@pytest.fixture
def import_workflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """An import of two tensors, one of them unused."""

    @dataclass
    class Report:
        config: dict[str, Any]
        tensors: int
        unused: list[str]

    recorder = Recorder(Report({"flow": {"levels": 3}}, 2, ["upper.weight"]))
    install_workflow(monkeypatch, "import_weights", import_weights=recorder)
    return recorder
