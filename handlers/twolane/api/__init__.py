"""The API function: HTTP events in, any ASGI application behind, work after the response.

``adapter`` is the handler; ``cycle`` runs one request; ``lifespan`` starts and stops the
application once; ``turns`` passes the event loop from the handler's thread to the extension's;
``extension`` keeps the execution environment awake; ``runtime_client`` knows when the response has
left.
"""

from twolane.api.adapter import ApiHandler

__all__ = ["ApiHandler"]
