"""What only moto knows of a template's values: asked for in rounds, until the template is whole.

A resource may need the value of another one, as a rule needs the name of its bus. A round creates
what needs nothing that is still open, and asks for its values; the next one can so create more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.moto.process import MotoProcess

#: Begins what stands for a value until moto has given it.
_OPEN = "twolane-not-yet-"


class Answers:
    """``elsewhere`` and ``look_up`` answer for ``stack.Facts``."""

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
        """The value of a ``Ref`` (``None``) or attribute; ``KeyError`` where moto has none."""
        key = name, attribute
        if key in self._known:
            return self._known[key]
        if self._is_last or key in self._asked:
            if attribute == "Arn":
                # moto leaves it out where a Ref gives the ARN itself: state machines, say.
                reference = self.elsewhere(name, None)
                if str(reference).startswith(("arn:", _OPEN)):
                    return reference
            raise KeyError(key)
        self._missing[key] = None
        return f"{_OPEN}{name}-{attribute}"

    def look_up(self, reference: str) -> str | None:
        """The value of a dynamic reference, as far as it is known."""
        self._references[reference] = None
        return self._found.get(reference)

    async def ask(self, name: str, template: Mapping[str, Any]) -> bool:
        """Ask for what the template needs; whether it is to be read again."""
        if self._is_last:
            return False
        ready = settled(template)
        wanted = [key for key in self._missing if key[0] in ready["Resources"]]
        held = [each for each in self._references if each not in self._looked]
        held = held if self._moto.holds(ready) else []
        if not wanted and not held:
            self._is_last = True
            return bool(self._missing)
        self._known |= await self._moto.values(name, ready, wanted)
        self._asked.update(wanted)
        self._missing.clear()
        if held:
            self._found |= await self._moto.look_up(held)
            self._looked.update(held)
        return True


def settled(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template without what needs a value that is still open."""

    def is_settled(value: Any) -> bool:
        return _OPEN not in json.dumps(value)

    return {key: _settled(value, is_settled) for key, value in template.items()}


def _settled(section: Any, is_settled: Any) -> Any:
    if isinstance(section, dict):
        return {key: value for key, value in section.items() if is_settled([key, value])}
    if isinstance(section, list):
        return [value for value in section if is_settled(value)]
    return section
