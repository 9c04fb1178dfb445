"""ESRGAN keys: the three namings of one generator's tensors, and which one a file uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from deflow_cli.errors import CheckpointError


@dataclass(frozen=True)
class Dialect:
    """The names that one naming has for the layers; ``RRDBNet`` has those of ``new``.

    dense: with {block} from 0, {rdb} 1 to 3 and {conv} 1 to 5. up: with {index} from 1. ``old`` numbers its
    layers in sequence: {place} of an up-convolution, {hr} and {last}, and {blocks} behind the last block.
    blocks_seen, ups_seen: patterns that find the largest number.
    """

    name: str
    first: str
    dense: str
    body: str
    up: str
    hr: str
    last: str
    blocks_seen: str
    ups_seen: str


NEW = Dialect(
    name="new",
    first="conv_first",
    dense="body.{block}.rdb{rdb}.conv{conv}",
    body="conv_body",
    up="conv_up{index}",
    hr="conv_hr",
    last="conv_last",
    blocks_seen=r"body\.(\d{1,9})\.rdb\d",
    ups_seen=r"conv_up(\d{1,9})\.",
)
MID = Dialect(
    name="mid",
    first="conv_first",
    dense="RRDB_trunk.{block}.RDB{rdb}.conv{conv}",
    body="trunk_conv",
    up="upconv{index}",
    hr="HRconv",
    last="conv_last",
    blocks_seen=r"RRDB_trunk\.(\d{1,9})\.RDB\d",
    ups_seen=r"upconv(\d{1,9})\.",
)
OLD = Dialect(
    name="old",
    first="model.0",
    dense="model.1.sub.{block}.RDB{rdb}.conv{conv}.0",
    body="model.1.sub.{blocks}",
    up="model.{place}",
    hr="model.{hr}",
    last="model.{last}",
    blocks_seen=r"model\.1\.sub\.(\d{1,9})\.RDB\d",
    ups_seen=r"model\.(\d{1,9})\.(?:weight|bias)$",
)
DIALECTS = {dialect.name: dialect for dialect in (NEW, MID, OLD)}


def layer_names(dialect: Dialect, blocks: int, doublings: int) -> dict[str, str]:
    """Our name -> the dialect's, of every convolution of a generator of this size."""
    numbers = {"blocks": blocks, "hr": 3 * doublings + 2, "last": 3 * doublings + 4}
    names = {NEW.first: dialect.first}
    for block in range(blocks):
        for rdb in (1, 2, 3):
            for conv in range(1, 6):
                place = {"block": block, "rdb": rdb, "conv": conv}
                names[NEW.dense.format(**place)] = dialect.dense.format(**place)
    names[NEW.body] = dialect.body.format(**numbers)
    for index in range(1, doublings + 1):
        # between two convolutions of the sequence lie a resize and an activation
        names[NEW.up.format(index=index)] = dialect.up.format(index=index, place=3 * index)
    return names | {NEW.hr: dialect.hr.format(**numbers), NEW.last: dialect.last.format(**numbers)}


def tensor_names(dialect: Dialect, blocks: int, doublings: int) -> dict[str, str]:
    """Our name -> the dialect's, of every tensor."""
    layers = layer_names(dialect, blocks, doublings)
    return {f"{a}.{kind}": f"{b}.{kind}" for a, b in layers.items() for kind in ("weight", "bias")}


def recognised(state: Mapping[str, Tensor]) -> Dialect | None:
    """The naming of a state dict, by its first dense convolution; None where it is none of the three."""
    for dialect in DIALECTS.values():
        if dialect.dense.format(block=0, rdb=1, conv=1) + ".weight" in state:
            return dialect
    return None


def dialect_of(state: Mapping[str, Tensor]) -> Dialect:
    """The naming of a state dict. Raises CheckpointError where it is none of the three."""
    dialect = recognised(state)
    if dialect is not None:
        return dialect
    raise CheckpointError(
        "not ESRGAN weights: neither new, mid nor old keys are there",
        next_step="expected for instance body.0.rdb1.conv1.weight",
    )


def sizes_of(state: Mapping[str, Tensor], dialect: Dialect) -> tuple[int, int]:
    """Numbers of blocks and of doublings, by the names. Raises CheckpointError where they are absurd."""
    blocks = 1 + _largest(state, dialect.blocks_seen)
    largest = _largest(state, dialect.ups_seen)
    doublings = max((largest - 4) // 3, 0) if dialect is OLD else max(largest, 0)
    if blocks + doublings > len(state):
        raise CheckpointError(
            f"its {len(state)} tensors cannot be the {blocks} blocks and {doublings} doublings that it names"
        )
    return blocks, doublings


def _largest(state: Mapping[str, Tensor], pattern: str) -> int:
    found = (re.match(pattern, key) for key in state)
    return max((int(match[1]) for match in found if match), default=-1)
