"""The events that AWS services send to functions and queues, as pure functions.

``http``           A request and a response of a gateway, and CORS.
``http_v1``        REST APIs, and HTTP APIs with payload format 1.0.
``http_v2``        HTTP APIs with payload format 2.0, and function URLs.
``notifications``  The events of S3, SNS and EventBridge; the input that a rule makes for a target.
``patterns``       Event patterns and filter policies.
"""
