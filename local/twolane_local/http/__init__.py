"""HTTP on loopback: servers, the head and body of a request, and who may ask.

``servers``  The server of every port, and the refusal of requests from elsewhere.
``content``  A request's body, whole or not at all; JSON as UTF-8.
"""
