"""The whole stack of a template in this process and in virtual time, for tests.

``stack.Stack`` is the facade; ``twolane_local.pytest_plugin`` makes it the fixture ``twolane``.
"""
