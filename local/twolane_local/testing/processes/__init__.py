"""Faults and invariants against real parts: processes, signals, sockets, a real Redis.

``live`` puts a project on all of it, for the pytest plugin's ``twolane_live``, and makes the facts
of it that the simulator makes of a virtual stack, for the same invariants; a proxy stands before
a server and cuts its connections.
"""
