"""Errors: everything a user can mend, said as value, expectation and next step."""


class DeflowError(Exception):
    """Base of all errors caused by input. ``str(error)`` is the message; ``next_step`` says what to do."""

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


class DataError(DeflowError):
    """A file or folder of images cannot be used."""


class ConfigError(DeflowError):
    """An option, a preset or a value in one is wrong."""

    exit_code = 2


class CheckpointError(DeflowError):
    """A model or training-state file is missing, broken or of another kind."""


class DeviceError(DeflowError):
    """The requested device, precision or backend is not available."""


class ShapeError(DeflowError):
    """A tensor's shape does not fit."""


class TrainingError(DeflowError):
    """Training cannot go on."""
