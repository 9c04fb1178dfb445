"""Experiments: the paper's tables 1 to 4 as data: what they read, and how models are trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deflow_cli.workflows.reproduce.published import FIDELITY, NO_REFERENCE

Role = Literal["noisy", "clean", "valid_input", "valid_truth", "other_clean"]
SR_SCALE = 4


@dataclass(frozen=True)
class PartOfData:
    """A folder that an experiment reads. names: in the archives of the challenge and elsewhere.

    needed: whether nothing can be done without it; some methods need what others do not.
    """

    role: Role
    what: str
    names: tuple[str, ...]
    needed: bool = True


@dataclass(frozen=True)
class Experiment:
    """One table. number: the paper's.

    preset: of ``deflow fit``. factor: clean images are cropped to a multiple of it, as all scales that DeFlow
    prepares need it. clean_is_noisy: the clean side are the noisy images made small (DPED); blurs: by blur
    kernels of theirs. chosen_by: the metric that chooses among the kept steps of a restorer on the validation
    images; empty: the last one. restorer: settings of the restorers that differ from the preset ``paper``.
    """

    name: str
    title: str
    number: int
    preset: str
    factor: int
    parts: tuple[PartOfData, ...]
    measures: tuple[str, ...] = FIDELITY
    chosen_by: str = "lpips"
    clean_is_noisy: bool = False
    blurs: bool = False
    restorer: tuple[str, ...] = ()


_AIM_PARTS = (
    PartOfData("noisy", "degraded training images", ("train-noisy-images", "TrainingSource")),
    PartOfData("clean", "clean training images", ("train-clean-images", "TrainingTarget", "DIV2K_train_HR")),
    PartOfData("valid_input", "degraded validation inputs", ("valid-input-noisy", "ValidationSource")),
    PartOfData(
        "valid_truth", "clean validation images", ("valid-gt-clean", "ValidationGT", "DIV2K_valid_HR")
    ),
)

EXPERIMENTS: Mapping[str, Experiment] = {
    one.name: one
    for one in (
        Experiment("aim", "AIM-RWSR", 1, "aim", 32, _AIM_PARTS),
        Experiment(
            "ntire",
            "NTIRE-RWSR",
            2,
            "ntire",
            16,
            (
                PartOfData("noisy", "degraded training images", ("Corrupted-tr-x",)),
                PartOfData("clean", "clean training images", ("Corrupted-tr-y", "DIV2K_train_HR")),
                PartOfData("valid_input", "degraded validation inputs", ("Corrupted-va-x",)),
                PartOfData("valid_truth", "clean validation images", ("track1-valid-gt", "DIV2K_valid_HR")),
            ),
        ),
        Experiment(
            "dped",
            "DPED-RWSR",
            3,
            "dped",
            16,
            (
                PartOfData("noisy", "phone photographs to train on", ("DPEDiphone-tr-x",)),
                PartOfData("valid_input", "phone photographs to validate on", ("DPEDiphone-va",)),
                PartOfData(
                    "other_clean",
                    "clean images of other scenes",
                    ("DPEDiphone-tr-y", "DIV2K_train_HR"),
                    needed=False,
                ),
            ),
            measures=NO_REFERENCE,
            chosen_by="",
            clean_is_noisy=True,
            blurs=True,
            restorer=("loss.discriminator=patch",),
        ),
        Experiment("ablations", "Ablations on AIM-RWSR", 4, "aim", 32, _AIM_PARTS),
    )
}
