"""Errors of the local layer, all under twolane's one root."""

from __future__ import annotations

from twolane.errors import TwolaneError


class LocalError(TwolaneError):
    """The emulator could not go on; the message says what to do."""


class TemplateError(LocalError):
    """The template cannot be used; the message names the file, the line and the remedy."""


class HandlerImportError(LocalError):
    """A function's handler does not import; the cause is chained."""


class PortInUseError(LocalError):
    """A port is taken; stop what holds it, or name another with the flag."""


class RealAwsError(LocalError):
    """A call would have left this machine for real AWS; it was refused."""
