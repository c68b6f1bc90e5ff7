"""Values that a template takes from outside of it: exports of other stacks, dynamic references.

Where nobody gives them, a stand-in does, which is said.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.stack.stand_ins import by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_DYNAMIC = re.compile(r"\{\{resolve:((?:ssm|ssm-secure|secretsmanager):[^{}]+)\}\}")


@dataclass(slots=True)
class Outside:
    """``imports`` are values by the name of their export; ``look_up`` has that of a dynamic
    reference (``ssm:/a/name``), or ``None``.
    """

    imports: Mapping[str, str] = field(default_factory=dict)
    look_up: Callable[[str], str | None] = lambda _: None
    _unknown_imports: dict[str, str] = field(default_factory=dict)
    _unknown_references: dict[str, str] = field(default_factory=dict)

    def imported(self, name: str) -> str:
        """The value of ``Fn::ImportValue``."""
        if name in self.imports:
            return self.imports[name]
        return self._unknown_imports.setdefault(name, by_name(name))

    def dynamic(self, value: Any) -> Any:
        """The value with the dynamic references in its texts resolved."""
        if isinstance(value, str):
            return _DYNAMIC.sub(lambda match: self._reference(match[1]), value)
        if isinstance(value, dict):
            return {key: self.dynamic(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.dynamic(item) for item in value]
        return value

    def parameter(self, value: Any) -> Any:
        """A parameter's value: one in the parameter store may be a list in one text."""
        if isinstance(value, list) and any(_DYNAMIC.search(str(item)) for item in value):
            return str(self.dynamic(",".join(value))).split(",")
        return self.dynamic(value) if isinstance(value, str) else value

    def _reference(self, reference: str) -> str:
        found = self.look_up(reference)
        if found is not None:
            return found
        return self._unknown_references.setdefault(reference, by_name(reference))

    def notes(self) -> Iterator[str]:
        """A line for all exports that nobody gives, and one for all references."""
        if self._unknown_imports:
            first = next(iter(self._unknown_imports))
            yield (
                f"{_listed(self._unknown_imports)}: ImportValue takes this from another stack, "
                f"which is not here, and a placeholder stands for it; --import {first}=VALUE gives "
                "it a value"
            )
        if self._unknown_references:
            yield (
                f"{_listed(self._unknown_references)}: no parameter or secret of that name is "
                "here, and a placeholder stands for it; declare it in the template, or create it "
                "at the AWS endpoint and save the template"
            )


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(sorted(values))
