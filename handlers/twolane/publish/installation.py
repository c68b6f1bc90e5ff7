"""Put the light path behind stock Celery, for the whole process.

The transport is not imported before the first publish: kombu looks transports up by name, and all
that happens here is that the name ``sqs`` leads to ours.
"""

from __future__ import annotations

from kombu import transport as kombu_transport

from twolane import otel, snapshot
from twolane.publish import correlation, groups, results, times
from twolane.worker import hooks

LIGHT = "twolane.publish.transport:Transport"


def install() -> None:
    """Make every publish to an ``sqs://`` broker take the light path. Idempotent."""
    for alias in ("sqs", "SQS"):
        kombu_transport.TRANSPORT_ALIASES[alias] = LIGHT
        # A name that was resolved before us is kept there.
        vars(kombu_transport)["_transport_cache"].pop(alias, None)
    correlation.install()
    groups.install()
    results.install()
    times.install()
    otel.install_if_used()
    # A publisher revokes and inspects too, and waits for chords.
    hooks.install()
    if snapshot.pending():
        from twolane.publish import renewal

        renewal.install()
