"""The values of a template that only moto knows, requested in rounds until all are known.

A resource may need the value of another one, as a rule needs the name of its bus. Each round
creates the resources that need no unknown value and asks for their values, so that the next round
can create more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.moto.process import MotoProcess

#: The prefix of placeholders for unknown values.
_OPEN = "twolane-not-yet-"


class MotoValues:
    """``elsewhere`` and ``look_up`` are those of the template's ``Facts``."""

    def __init__(self, moto: MotoProcess) -> None:
        self._moto = moto
        self._known: dict[tuple[str, str | None], Any] = {}
        self._asked: set[tuple[str, str | None]] = set()
        self._missing: dict[tuple[str, str | None], None] = {}
        self._found: dict[str, str] = {}
        self._looked: set[str] = set()
        self._references: dict[str, None] = {}
        self._is_last = False

    def elsewhere(self, name: str, attribute: str | None) -> Any:
        """The value of a ``Ref`` (``None``) or attribute; raises ``KeyError`` if moto has none."""
        key = name, attribute
        if key in self._known:
            return self._known[key]
        if self._is_last or key in self._asked:
            if attribute == "Arn":
                # moto has no Arn for resources whose Ref is the ARN, such as state machines.
                reference = self.elsewhere(name, None)
                if str(reference).startswith(("arn:", _OPEN)):
                    return reference
            raise KeyError(key)
        self._missing[key] = None
        return f"{_OPEN}{name}-{attribute}"

    def look_up(self, reference: str) -> str | None:
        """The value of a dynamic reference, ``None`` if it is not known yet."""
        self._references[reference] = None
        return self._found.get(reference)

    async def ask(self, name: str, template: Mapping[str, Any]) -> bool:
        """Ask for the values that the template needs; returns True if it must be read again."""
        if self._is_last:
            return False
        ready = without_open_values(template)
        wanted = [key for key in self._missing if key[0] in ready["Resources"]]
        references = [each for each in self._references if each not in self._looked]
        references = references if self._moto.may_hold_references(ready) else []
        if not wanted and not references:
            self._is_last = True
            return bool(self._missing)
        self._known |= await self._moto.values(name, ready, wanted)
        self._asked.update(wanted)
        self._missing.clear()
        if references:
            self._found |= await self._moto.look_up(references)
            self._looked.update(references)
        return True


def without_open_values(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template without the entries that need an unknown value."""
    return {name: _without_open_values(section) for name, section in template.items()}


def _without_open_values(section: Any) -> Any:
    if isinstance(section, dict):
        return {
            key: value for key, value in section.items() if _OPEN not in json.dumps([key, value])
        }
    if isinstance(section, list):
        return [value for value in section if _OPEN not in json.dumps(value)]
    return section
