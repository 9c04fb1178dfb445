"""Import: a published state dict to a model file of ours."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.architectures import read_degrader
from deflow_cli.checkpoints.foreign import read_state_dict
from deflow_cli.checkpoints.format import save_model
from deflow_cli.errors import CheckpointError, naming


@dataclass(frozen=True)
class ImportReport:
    """What was read. config: the sizes found. tensors: how many. unused: those that no computation reads.

    notes: what was stripped from around the tensors, in words.
    """

    config: dict[str, Any]
    tensors: int
    unused: list[str]
    notes: list[str]


def import_weights(source: Path, target: Path) -> ImportReport:
    """Save the published weights of a degradation model, of any known architecture, as a file of ours.

    The sizes follow from the tensors, which are loaded strictly. Raises CheckpointError naming the file and
    the tensor that does not fit.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(f"{target}: would overwrite its own source", next_step="choose another OUT")
    notes: list[str] = []
    state = read_state_dict(source, notes.append)
    with naming(source, CheckpointError):
        loaded = read_degrader(state)
    facts = {"imported_from": source.name, "unused_tensors": loaded.unused}
    save_model(target, loaded.model, facts, title=source.stem)
    return ImportReport(asdict(loaded.model.config), len(state), loaded.unused, notes)
