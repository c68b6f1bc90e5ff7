"""Checks of a project: ``lint``, ``doctor`` and ``advise`` before it is deployed; of a new one
``survey`` with its ``survey_probe``, and ``starter``, what it needs to run here.
"""
