"""Events of EventBridge, and the input that a rule makes of one for a target.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: One step of a JSON path: a name or ``*`` after a dot, an index or ``*`` in brackets.
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+|\*)\]")
#: A quoted text, or a variable outside of one.
_IN_TEMPLATE = re.compile(r'"(?:\\.|[^"\\])*"|<[^<>\s]+>')
_VARIABLE = re.compile(r"<([^<>\s]+)>")
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class MatchedRule:
    """The rule that an event matched, with the values that an input template can name."""

    name: str
    arn: str
    ingested: str


def event(
    *,
    identity: str,
    source: str,
    detail_type: str,
    detail: Any,
    time: str,
    resources: list[str],
) -> dict[str, Any]:
    return {
        "version": "0",
        "id": identity,
        "detail-type": detail_type,
        "source": source,
        "account": ACCOUNT,
        "time": time,
        "region": REGION,
        "resources": resources,
        "detail": detail,
    }


def target_input(target: Mapping[str, Any], given: Mapping[str, Any], rule: MatchedRule) -> str:
    """The text that a target gets: the event, or its input as the target's settings define it."""
    if target.get("Input") is not None:
        return str(target["Input"])
    if target.get("InputPath"):
        found = at_path(given, str(target["InputPath"]))
        return "{}" if found is _ABSENT else json.dumps(found)
    transformer = target.get("InputTransformer") or {}
    if transformer.get("InputTemplate"):
        values = {
            name: at_path(given, str(path))
            for name, path in (transformer.get("InputPathsMap") or {}).items()
        }
        values |= {
            "aws.events.rule-arn": rule.arn,
            "aws.events.rule-name": rule.name,
            "aws.events.event.ingestion-time": rule.ingested,
            "aws.events.event": {name: given[name] for name in given if name != "detail"},
            "aws.events.event.json": dict(given),
        }
        return _fill_template(str(transformer["InputTemplate"]), values)
    return json.dumps(given)


def at_path(given: Any, path: str) -> Any:
    """The value at a JSON path of the form that EventBridge accepts; a wildcard makes a list."""
    return next(_found([given], path.removeprefix("$"), 0), _ABSENT)


def _found(values: list[Any], path: str, position: int, *, several: bool = False) -> Iterator[Any]:
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            return
        several = several or "*" in (step["name"], step["index"])
        values = [below for value in values for below in _below(value, step)]
        position = step.end()
    if several:
        yield values
    else:
        yield from values


def _below(value: Any, step: re.Match[str]) -> list[Any]:
    name, index = step["name"], step["index"]
    if "*" in (name, index):
        return list(value.values() if isinstance(value, dict) else value or ())
    if name is not None:
        return [value[name]] if isinstance(value, dict) and name in value else []
    within = isinstance(value, list) and int(index) < len(value)
    return [value[int(index)]] if within else []


def _fill_template(template: str, values: Mapping[str, Any]) -> str:
    """Replace the variables of a template: as JSON, or as text within quotes.

    A variable without a value becomes an empty text.
    """

    def replaced(match: re.Match[str]) -> str:
        part = match[0]
        if part.startswith('"'):
            return _VARIABLE.sub(lambda name: _as_text(values.get(name[1], _ABSENT)), part)
        value = values.get(part[1:-1], _ABSENT)
        return json.dumps("" if value is _ABSENT else value)

    return _IN_TEMPLATE.sub(replaced, template)


def _as_text(value: Any) -> str:
    """A value within quotes: the quotes of a text are escaped, those of an object left out."""
    if value is _ABSENT:
        return ""
    if isinstance(value, str):
        return json.dumps(value)[1:-1]
    return json.dumps(value).replace('"', "")
