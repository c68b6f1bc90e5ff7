"""HTTP on loopback: servers, the head and body of a request, and who may ask.

``servers``, ``protocol``  uvicorn inside an event loop that another part runs.
``access``                 Refuses requests whose Host or Origin is not of this machine.
``body``                   A request's body, whole or not at all.
``quick_json``             JSON on the hot path.
"""
