"""The corpus: all animals, and the part of them that an ordinary run of the tests takes."""

from __future__ import annotations

import functools
import random
from collections import defaultdict

from tests.zoo.animals import Animal
from tests.zoo.names import names
from tests.zoo.others import others
from tests.zoo.pngs import pngs
from tests.zoo.tiffs import tiffs
from tests.zoo.weights import Weights, weights

SHARE = 4  # an ordinary run takes every n-th animal of each group, in a random order


@functools.cache
def images() -> tuple[Animal, ...]:
    """All files of images, sound and damaged."""
    return (*pngs(), *tiffs(), *others(), *names())


def part(choice: str) -> list[Animal]:
    """choice: ``full``, or the seed of a part that holds some of each group."""
    if choice == "full":
        return list(images())
    groups = defaultdict(list)
    for animal in images():
        groups[animal.group].append(animal)
    chooser = random.Random(choice)
    return [one for group in groups.values() for one in chooser.sample(group, -(-len(group) // SHARE))]


def part_of_weights(choice: str) -> list[Weights]:
    """The same of files of weights."""
    if choice == "full":
        return list(weights())
    return random.Random(choice).sample(weights(), len(weights()) // SHARE)
