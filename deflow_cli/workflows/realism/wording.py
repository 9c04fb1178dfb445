"""Wording: the findings of the metrics joined with the sentences of the reports."""

from __future__ import annotations

from collections.abc import Iterable

from deflow_cli.metrics.noise.findings import Finding
from deflow_cli.reports.findings import WordedFinding, sentence


def worded(findings: Iterable[Finding]) -> tuple[WordedFinding, ...]:
    """Each finding with its sentence in place of its kind and figures, in the same order."""
    return tuple(
        WordedFinding(one.subject, one.severity, sentence(one.kind, one.figures)) for one in findings
    )
