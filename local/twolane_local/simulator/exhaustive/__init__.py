"""Every placement of faults: one, and each pair, at every point where one can strike.

============== ====================================================================================
``crossings``  The points of a run, recorded as it goes, and what strikes at one of them.
``kinds``      What can strike at which point.
``tasks``      The application: a few tasks that say what they do.
``primitives`` What is explored: a task, a retry, a chain, a chord … and what must come of each.
``runs``       One run of a primitive with none, one or two strikes.
``judgement``  What must hold beside the six invariants.
``campaign``   All runs, on several cores.
``page``       The table in ``docs/faults.md``.
============== ====================================================================================
"""
