"""All services but SQS, Lambda and the APIs: moto, in a child process.

``process``        The emulator's side: starts the child, gives it the stack, passes calls on.
``answers``        Asks moto for values that only moto knows, until the template is whole.
``child``          The process that runs moto. What follows runs in it.
``references``     Attributes, parameters and secrets that a template asks for.
``dynamodb``       Tables: atomic writes, items that expire, a log that outlives the process.
``objects``        S3 objects that outlive the process.
``notifications``  What SNS, S3 and EventBridge send to the emulator's queues and functions.
``emulator``       Calls the emulator's endpoint.
"""
