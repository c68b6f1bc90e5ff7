"""The AWS services of this machine.

``call``                  One API call, without a web framework around it.
``rest_json``             Services in the REST-JSON protocol, by botocore's model of them.
``changes``               What the API has made, changed and deleted beside the template.
``effective``             The stack that runs: the template's, with those changes.
``endpoint``              The AWS endpoint: passes each call to the service that it was signed for.
``guard``, ``real_aws``   Keep functions, and the emulator itself, away from real AWS.
``invocation``            The one seam: each source of events ends in ``invoke(function, event)``.
``sources``               Starts and stops the event source mappings and schedules of a stack.
``http_api``              REST APIs, HTTP APIs and function URLs.
``lambda_``               Functions, their execution environments, the Lambda API.
``sqs``                   Queues, and the SQS API on them.
``event_source_mapping``  Passes messages from a queue to a function, in batches.
``scheduler``             EventBridge Scheduler and scheduled rules.
``events``                The events that services send, and the patterns that match them.
``logs``                  CloudWatch Logs: the log groups of functions.
``moto``                  All other services: moto in a child process.
``redis``                 The Redis that functions use.
"""
