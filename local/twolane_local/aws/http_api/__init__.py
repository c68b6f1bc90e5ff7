"""REST APIs, HTTP APIs and function URLs.

A request enters through ``front`` (a socket) or ``asgi`` (a client in this process) as a
``requests.Received``. ``api.Gateway`` finds its route, checks its ``authorizers``, makes the event
in the API's dialect (``dialects``), invokes the function or calls a service (``integrations``), and
returns the response.

``gateways``      One gateway and one port for each API of a stack.
``front``         The HTTP server of an API.
``asgi``          A gateway as an ASGI application.
``requests``      A request, and the route that it matches.
``api``           The gateway: from a request to its response.
``authorizers``   Lambda, JWT and IAM authorizers.
``dialects``      The differences between the kinds of API: events, responses, errors, limits.
``integrations``  Routes that call another service, and parameter mapping.
``answers``       Responses that a gateway makes itself: errors, usage plans, validators.
"""
