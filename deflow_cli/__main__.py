"""Entry point: the `deflow` script and `python -m deflow_cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Parse the command line and run one command; exits the process with its code."""
    from deflow_cli.cli.guard import tell_error
    from deflow_cli.cli.main import app
    from deflow_cli.cli.streams import prepare_streams
    from deflow_cli.errors import DataError

    prepare_streams()
    try:
        app(prog_name="deflow")
    except DataError as error:
        tell_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
