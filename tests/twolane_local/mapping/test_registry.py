from __future__ import annotations

from types import SimpleNamespace

from twolane_local.mapping.registry import Mappings
from twolane_local.model import QueueMappingSpec


def mapping(function, uuid=""):
    return SimpleNamespace(spec=QueueMappingSpec(function, "arn:aws:sqs:r:1:q", uuid=uuid))


def test_a_mapping_is_found_by_its_uuid_or_one_that_stays_the_same():
    mappings, given, made = Mappings(), mapping("a", "u-1"), mapping("b")
    assert mappings.add(given) == "u-1"
    identity = mappings.add(made)
    assert Mappings().add(mapping("b")) == identity
    assert mappings.get("u-1") is given
    assert dict(mappings) == {"u-1": given, identity: made}
    mappings.remove("u-1")
    mappings.remove("u-1")
    assert mappings.get("u-1") is None
