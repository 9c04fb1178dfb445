"""Fixtures: two folders of photographs, clean and noisy."""

from tests.workflows.translation.folders import unpaired_folders

__all__ = ["unpaired_folders"]
