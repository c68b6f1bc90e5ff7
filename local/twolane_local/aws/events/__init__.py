"""The events that AWS services send to functions and queues: pure functions, dict in, dict out.

``http``           A request and a response, before they become an event.
``http_v1``        REST APIs, and HTTP APIs with payload format 1.0.
``http_v2``        HTTP APIs with payload format 2.0, and function URLs.
``eventbridge``    Events on a bus, and what a rule makes of them for a target.
``notifications``  S3's and SNS's events.
``patterns``       Event patterns and filter policies.
"""
