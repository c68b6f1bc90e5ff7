"""moto, in a child process of its own: the embedded AWS behind everything but SQS and Lambda."""
