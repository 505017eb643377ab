"""The errors a user can cause, each with the exit code its command ends with."""

from __future__ import annotations


class EmotalkError(Exception):
    """A known failure. Its text is one line: what was wrong, which value, what to do."""

    exit_code = 1


class UsageError(EmotalkError):
    """A command line that Typer accepts but that makes no sense."""

    exit_code = 2


class ConfigError(EmotalkError):
    """A value outside its range, or an unknown key."""

    exit_code = 3


class InputError(EmotalkError):
    """A file that is missing, unreadable, empty or not what it says it is."""

    exit_code = 3


class FaceError(InputError):
    """No usable face in a picture."""


class LandmarkError(InputError):
    """Landmarks that do not fit the scheme."""


class AudioError(InputError):
    """Sound that cannot be read or holds nothing usable."""


class OutputError(EmotalkError):
    """A result that cannot be written."""

    exit_code = 3


class WeightsError(EmotalkError):
    """Weights that are missing, damaged, of another version, or cannot be fetched."""

    exit_code = 4


class DeviceError(EmotalkError):
    """A device that does not exist here, or has too little memory."""

    exit_code = 5


class DivergedError(EmotalkError):
    """A training step produced NaN or infinity."""
