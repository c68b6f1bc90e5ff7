"""The simulator: an application under random schedules of requests and faults, in virtual time.

``schedule`` draws one from a seed, ``play`` runs it, ``invariants`` judges its ``facts``.
"""
