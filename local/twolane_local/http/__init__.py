"""HTTP on loopback: servers, the head and body of a request, and who may ask.

``servers``    The server of every port, and the bodies of requests.
``access``     Refuses requests whose Host or Origin is not of this machine.
``json_text``  JSON as UTF-8.
"""
