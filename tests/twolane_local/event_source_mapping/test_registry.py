from __future__ import annotations

import uuid
from types import SimpleNamespace

from twolane_local.aws.event_source_mapping import EventSourceMappings
from twolane_local.model import QueueMappingSpec


def mapping(function, name):
    return SimpleNamespace(spec=QueueMappingSpec(function, "arn:aws:sqs:r:1:q", uuid=name))


def test_a_mapping_has_a_uuid_that_stays_the_same():
    mappings, one, other = (
        EventSourceMappings(),
        mapping("f", "FirstSource"),
        mapping("f", "SecondSource"),
    )
    first, second = mappings.add(one), mappings.add(other)
    assert first != second
    assert str(uuid.UUID(first)) == first
    assert EventSourceMappings().add(mapping("f", "FirstSource")) == first
    assert dict(mappings) == {first: one, second: other}
    assert mappings.get(first) is one
    mappings.remove(first)
    mappings.remove(first)
    assert mappings.get(first) is None
