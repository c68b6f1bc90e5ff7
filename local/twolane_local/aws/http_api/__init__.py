"""REST APIs, HTTP APIs and function URLs.

A request enters through ``asgi``, from the server or from a client in this process, as a
``requests.Received``. ``gateways.Gateway`` finds its route, checks its ``authorizers``, makes the
event in the API's dialect (``dialects``), invokes the function or calls a service
(``integrations``), and returns the response.

``gateways``      The gateways of a stack, a port each: from a request to its response.
``asgi``          A gateway behind the server, and as an ASGI application.
``requests``      A request, and the route that it matches.
``authorizers``   Lambda, JWT and IAM authorizers.
``dialects``      The differences between the kinds of API: events, responses, errors, limits.
``integrations``  Routes that call another service, and parameter mapping.
``answers``       Responses that a gateway makes itself: errors, usage plans, validators.
"""
