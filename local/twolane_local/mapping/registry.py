"""The running mappings, by UUID, as the Lambda API and the commands look them up."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.mapping.mapping import Mapping


class Mappings:
    """Mappings by their UUID: one made from what identifies the mapping in its template."""

    def __init__(self) -> None:
        self._mappings: dict[str, Mapping] = {}

    def add(self, mapping: Mapping) -> str:
        spec = mapping.spec
        name = f"{spec.queue_arn} {spec.function} {spec.uuid}"
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        self._mappings[identity] = mapping
        return identity

    def remove(self, identity: str) -> None:
        self._mappings.pop(identity, None)

    def get(self, identity: str) -> Mapping | None:
        return self._mappings.get(identity)

    def __iter__(self) -> Iterator[tuple[str, Mapping]]:
        return iter(tuple(self._mappings.items()))
