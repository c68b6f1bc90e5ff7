"""CloudWatch Logs: the log groups of functions, and the API that reads them.

``groups``           Groups, streams and events, in memory; on disk with ``--persist``.
``filter_patterns``  The patterns that FilterLogEvents and Live Tail select events by.
``api``              The API; groups that no function writes to are moto's.
"""
