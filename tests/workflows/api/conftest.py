"""Fixtures: the command line, to hold the functions against."""

from tests.cli.conftest import deflow

__all__ = ["deflow"]
