"""Lambda: functions, their execution environments, and the API.

``functions``      Runs functions by name, each in its pool of environments.
``asynchronous``   Asynchronous invocation: retries, destinations, dead letters.
``api``            The Lambda API: invocations, with streamed responses; its other calls are in
                   ``control`` (functions, versions, aliases), ``settings``, ``layers``,
                   ``code_signing`` and ``mappings``.
``resources``      Functions, versions and aliases as the API's calls name them; from a function's
                   properties to what runs.
``code``           Code in archives: unpacks and keeps it.
``environment``    The interface of an environment, and the work that it runs.
``inprocess``      An environment in this process.
``isolated``       An environment in a child process, with AWS's own runtime client.
``runtime_api``    The Runtime API and Extensions API that the child process calls.
``process``        The child process: starts it, reads its output, freezes and ends it.
``launchers``      Start environments by fork, from a ``forkserver``, or from a ``snapshot``.
``framed_log``     The log between the process and the emulator: lines, and the runtime's events.
``child``, ``transport``, ``plain_client``, ``preload``, ``stack_dump``, ``parent_death``  Run in
                   the function's process, so they import next to nothing.
``report``, ``output``  The figures, errors and lines of Lambda itself; the output of a function.
``mounts``         File systems, as folders below ``/mnt`` of the function's process.
``unrunnable``     Functions that do not run: their environment, and the check that finds them.
``interpreters``, ``installation``  Other Pythons; the packages of the code.
"""
