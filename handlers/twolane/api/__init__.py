"""The API function: HTTP events in, any ASGI application behind, work after the response.

``handler`` is the adapter; ``events`` reads and writes the events of HTTP sources. ``engine``
serves a request: ``cycle`` is its ASGI call, ``lifespan`` the application's start and end,
``inline`` (with ``starlette_tasks``, ``callables``, ``watchdog``) the lane of its background tasks.
``awake`` hands over what is left after a response: ``runtime_client`` hears that it has left,
``turns`` waits for that, ``extension`` keeps the environment from being frozen meanwhile.
"""

from twolane.api.handler import ApiHandler

__all__ = ["ApiHandler"]
