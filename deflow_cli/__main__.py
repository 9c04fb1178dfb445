"""Entry point: the `deflow` script and `python -m deflow_cli`."""

from __future__ import annotations


def main() -> None:
    """Parse the command line and run one command; exits the process with its code."""
    from deflow_cli.cli.main import app

    app(prog_name="deflow")


if __name__ == "__main__":
    main()
