"""One torch thread for all tests: they are small, and threads that wait for each other only slow them.

Files with the longest tests come first, so that the workers of a run end together.
"""

from collections import Counter
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--zoo",
        default="0",
        metavar="SEED|full",
        help="which part of tests/zoo runs: a quarter chosen by a seed (default: 0), or all of it",
    )


@pytest.hookimpl(trylast=True)  # what -m and -k leave out has no weight
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by the seconds of their slow tests, then by their number of tests: alike in each worker."""
    seconds: Counter[Path] = Counter()
    number = Counter(item.path for item in items)
    for item in items:
        slow = item.get_closest_marker("slow")
        if slow is not None:
            seconds[item.path] += slow.kwargs["seconds"]
    items.sort(key=lambda item: (-seconds[item.path], -number[item.path]))
