"""Put the light path behind stock Celery, for the whole process.

The transport is not imported before the first publish: kombu looks transports up by name, and all
that happens here is that the name ``sqs`` leads to ours.
"""

from __future__ import annotations

from twolane import otel, patches
from twolane.environment import snapshot
from twolane.publish import message as headers

LIGHT = "twolane.publish.transport:Transport"


def install() -> None:
    """Make every publish to an ``sqs://`` broker take the light path. Idempotent."""
    # A publisher revokes and inspects too, and waits for chords.
    patches.install("publisher", transport=LIGHT, more=headers.stored_times)
    headers.install()
    headers.note_starts()
    otel.install_if_used()
    if snapshot.pending():
        from twolane.patches import snapshot as renewal

        renewal.install()
