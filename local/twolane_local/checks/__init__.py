"""Checks of a project: ``lint``, ``doctor`` and ``advise`` before it is deployed; of one that is new
here ``survey`` with its ``survey_probe``, and ``starter``, what it needs to run.
"""
