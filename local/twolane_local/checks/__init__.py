"""Checks of a project: ``lint``, ``doctor`` and ``advise`` before it is deployed; ``survey`` of an
application that is new here, and ``starter``, what it needs to run.
"""
