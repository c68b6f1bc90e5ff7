"""The API function: HTTP events in, any ASGI or WSGI application behind, work after the response.

``handler`` is the adapter. ``applications`` tells what it was given; ``events`` reads and writes
the events of HTTP sources. ``engine`` serves a request: ``cycle`` is its ASGI call, ``lifespan``
the application's start and end, ``inline`` the lane of its background tasks. ``awake`` hands over
the work that is left after a response, and ``extension`` keeps the environment from being frozen
meanwhile.
"""

from twolane.api.handler import ApiHandler

__all__ = ["ApiHandler"]
