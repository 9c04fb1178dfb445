"""One torch thread for all tests: they are small, and threads that wait for each other only slow them."""

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
