"""Put the light path behind stock Celery, for the whole process.

The transport is not imported before the first publish: kombu looks transports up by name, and all
that happens here is that the name ``sqs`` leads to ours.
"""

from __future__ import annotations

from kombu import transport as kombu_transport

from twolane import otel
from twolane.environment import snapshot
from twolane.patches.publishing import batch_groups, make_backends_lazy, redirect_names
from twolane.publish import headers

LIGHT = "twolane.publish.transport:Transport"


def install() -> None:
    """Make every publish to an ``sqs://`` broker take the light path. Idempotent."""
    for alias in ("sqs", "SQS"):
        kombu_transport.TRANSPORT_ALIASES[alias] = LIGHT
        # A name that was resolved before us is kept there.
        vars(kombu_transport)["_transport_cache"].pop(alias, None)
    headers.install()
    batch_groups()
    make_backends_lazy(headers.stored_times)
    headers.note_starts()
    otel.install_if_used()
    # A publisher revokes and inspects too, and waits for chords.
    redirect_names()
    if snapshot.pending():
        from twolane.patches import snapshot as renewal

        renewal.install()
