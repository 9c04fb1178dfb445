"""Which animals a run of the tests takes: a part chosen by a seed, or all with ``--zoo full``."""

from __future__ import annotations

import pytest

from tests.zoo import corpus
from tests.zoo.commands import Visit


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    choice = metafunc.config.getoption("zoo")
    for name, animals in (("animal", corpus.part), ("weights", corpus.part_of_weights)):
        if name in metafunc.fixturenames:
            chosen = animals(choice)
            metafunc.parametrize(name, chosen, ids=[ascii(one.label) for one in chosen])


@pytest.fixture(scope="session")
def visit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """The commands over all animals that were chosen."""
    return Visit(tmp_path_factory.mktemp("zoo"), corpus.part(request.config.getoption("zoo")))
