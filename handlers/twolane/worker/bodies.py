"""What the worker that completes a chord writes into the message of the chord's body.

Two header tasks can complete one chord: one is killed after it has published the body, and another
one that comes again finds the chord complete. Their bodies have different parents, as Celery makes
the running task the parent of what it publishes; the header says that they are one piece of work,
see ``twolane.worker.lease``.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from twolane.worker.lease import BODY_OF, CHORD_ID


def with_marked_body(request: Any, sent_s: float | None) -> Any:
    """The header task's request as it was, but for the body that it is to publish.

    ``sent_s``: when the header task was sent. Of a body that is a group, a chain or a chord, Celery
    gives the header to whatever is published at once; the rest has ids and parents of its own.
    """
    chord = getattr(request, "chord", None)
    if not isinstance(chord, dict):
        return request
    options = dict(chord.get("options") or {})
    sent = sent_s if sent_s is not None and math.isfinite(sent_s) else True
    options["headers"] = {
        **(options.get("headers") or {}), BODY_OF: sent, CHORD_ID: request.group,
    }  # fmt: skip
    marked = copy.copy(request)
    marked.chord = {**chord, "options": options}
    return marked
