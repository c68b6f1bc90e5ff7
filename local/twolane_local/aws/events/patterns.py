"""Event patterns, which filter the records of mappings, EventBridge's events and SNS's messages.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html#filtering-syntax
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html

A pattern is an object of the event's shape; its leaves are lists of rules. All of its fields must
match. One matching rule of a list, and one matching element of an array in the event, is enough.
``$or`` holds several patterns of which one must match.

Mappings filter messages whose body is JSON, plain text or either, as the pattern asks:
https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class PatternError(LocalError):
    """A filter pattern is malformed; correct it in the template."""


#: No value, which is not the same as null.
_ABSENT = object()


def compile_pattern(pattern: object, depth: int = 1) -> Callable[[Any], bool]:
    """A function that returns True if an event (parsed JSON) matches; raises ``PatternError``."""
    if not isinstance(pattern, dict) or not pattern:
        raise PatternError(f"A pattern must be a JSON object with at least one field: {pattern!r}")
    return _object(pattern, "", depth)


def _object(pattern: Mapping[str, Any], path: str, depth: int = 1) -> Callable[[Any], bool]:
    if depth > DEEPEST:
        raise PatternError(f"{path:.80}… of a pattern is more than {DEEPEST} levels deep")
    checks: list[Callable[[Any], bool]] = []
    for name, below in pattern.items():
        where = f"{path}.{name}" if path else name
        if name == "$or":
            checks.append(_or(below, where, depth))
        elif isinstance(below, dict) and below:
            checks.append(_field(name, _object(below, where, depth + 1)))
        elif isinstance(below, list) and below:
            checks.append(_leaf(name, [_rule(rule, where) for rule in below]))
        else:
            raise PatternError(
                f"{where} of a pattern must be an object or a list of rules, and not empty"
            )
    return lambda event: all(check(event) for check in checks)


def _or(alternatives: object, where: str, depth: int) -> Callable[[Any], bool]:
    if not isinstance(alternatives, list) or len(alternatives) < 2:
        raise PatternError(f"{where} of a pattern must be a list of at least two patterns")
    compiled = [compile_pattern(alternative, depth + 1) for alternative in alternatives]
    return lambda event: any(matches(event) for matches in compiled)


def _field(name: str, below: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(event: Any) -> bool:
        value = event.get(name, _ABSENT) if isinstance(event, dict) else _ABSENT
        if isinstance(value, list):
            return any(below(element) for element in value) or (not value and below({}))
        return below(value)

    return check


def _leaf(name: str, rules: list[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    def check(event: Any) -> bool:
        value = event.get(name, _ABSENT) if isinstance(event, dict) else _ABSENT
        # Only leaves have values: for rules, `exists` included, an object is absent.
        if isinstance(value, dict):
            value = _ABSENT
        values = value if isinstance(value, list) and value else [value]
        return any(rule(one) for one in values for rule in rules)

    return check


def _rule(rule: object, where: str) -> Callable[[Any], bool]:
    if rule is None or isinstance(rule, (str, bool, int, float)):
        return _equal(rule)
    if not isinstance(rule, dict) or len(rule) != 1:
        raise PatternError(f"{where} of a pattern holds {rule!r}, which is not a rule")
    ((operator, operand),) = rule.items()
    make = _OPERATORS.get(operator)
    if make is None:
        raise PatternError(f"{where} of a pattern has the unknown operator {operator!r}")
    try:
        return make(operand)
    except (TypeError, ValueError) as error:
        raise PatternError(f"{where} of a pattern: {operator}: {error}") from None


def _equal(wanted: object) -> Callable[[Any], bool]:
    # In Python, unlike JSON, True equals 1.
    return lambda value: value == wanted and isinstance(value, bool) is isinstance(wanted, bool)


def _text(test: Callable[[str], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and test(value)


def _string(operand: object) -> str:
    if not isinstance(operand, str):
        raise TypeError(f"needs a string, not {operand!r}")
    return operand


def _edge(find: str) -> Callable[[object], Callable[[Any], bool]]:
    """``prefix`` or ``suffix``, exact or as ``{"equals-ignore-case": …}``."""

    def make(operand: object) -> Callable[[Any], bool]:
        if isinstance(operand, dict):
            if set(operand) != {"equals-ignore-case"}:
                raise TypeError("may only hold equals-ignore-case")
            lower = _string(operand["equals-ignore-case"]).lower()
            return _text(lambda value: bool(getattr(value.lower(), find)(lower)))
        exact = _string(operand)
        return _text(lambda value: bool(getattr(value, find)(exact)))

    return make


def _ignore_case(operand: object) -> Callable[[Any], bool]:
    lower = _string(operand).lower()
    return _text(lambda value: value.lower() == lower)


def _wildcard(operand: object) -> Callable[[Any], bool]:
    text = _string(operand)
    if "**" in text:
        raise ValueError("may not hold two * in a row")
    # A backslash escapes a * or a backslash.
    parts = re.findall(r"\\[*\\]|\*|[^*\\]+|\\", text)
    regex = "".join(".*" if part == "*" else re.escape(part[-1] if part[0] == "\\" else part)
                    for part in parts)  # fmt: skip
    compiled = re.compile(regex, re.DOTALL)
    return _text(lambda value: compiled.fullmatch(value) is not None)


def _exists(operand: object) -> Callable[[Any], bool]:
    if not isinstance(operand, bool):
        raise TypeError("needs true or false")
    return lambda value: (value is not _ABSENT) is operand


def _cidr(operand: object) -> Callable[[Any], bool]:
    network = ipaddress.ip_network(_string(operand))

    def inside(value: str) -> bool:
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return _text(inside)


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda value, bound: value == bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numeric(operand: object) -> Callable[[Any], bool]:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise TypeError('needs a list such as [">", 0, "<=", 100]')
    tests = list(zip(operand[::2], operand[1::2], strict=True))
    if not all(sign in _COMPARISONS and _is_number(bound) for sign, bound in tests):
        raise TypeError(f"has a wrong comparison in {operand!r}")
    return lambda value: (
        _is_number(value) and all(_COMPARISONS[sign](value, bound) for sign, bound in tests)
    )


def _anything_but(operand: object) -> Callable[[Any], bool]:
    """Matches values that are present and match none of the operands."""
    if isinstance(operand, dict):
        if len(operand) != 1:
            raise TypeError("needs exactly one operator")
        ((operator, below),) = operand.items()
        if operator not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
            raise ValueError(f"may not hold {operator!r}")
        refused = [_OPERATORS[operator](one) for one in _list(below)]
    else:
        if not all(isinstance(one, str) or _is_number(one) for one in _list(operand)):
            raise TypeError("needs strings or numbers")
        refused = [_equal(one) for one in _list(operand)]
    return lambda value: value is not _ABSENT and not any(rule(value) for rule in refused)


def _list(operand: Any) -> list[Any]:
    found = operand if isinstance(operand, list) else [operand]
    if not found:
        raise ValueError("needs at least one value")
    return found


_OPERATORS: dict[str, Callable[[object], Callable[[Any], bool]]] = {
    "prefix": _edge("startswith"),
    "suffix": _edge("endswith"),
    "equals-ignore-case": _ignore_case,
    "wildcard": _wildcard,
    "exists": _exists,
    "cidr": _cidr,
    "numeric": _numeric,
    "anything-but": _anything_but,
}


#: The scope of a policy on bodies; the default is MessageAttributes.
BODY = "MessageBody"


def compile_policy(
    policy: Mapping[str, Any], scope: str | None
) -> Callable[[str, Mapping[str, Any]], bool]:
    """A function that returns True if a filter policy accepts a message with its attributes.

    Raises ``PatternError``.
    """
    matches = compile_pattern(dict(policy))
    if scope != BODY:
        return lambda _, attributes: matches(
            {name: _value(attribute) for name, attribute in attributes.items()}
        )

    def in_body(message: str, _: Mapping[str, Any]) -> bool:
        try:
            body = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return isinstance(body, dict) and matches(body)

    return in_body


def _value(attribute: Mapping[str, Any]) -> Any:
    """The value of an attribute for a policy; a value that does not fit its type is text."""
    kind, text = str(attribute["Type"]), attribute["Value"]
    if kind == "String.Array" or kind.startswith("Number"):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text


#: The highest quota that AWS grants, and the longest pattern in characters.
MOST_FILTERS, LONGEST_PATTERN = 10, 4_096
#: Our own limit. Python's recursion limit would end a mapping in the middle of a batch.
DEEPEST = 100


def read_filters(criteria: object) -> tuple[str, ...]:
    """The patterns of a ``FilterCriteria`` as they were written; raises ``PatternError``.

    https://docs.aws.amazon.com/lambda/latest/api/API_FilterCriteria.html
    """
    if not isinstance(criteria, dict) or set(criteria) - {"Filters"}:
        raise PatternError(f"FilterCriteria must be a map with Filters, not {criteria!r:.80}")
    filters = criteria.get("Filters", [])
    if not isinstance(filters, list):
        raise PatternError(f"FilterCriteria.Filters must be a list, not {filters!r:.80}")
    texts = []
    for number, item in enumerate(filters):
        where = f"FilterCriteria.Filters.{number}"
        if not isinstance(item, dict) or set(item) != {"Pattern"}:
            raise PatternError(f"{where} must be a map with a Pattern, not {item!r:.80}")
        if not isinstance(item["Pattern"], str):
            raise PatternError(f"{where}.Pattern must be JSON text, not {item['Pattern']!r:.80}")
        if len(item["Pattern"]) > LONGEST_PATTERN:
            raise PatternError(f"{where}.Pattern has more than {LONGEST_PATTERN} characters")
        texts.append(item["Pattern"])
    compile_filters(tuple(map(parse_filter, texts)))
    return tuple(texts)


def parse_filter(text: str) -> dict[str, Any]:
    """A pattern of a mapping from its text; raises ``PatternError``."""
    try:
        pattern = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PatternError(f"A filter's pattern is not JSON: {error}: {text!r:.80}") from None
    if not isinstance(pattern, dict):
        raise PatternError(f"A filter's pattern must be a JSON object, not {text:.80}")
    return pattern


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def compile_filters(
    patterns: Sequence[Mapping[str, Any]],
) -> Callable[[Mapping[str, Any]], bool] | None:
    """A function that returns True if a pattern accepts a record; ``None`` without patterns."""
    if not patterns:
        return None
    if len(patterns) > MOST_FILTERS:
        raise PatternError(f"A mapping has at most {MOST_FILTERS} filters, not {len(patterns)}")
    compiled = [_Filter(pattern) for pattern in patterns]
    return lambda record: any(wants(record) for wants in compiled)


class _Filter:
    def __init__(self, pattern: Mapping[str, Any]) -> None:
        if len(json.dumps(pattern)) > LONGEST_PATTERN:
            raise PatternError(f"A filter pattern has at most {LONGEST_PATTERN} characters")
        self._matches = compile_pattern(dict(pattern))
        self._bodies = _forms_of_body(pattern)

    def __call__(self, record: Mapping[str, Any]) -> bool:
        if not self._bodies:
            return self._matches(record)
        parsed = _parse(record["body"])
        if (parsed is not None) not in self._bodies:
            return False
        return self._matches(record if parsed is None else {**record, "body": parsed})


def _forms_of_body(pattern: Mapping[str, Any]) -> set[bool]:
    """The forms of body that a pattern filters: JSON (True), plain text (False), or neither."""
    forms = {isinstance(pattern["body"], dict)} if "body" in pattern else set()
    for alternative in pattern.get("$or", ()):
        forms |= _forms_of_body(alternative)
    return forms


def _parse(body: str) -> Any:
    """The body as JSON, ``None`` for plain text.

    A lone number or string counts as plain text; AWS does not document it.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, (dict, list)) else None
