"""The simulator: an application under schedules of requests and faults, in virtual time.

============== ====================================================================================
``simulator``  One run on the stack of a test, with a history.
``invariants`` The facts of a history, and what must hold of them.
``demo``       The demonstration application, as a run drives it.
``play``       Schedules, drawn from a seed, and their runs: one, smaller ones, many.
``primitives`` What is struck at every point: a task, a retry, a chain, a chord …
``placements`` One run of a primitive, its points, and none, one or two strikes at them.
``campaign``   All placements of faults, on several cores.
============== ====================================================================================
"""
