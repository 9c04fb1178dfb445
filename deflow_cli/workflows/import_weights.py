"""Import: a published state dict to a model file of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.architectures import SuperResolverArchitecture, TranslatorArchitecture, importable
from deflow_cli.checkpoints.foreign import read_state_dict
from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.registry import local_copy
from deflow_cli.checkpoints.srflow.files import save_srflow, spare_tensors
from deflow_cli.checkpoints.translation.files import save_translator
from deflow_cli.errors import CheckpointError, ConfigError, naming
from deflow_cli.paths import MODEL_FILE, RESTORER_FILE


@dataclass(frozen=True)
class ImportReport:
    """What was read.

    config: the sizes found. tensors: how many. unused: those that no computation reads. notes: what was
    stripped from around the tensors, in words. architecture: its name. assumed: what the file does not tell,
    in words.
    """

    config: dict[str, Any]
    tensors: int
    unused: list[str]
    notes: list[str]
    architecture: str = "deflow"
    assumed: list[str] = field(default_factory=list)


def import_weights(
    source: Path,
    target: Path,
    *,
    stacked_blocks: Sequence[int] | None = None,
    affine_eps: float | None = None,
) -> ImportReport:
    """Save published weights of a model that degrades, or of an SRFlow, as a file of ours.

    Any known architecture of these will do. The sizes follow from the tensors, which are loaded strictly.
    source: a file, or a name on the Hub. stacked_blocks, affine_eps: of an SRFlow, whose files do not tell
    them; None: as published. Raises CheckpointError naming the file and the tensor that does not fit,
    ConfigError where the options do not fit the file.
    """
    source = local_copy(source, MODEL_FILE, RESTORER_FILE).path
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(f"{target}: would overwrite its own source", next_step="choose another OUT")
    notes: list[str] = []
    state = read_state_dict(source, notes.append)
    architecture = importable(state)
    facts: dict[str, Any] = {"imported_from": source.name}
    with naming(source):
        if isinstance(architecture, SuperResolverArchitecture):
            flow = architecture.load(state, stacked_blocks, affine_eps)
            facts |= {"title": source.stem, "unused_tensors": flow.unused, "assumed": flow.assumed}
            save_srflow(target, flow.model, facts, spare_tensors(flow.model, state))
            config = asdict(flow.model.config)
            return ImportReport(config, len(state), flow.unused, notes, architecture.name, flow.assumed)
        if stacked_blocks is not None or affine_eps is not None:
            raise ConfigError("--blocks and --eps are for files of SRFlow", next_step="leave them out")
        if isinstance(architecture, TranslatorArchitecture):
            found = architecture.load(state)
            method = architecture.method(found.model)
            facts |= {"title": source.stem, "assumed": found.assumed}
            save_translator(target, found.model, method, facts)
            config = asdict(found.model.config)
            return ImportReport(config, len(state), [], notes, method, found.assumed)
        loaded = architecture.load(state)
    facts |= {"unused_tensors": loaded.unused}
    save_model(target, loaded.model, facts, title=source.stem)
    return ImportReport(asdict(loaded.model.config), len(state), loaded.unused, notes)
