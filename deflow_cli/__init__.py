"""deflow: learn image degradations from two unpaired folders, and apply them; loads nothing until asked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deflow_cli.config.editing import Edit
    from deflow_cli.config.fit import FitConfig, RunConfig
    from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
    from deflow_cli.config.restorer import (
        GanStage,
        LossConfig,
        PsnrStage,
        RestorerConfig,
        SrConfig,
        SrFitConfig,
    )
    from deflow_cli.config.srflow import (
        FlowStage,
        PretrainStage,
        SRFlowConfig,
        SRFlowFitConfig,
        SRFlowRunConfig,
    )
    from deflow_cli.degraders.base import Degrader, Draw
    from deflow_cli.degraders.choice import DegraderChoice
    from deflow_cli.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        DeflowError,
        DeviceError,
        ShapeError,
        TrainingError,
    )
    from deflow_cli.inference.degradation_model import DegradationModel, Encoded
    from deflow_cli.inference.restoring import Restorer
    from deflow_cli.inference.super_resolving import SuperResolver
    from deflow_cli.layers.invertible.base import Bijection
    from deflow_cli.metrics.base import Metric, Score, Scorer
    from deflow_cli.runtime.progress import Reporter
    from deflow_cli.workflows.api import (
        check_pairs,
        compare_images,
        degrade,
        edit_images,
        estimate_kernels,
        export_onnx,
        export_weights,
        export_wtp,
        fit,
        import_weights,
        inspect_model,
        load_model,
        load_restorer,
        make_pairs,
        make_study,
        push_model,
        restore,
        score,
        score_space,
        score_study,
        sr_train,
        write_report,
    )
    from deflow_cli.workflows.check.run import CheckReport
    from deflow_cli.workflows.compare import CompareRecord
    from deflow_cli.workflows.degrade import DegradeRecord, DegradeReport
    from deflow_cli.workflows.edit import EditReport
    from deflow_cli.workflows.export.onnx import OnnxReport
    from deflow_cli.workflows.export.run import ExportReport
    from deflow_cli.workflows.export.wtp import WtpReport
    from deflow_cli.workflows.fit.run import FitResult
    from deflow_cli.workflows.import_weights import ImportReport
    from deflow_cli.workflows.inspect.deflow import ModelReport
    from deflow_cli.workflows.inspect.srflow import SRFlowReport
    from deflow_cli.workflows.inspect.translator import TranslatorReport
    from deflow_cli.workflows.kernels.run import KernelsReport
    from deflow_cli.workflows.pairs.run import MakePairsReport
    from deflow_cli.workflows.push.run import PushReport
    from deflow_cli.workflows.report.request import ReportResult
    from deflow_cli.workflows.restore import RestoreRecord, RestoreReport
    from deflow_cli.workflows.restorer.request import SrResult
    from deflow_cli.workflows.score.run import ScoreReport
    from deflow_cli.workflows.space.run import SpaceReport
    from deflow_cli.workflows.study.make import MakeStudyRecord
    from deflow_cli.workflows.study.score import StudyReport

__version__ = "0.1.0"

__all__ = [
    "Bijection",
    "CheckReport",
    "CheckpointError",
    "CompareRecord",
    "ConfigError",
    "DataError",
    "DeflowError",
    "DegradationModel",
    "DegradeRecord",
    "DegradeReport",
    "DegradeTransform",
    "Degrader",
    "DegraderChoice",
    "DeviceError",
    "Draw",
    "Edit",
    "EditReport",
    "Encoded",
    "EncoderConfig",
    "ExportReport",
    "FitConfig",
    "FitResult",
    "FlowConfig",
    "FlowStage",
    "GanStage",
    "ImportReport",
    "KernelsReport",
    "LossConfig",
    "MakePairsReport",
    "MakeStudyRecord",
    "Metric",
    "ModelConfig",
    "ModelReport",
    "OnnxReport",
    "PretrainStage",
    "PsnrStage",
    "PushReport",
    "ReportResult",
    "Reporter",
    "RestoreRecord",
    "RestoreReport",
    "Restorer",
    "RestorerConfig",
    "RunConfig",
    "SRFlowConfig",
    "SRFlowFitConfig",
    "SRFlowReport",
    "SRFlowRunConfig",
    "Score",
    "ScoreReport",
    "Scorer",
    "ShapeError",
    "SpaceReport",
    "SrConfig",
    "SrFitConfig",
    "SrResult",
    "StudyReport",
    "SuperResolver",
    "TrainingError",
    "TranslatorReport",
    "WtpReport",
    "__version__",
    "check_pairs",
    "compare_images",
    "degrade",
    "edit_images",
    "estimate_kernels",
    "export_onnx",
    "export_weights",
    "export_wtp",
    "fit",
    "import_weights",
    "inspect_model",
    "load_model",
    "load_restorer",
    "make_pairs",
    "make_study",
    "push_model",
    "restore",
    "score",
    "score_space",
    "score_study",
    "sr_train",
    "write_report",
]

# The module that defines each public name, which is imported when the name is first touched.
_MODULES = {
    "config.editing": ("Edit",),
    "config.fit": ("FitConfig", "RunConfig"),
    "config.model": ("EncoderConfig", "FlowConfig", "ModelConfig"),
    "config.restorer": ("GanStage", "LossConfig", "PsnrStage", "RestorerConfig", "SrConfig", "SrFitConfig"),
    "config.srflow": ("FlowStage", "PretrainStage", "SRFlowConfig", "SRFlowFitConfig", "SRFlowRunConfig"),
    "degraders.base": ("Degrader", "Draw"),
    "degraders.choice": ("DegraderChoice",),
    "errors": (
        "CheckpointError",
        "ConfigError",
        "DataError",
        "DeflowError",
        "DeviceError",
        "ShapeError",
        "TrainingError",
    ),
    "inference.degradation_model": ("DegradationModel", "Encoded"),
    "integrations.transforms": ("DegradeTransform",),
    "inference.restoring": ("Restorer",),
    "inference.super_resolving": ("SuperResolver",),
    "layers.invertible.base": ("Bijection",),
    "metrics.base": ("Metric", "Score", "Scorer"),
    "runtime.progress": ("Reporter",),
    "workflows.api": (
        "check_pairs",
        "compare_images",
        "degrade",
        "edit_images",
        "estimate_kernels",
        "export_onnx",
        "export_weights",
        "export_wtp",
        "fit",
        "import_weights",
        "inspect_model",
        "load_model",
        "load_restorer",
        "make_pairs",
        "make_study",
        "push_model",
        "restore",
        "score",
        "score_space",
        "score_study",
        "sr_train",
        "write_report",
    ),
    "workflows.check.run": ("CheckReport",),
    "workflows.compare": ("CompareRecord",),
    "workflows.degrade": ("DegradeRecord", "DegradeReport"),
    "workflows.edit": ("EditReport",),
    "workflows.export.onnx": ("OnnxReport",),
    "workflows.export.run": ("ExportReport",),
    "workflows.export.wtp": ("WtpReport",),
    "workflows.fit.run": ("FitResult",),
    "workflows.import_weights": ("ImportReport",),
    "workflows.inspect.deflow": ("ModelReport",),
    "workflows.inspect.srflow": ("SRFlowReport",),
    "workflows.inspect.translator": ("TranslatorReport",),
    "workflows.kernels.run": ("KernelsReport",),
    "workflows.pairs.run": ("MakePairsReport",),
    "workflows.push.run": ("PushReport",),
    "workflows.report.request": ("ReportResult",),
    "workflows.restore": ("RestoreRecord", "RestoreReport"),
    "workflows.restorer.request": ("SrResult",),
    "workflows.score.run": ("ScoreReport",),
    "workflows.space.run": ("SpaceReport",),
    "workflows.study.make": ("MakeStudyRecord",),
    "workflows.study.score": ("StudyReport",),
}
_HOMES = {name: f"deflow_cli.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name's module, and torch with it where it needs torch, when the name is touched."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
