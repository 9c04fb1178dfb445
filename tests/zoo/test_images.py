"""Files of images through every command: the right pixels, or the named error."""

from __future__ import annotations

from collections import Counter

from tests.zoo.animals import Animal, Right, agreeing
from tests.zoo.commands import Visit
from tests.zoo.corpus import images
from tests.zoo.judging import problems


def test_each_command_gives_the_right_pixels_or_names_the_error(visit: Visit, animal: Animal) -> None:
    assert problems(visit, animal) == {}


def test_the_corpus_is_large_and_no_two_animals_are_one() -> None:
    assert len(images()) > 500
    assert len({animal.path for animal in images()}) == len(images())


def test_what_is_right_is_what_other_decoders_see() -> None:
    """The expectations of groups that an independent decoder reads are held by one, animal by animal."""
    read, held = Counter[str](), Counter[str]()
    for animal in images():
        if isinstance(animal.expected, Right) and not animal.expected.said:
            read[animal.group] += 1
            held[animal.group] += bool(agreeing(animal.data, animal.expected))
    for group in ("PNG filters", "JPEG", "WebP", "GIF", "names", "TIFF compressions"):
        assert held[group] == read[group], group
    assert held.total() > 0.9 * read.total()
