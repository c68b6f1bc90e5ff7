"""Amazon SQS: queues that stay fast when they are deep, and their API.

A call enters through ``api`` (JSON or query protocol), which passes it to one of ``actions``.
Actions read their parameters with ``inputs`` and call ``service.QueueService``, which mappings,
schedules and commands also call.

``service``      Send, receive, delete, move to the dead-letter queue.
``registry``     The queues by name, waiting for them, and the interface that logs their changes.
``queue``        One queue in memory, with its timetable and deduplication.
``order``        Which visible message comes next: standard or FIFO.
``attributes``   A queue's attributes and their limits.
``persistence``  Keeps queues when the process ends.
``errors``       The errors of the API.
"""
