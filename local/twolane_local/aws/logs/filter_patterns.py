"""Filter patterns of CloudWatch Logs: terms, phrases, JSON, fields by spaces, regular expressions.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import ipaddress
import json
import operator
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Matches = Callable[[str], bool]
    #: A condition on a JSON object.
    Condition = Callable[[Any], bool]


class InvalidPatternError(ValueError):
    """The pattern is malformed."""


def compiled(pattern: str) -> Matches:
    """The test for a message; raises ``InvalidPatternError``."""
    text = pattern.strip()
    if text.startswith("{") and text.endswith("}"):
        return _json(text[1:-1])
    if text.startswith("[") and text.endswith("]"):
        return _fields(text[1:-1])
    return _terms(text)


_TERM = re.compile(r'\s*([-?]?)(?:"((?:[^"\\]|\\.)*)"|%((?:[^%\\]|\\.)+)%|([^\s"%]+))(?=\s|$)')


def _terms(text: str) -> Matches:
    """All of the terms, or with ``?`` any of them, and none with ``-``.

    Beside other terms, those with ``?`` are ignored.
    """
    required: list[Matches] = []
    optional: list[Matches] = []
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None:
            raise InvalidPatternError(text)
        sign, phrase, expression, word = found.groups()
        at = found.end()
        if expression is not None:
            matches = _searches(expression)
        else:
            matches = _contains(word if phrase is None else _unescaped(phrase))
        if sign == "?":
            optional.append(matches)
        else:
            required.append(_not(matches) if sign == "-" else matches)
    if required:
        return lambda message: all(matches(message) for matches in required)
    return lambda message: not optional or any(matches(message) for matches in optional)


def _contains(text: str) -> Matches:
    return lambda message: text in message


def _not(matches: Matches) -> Matches:
    return lambda message: not matches(message)


def _searches(expression: str) -> Matches:
    if re.search(r"[^A-Za-z0-9:_#=@/;,^$?\[\]{}|\\*+.\-\s]", expression):
        raise InvalidPatternError(expression)  # AWS supports these characters only
    try:
        found = re.compile(expression)
    except re.error as error:
        raise InvalidPatternError(expression) from error
    return lambda message: found.search(message) is not None


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def _value_test(sign: str, text: str, *, quoted: bool) -> Condition:
    """The test ``= text`` for one value; ``*`` in a text stands for any characters."""
    if not quoted and len(text) > 1 and text.startswith("%") and text.endswith("%"):
        searches = _searches(text[1:-1])
        test: Condition = lambda value: isinstance(value, str) and searches(value)  # noqa: E731
    elif not quoted and _NUMBER.fullmatch(text):
        number = float(text)
        if sign in _COMPARE:
            compare = _COMPARE[sign]
            return lambda value: (given := _number(value)) is not None and compare(given, number)
        test = lambda value: _number(value) == number  # noqa: E731
    elif sign in _COMPARE:
        raise InvalidPatternError(f"{sign} needs a number")
    elif not quoted and "/" in text and (network := _network(text)) is not None:
        test = lambda value: _within(value, network)  # noqa: E731
    else:
        parts = text.split("*")
        found = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
        test = lambda value: isinstance(value, str) and found.fullmatch(value) is not None  # noqa: E731
    return test if sign == "=" else lambda value: not test(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _within(value: Any, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(str(value)) in network
    except ValueError:
        return False


_TOKEN = re.compile(
    r'\s*(?:(&&|\|\||[()]|!=|<=|>=|[=<>!])|"((?:[^"\\]|\\.)*)"|(%(?:[^%\\]|\\.)+%)'
    r"|((?:\[[^\]]*\]|[^\s()=<>!&|\"])+))"
)


def _json(text: str) -> Matches:
    """``{ $.a.b = 1 && ($.c = "x*" || $.d IS TRUE) }``"""
    tokens: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise InvalidPatternError(text)
        sign, phrase, expression, word = found.groups()
        at = found.end()
        if sign is not None:
            tokens.append(("sign", sign))
        elif phrase is not None:
            tokens.append(("text", _unescaped(phrase)))
        else:
            tokens.append(("word", expression or word))
    parser = _Json(tokens)
    condition = parser.any_of()
    if parser.tokens:
        raise InvalidPatternError(text)

    def matches(message: str) -> bool:
        if not message.lstrip().startswith("{"):
            return False
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return condition(value)

    return matches


class _Json:
    """Parses a JSON pattern; ``&&`` binds more strongly than ``||``."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens

    def any_of(self) -> Condition:
        parts = [self._all_of()]
        while self._takes("sign", "||"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else lambda value: any(part(value) for part in parts)

    def _all_of(self) -> Condition:
        parts = [self._one()]
        while self._takes("sign", "&&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda value: all(part(value) for part in parts)

    def _one(self) -> Condition:
        if self._takes("sign", "("):
            inner = self.any_of()
            if not self._takes("sign", ")"):
                raise InvalidPatternError("a parenthesis is not closed")
            return inner
        path = self._path(self._next("word"))
        if self._takes("word", "IS"):
            return _is(path, self._next("word").upper())
        if self._takes("word", "NOT"):
            if self._next("word").upper() != "EXISTS":
                raise InvalidPatternError("NOT without EXISTS")
            return lambda value: not path(value)
        sign = self._next("sign")
        if sign not in ("=", "!=", *_COMPARE) or not self.tokens:
            raise InvalidPatternError(sign)
        kind, text = self.tokens.pop(0)
        if kind == "sign":
            raise InvalidPatternError(text)
        test = _value_test(sign, text, quoted=kind == "text")
        return lambda value: any(test(each) for each in path(value))

    def _takes(self, kind: str, text: str) -> bool:
        if self.tokens and self.tokens[0][0] == kind and self.tokens[0][1].upper() == text:
            del self.tokens[0]
            return True
        return False

    def _next(self, kind: str) -> str:
        if not self.tokens or self.tokens[0][0] != kind:
            raise InvalidPatternError(f"a {kind} is missing")
        return self.tokens.pop(0)[1]

    @staticmethod
    def _path(text: str) -> Callable[[Any], list[Any]]:
        """The values that ``$.a[0].b`` or ``$.a[*]`` selects."""
        if not text.startswith("$"):
            raise InvalidPatternError(text)
        steps = re.findall(r"\.([^.\[\]]+)|\[(\d+|\*)\]|\['([^']+)'\]", text[1:])

        def values(value: Any) -> list[Any]:
            found = [value]
            for name, index, quoted in steps:
                found = [inner for outer in found for inner in _step(outer, name or quoted, index)]
            return found

        return values


def _step(value: Any, name: str, index: str) -> list[Any]:
    if name:
        return [value[name]] if isinstance(value, dict) and name in value else []
    if not isinstance(value, list):
        return []
    if index == "*":
        return value
    return value[int(index) : int(index) + 1]


def _is(path: Callable[[Any], list[Any]], kind: str) -> Condition:
    if kind not in ("TRUE", "FALSE", "NULL"):
        raise InvalidPatternError(f"IS {kind}")
    wanted = {"TRUE": True, "FALSE": False, "NULL": None}[kind]
    return lambda value: any(each is wanted for each in path(value))


_FIELD = re.compile(r"\s*(?:\[([^\]]*)\]|\"([^\"]*)\"|(\S+))")


def _fields(text: str) -> Matches:
    """``[ip, user, status = 4*, ..., size > 1000]`` for fields that are separated by spaces."""
    given = [each.strip() for each in text.split(",")] if text.strip() else []
    tests: list[Condition | None] = []
    gap: int | None = None
    for each in given:
        if each == "...":
            gap = len(tests)
            continue
        condition = re.fullmatch(r"[\w$.-]*\s*(=|!=|<=|>=|<|>)\s*(.+)", each)
        if condition is None:
            tests.append(None)
            continue
        value, quoted = condition[2], condition[2].startswith('"')
        tests.append(_value_test(condition[1], value.strip('"'), quoted=quoted))

    def matches(message: str) -> bool:
        fields = [next(filter(None, groups), "") for groups in _FIELD.findall(message)]
        if gap is not None:
            missing = len(fields) - len(tests)
            if missing < 0:
                return False
            fields = fields[:gap] + fields[gap + missing :]
        if len(fields) != len(tests):
            return False
        return all(test is None or test(field) for test, field in zip(tests, fields, strict=True))

    return matches
