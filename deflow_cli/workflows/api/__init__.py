"""The Python API: what the commands do, as functions; `deflow_cli` offers them and loads them lazily.

Paths are texts or ``Path`` objects. Options have the commands' names and defaults. Nothing is printed: a
``reporter`` hears of progress and warnings, and the results are records. Whatever a user can mend is raised
as a `DeflowError` with a ``next_step``. The examples run in a folder with photographs in ``clean`` and
``noisy``, and with a fitted model in ``runs/camera``.
"""

from deflow_cli.workflows.api.degradation import degrade, estimate_kernels, fit
from deflow_cli.workflows.api.model_files import (
    export_onnx,
    export_weights,
    export_wtp,
    import_weights,
    inspect_model,
    push_model,
    write_report,
)
from deflow_cli.workflows.api.models import load_model, load_restorer
from deflow_cli.workflows.api.restoration import edit_images, make_pairs, restore
from deflow_cli.workflows.api.scoring import check_pairs, compare_images, score, score_space
from deflow_cli.workflows.api.studies import make_study, score_study
from deflow_cli.workflows.api.training import sr_train

# The workflows are imported by the functions that call them: reading a model needs none of them.

__all__ = [
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
