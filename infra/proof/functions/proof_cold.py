"""What an application of both lanes imports, for the duration of its init."""

import twolane  # noqa: I001 - the very first import, as applications are advised

import celery.app.amqp  # noqa: F401
import fastapi  # noqa: F401
from proof import cold

__all__ = ["cold", "twolane"]
