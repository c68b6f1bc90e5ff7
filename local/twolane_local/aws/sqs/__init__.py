"""Amazon SQS: queues that stay fast when they are deep, and their API.

A call enters through ``api`` (JSON or query protocol), which passes it to one of ``actions``.
Actions check their parameters and call ``service.QueueService``, which mappings, schedules and
commands also call.

``moves``        Message move tasks, which redrive a dead-letter queue.
``service``      The queues by name: send, receive, delete, move to the dead-letter queue.
``queue``        One queue in memory: its order, its timetable, its deduplication.
``fairness``     Quiet tenants' messages first, on a standard queue with message groups.
``attributes``   A queue's attributes and their limits.
``persistence``  Keeps queues when the process ends.
``errors``       The errors of the API.
"""
