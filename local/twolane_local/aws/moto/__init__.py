"""All other services of AWS: moto, in a child process.

``process``        The emulator's side: starts the child, sends it the stack, passes calls on.
``faults``         The answer to a call on which moto fails, in the shape of its service.
``child``          The process that runs moto. The modules below run in it.
``imports``        What moto imports and does not need here.
``references``     Secrets, parameters and attributes that a template refers to.
``dynamodb``       Tables: atomic writes, items that expire, a log of their items.
``objects``        S3 objects, kept in files.
``notifications``  Deliveries of SNS, S3 and EventBridge to the emulator's queues and functions.
``emulator``       Calls the emulator's endpoint.
"""
