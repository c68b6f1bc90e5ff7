"""Amazon SQS: queues that stay fast when they are deep, and the SQS API on them.

A call enters by ``api`` (JSON or query protocol), which gives it to one of ``actions``. Actions
read their parameters by ``inputs`` and call ``service.QueueService``, which mappings, schedules and
commands call, too.

``service``      Send, receive, delete, move to the dead-letter queue.
``registry``     The queues by name; who waits for them; what records their changes.
``queue``        One queue in memory, with its timetable and deduplication.
``order``        Which visible message comes next: standard or FIFO.
``attributes``   A queue's attributes and their limits.
``persistence``  Queues that outlive the process.
``errors``       The errors of the API.
"""
