"""Studies: people judge images; a page for them, and what their answers say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.workflows.api.arguments import path_or_none

if TYPE_CHECKING:
    from deflow_cli.workflows.study.make import MakeStudyRecord
    from deflow_cli.workflows.study.plan import Mode
    from deflow_cli.workflows.study.score import StudyReport


def make_study(
    methods: Sequence[str | Path],
    out: str | Path,
    *,
    ref: str | Path | None = None,
    lq: str | Path | None = None,
    mode: Mode = "rank",
    trials: int = 30,
    crop: int = 128,
    zoom: int = 2,
    every_pair: bool = False,
    title: str = "Image quality study",
    contact: str = "",
    seed: int = 0,
    reporter: Reporter | None = None,
) -> MakeStudyRecord:
    """Make a page on which people judge methods, and the key to their answers, as ``deflow study make`` does.

    methods: a folder of outputs for each. ref, lq: the references, or the low-resolution inputs; one of them.
    mode: ``rank``, ``2afc`` or ``best``. trials: for each participant. crop: side in pixels of the outputs,
    shown ``zoom`` times as large. every_pair: of 2afc, all pairs of each crop. Raises DeflowError for images
    that do not fit together, and for a folder ``out`` that is in use.

    >>> from deflow_cli import degrade, make_study
    >>> for name, heat in (("mild", 0.5), ("strong", 1.0)):
    ...     report = degrade("clean", f"asked/{name}", model="runs/camera", temperature=heat, device="cpu")
    >>> made = make_study(["asked/mild", "asked/strong"], "asked/study", ref="clean", trials=6, crop=32)
    >>> made.methods, made.trials, made.page.as_posix()
    (('mild', 'strong'), 6, 'asked/study/page/study.html')
    """
    from deflow_cli.workflows.study import make as workflow

    request = workflow.MakeStudyRequest(
        methods=tuple(Path(method) for method in methods),
        target=Path(out),
        reference=path_or_none(ref),
        low=path_or_none(lq),
        mode=mode,
        trials=trials,
        crop=crop,
        zoom=zoom,
        every_pair=every_pair,
        title=title,
        contact=contact,
        seed=seed,
    )
    return workflow.make_study(request, reporter or Silent())


def score_study(
    answers: str | Path | Sequence[str | Path],
    key: str | Path,
    *,
    metrics: str | Path | None = None,
    min_accuracy: float = 0.8,
    min_checks: int = 5,
    min_seconds: float = 2.0,
    draws: int = 2000,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> StudyReport:
    """Score the answers to a study, as ``deflow study score`` does.

    answers: the files that the page saved, or folders of them. key: the study's key.json. metrics: scores of
    ``deflow score`` of the same methods, to hold against the answers. min_accuracy: share of catch items that
    a participant must find, of at least ``min_checks``; trials below ``min_seconds`` are dropped. draws,
    seed: of the bootstrap. Raises DeflowError for files that do not fit, and where no answer is left.

    A person who prefers the milder one, as the page would save it:

    >>> import json
    >>> from pathlib import Path
    >>> from deflow_cli import degrade, make_study, score_study
    >>> for name, heat in (("mild", 0.5), ("strong", 1.0)):
    ...     report = degrade("clean", f"judged/{name}", model="runs/camera", temperature=heat, device="cpu")
    >>> made = make_study(["judged/mild", "judged/strong"], "judged/study", ref="clean", trials=6, crop=32)
    >>> wanted = ["(catch item)", "mild", "strong"]
    >>> answers = []
    >>> for trial in json.loads(made.key.read_text())["trials"]:
    ...     tokens = sorted(trial["candidates"], key=lambda token: wanted.index(trial["candidates"][token]))
    ...     ranking = [[token] for token in tokens]
    ...     answers.append({"trial": trial["id"], "shown": tokens, "ranking": ranking, "seconds": 5.0})
    >>> person = {"format": "deflow-study-answers", "version": 1, "study": made.study, "participant": "ann"}
    >>> saved = Path("judged/ann.json").write_text(json.dumps({**person, "answers": answers}))
    >>> report = score_study("judged/ann.json", made.key, draws=100)
    >>> [(method.name, method.mean_rank.value) for method in report.figures.methods]
    [('mild', 2.0), ('strong', 3.0)]
    """
    from deflow_cli.metrics.study.attention import AttentionRule
    from deflow_cli.workflows.study import score as workflow

    files = [answers] if isinstance(answers, str | Path) else answers
    request = workflow.ScoreStudyRequest(
        answers=tuple(Path(file) for file in files),
        key=Path(key),
        metrics=path_or_none(metrics),
        rule=AttentionRule(min_accuracy, min_checks, min_seconds),
        draws=draws,
        seed=seed,
    )
    return workflow.score_study(request, reporter or Silent())
