"""REST APIs, HTTP APIs and function URLs.

A request enters by ``front`` (a socket) or ``asgi`` (a client in this process), which makes it a
``requests.GatewayRequest``. ``api.Gateway`` finds its route, asks ``authorizers``, has
``dialects`` make the event, invokes the function (or calls a service, see ``integrations``) and
writes the response.

``gateways``      One gateway and one port for each API of a stack.
``front``         The HTTP server of an API.
``asgi``          A gateway as an ASGI application.
``requests``      A request, and the route that it matches.
``api``           The gateway: from a request to its response.
``authorizers``   Lambda, JWT and IAM authorizers.
``dialects``      What differs between the kinds of API: events, responses, errors, limits.
``integrations``  Routes that call another service, and parameter mapping.
``answers``       Responses that a gateway makes itself: mocks, usage plans, validators.
"""
