"""The web console and the control API on one port.

``server``       The server: pages, routes, and the checks before a request reaches a route;
                 gives the routes the emulator's public parts.
``requests``     Reads a request's parameters; answers errors as ``application/problem+json``.
``state``        Reads queues, mappings and functions as they are now.
``application``  The application's tasks, from a child process (``application_child``).

The routes: ``function_routes``, ``journal_routes``, ``queue_routes``, ``schedule_routes``,
``task_routes``, ``time_routes``.
"""
