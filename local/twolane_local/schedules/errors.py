"""Errors of the Scheduler, each with the name and status that its API gives it."""

from __future__ import annotations

from typing import ClassVar

from twolane_local.errors import LocalError


class SchedulerError(LocalError):
    """The Scheduler API refused a request."""

    code: ClassVar[str] = "InternalServerException"
    status: ClassVar[int] = 500


class ValidationError(SchedulerError):
    """The request is not valid; the message names the field."""

    code = "ValidationException"
    status = 400


class ExpressionError(ValidationError):
    """A schedule expression is not one that AWS takes; the message says why."""


class NotFoundError(SchedulerError):
    """There is no such schedule or group."""

    code = "ResourceNotFoundException"
    status = 404


class ConflictError(SchedulerError):
    """There is one of that name already."""

    code = "ConflictException"
    status = 409
