"""Judging of weights: by the function that `deflow restore` and `deflow export` read them with."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.errors import CheckpointError
from tests.zoo.weights import Weights, network


def problem(folder: Path, weights: Weights) -> str:
    """What is wrong with how a file of weights is read; empty where all is as expected."""
    path = folder / f"x{weights.suffix}"
    path.write_bytes(weights.make())
    try:
        model, _ = load_restorer(path)
    except CheckpointError as error:
        if not weights.refused:
            return f"refused: {error}"
        if str(path) not in str(error):
            return f"the error does not name the file: {error}"
        return "" if re.search(weights.refused, str(error)) else f"refused for another reason: {error}"
    if weights.refused:
        return "it was not refused"
    ours, theirs = model.state_dict(), network().state_dict()
    same = ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    return "" if same else "other weights than those in the file"
