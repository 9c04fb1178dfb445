"""Shard: which part of a data set a process makes, as a user or a cluster's scheduler says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deflow_cli.errors import ConfigError

_HOW = "write --shard 3/10 for the third of ten parts"


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``count``, counted from 1.

    >>> Shard(3, 10).of(range(25))
    [2, 12, 22]
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"--shard {self}: the parts count from 1 to {self.count}", next_step=_HOW)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, items: range) -> list[int]:
        """The items of this part: every so many, so that all parts take about as long."""
        return list(items[self.number - 1 :: self.count])

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Shard:
        """``I/N``; or ``auto``: the task of a SLURM array, or the rank of torchrun, Ray or MPI launchers.

        Raises ConfigError for other texts, and for ``auto`` where no scheduler says which part it is.
        """
        if text == "auto":
            return cls._of_scheduler(environment)
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise ConfigError(f"--shard is {text!r}", next_step=f"{_HOW}, or auto")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def _of_scheduler(cls, environment: Mapping[str, str]) -> Shard:
        try:
            if "SLURM_ARRAY_TASK_ID" in environment:
                first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
                if int(environment.get("SLURM_ARRAY_TASK_STEP", "1")) != 1:
                    raise ConfigError(
                        "--shard auto: the tasks of this array do not follow one another",
                        next_step="use sbatch --array=1-N",
                    )
                number = int(environment["SLURM_ARRAY_TASK_ID"]) - first + 1
                return cls(number, int(environment["SLURM_ARRAY_TASK_COUNT"]))
            return cls(int(environment["RANK"]) + 1, int(environment["WORLD_SIZE"]))
        except (KeyError, ValueError) as error:
            raise ConfigError(
                "--shard auto: neither SLURM_ARRAY_TASK_ID and _COUNT nor RANK and WORLD_SIZE say which part "
                "this is",
                next_step=f"{_HOW}, or start it by sbatch --array or torchrun",
            ) from error
