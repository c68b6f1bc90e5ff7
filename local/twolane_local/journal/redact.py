"""Replaces secrets by ``•••``: values of fields with telltale names, and arguments that an
application hides. Fields are those of JSON, XML, forms and queries, also as pairs of name and
value.

A Celery publisher hides arguments by setting its own ``argsrepr`` and ``kwargsrepr``; of such a
message only those two are shown:
https://docs.celeryq.dev/en/stable/userguide/tasks.html#hiding-sensitive-information-in-arguments
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from twolane_local.journal.messages import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from twolane_local.journal import Event

HIDDEN = "•••"
#: How many levels of lists and objects are searched.
_DEEPEST = 100
_SECRET = re.compile(
    r"authorization|cookie|api[-_ ]?key|private[-_ ]?key|passw(or)?d|pwd|passphrase|passcode|"
    r"secret|token|jwt|credential|signature|assertion|code[-_]?verifier",
    re.IGNORECASE,
)
#: Names too short to look for within other words: ``otp``, ``totp_code``, ``userOtp``, ``CVV``.
_SHORT = r"otp|pin|cvv|cvc"
_WORD = re.compile(
    rf"(?<![A-Za-z])(?i:[th]?(?:{_SHORT}))(?![a-z])|(?<=[a-z])(?:{_SHORT.title()}|{_SHORT.upper()})"
    r"(?![a-z])"
)
#: Fields whose text is JSON again: the body of an HTTP event or of an SQS record.
_NESTED = frozenset({"body", "payload"})
_QUERIES = frozenset({"query", "rawQueryString"})


def is_secret(name: str) -> bool:
    """Return whether values of a field, header or parameter of that name are hidden."""
    return _SECRET.search(name) is not None or _WORD.search(name) is not None


def headers(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return headers as pairs, with secret values replaced."""
    return [[name, HIDDEN if is_secret(name) else value] for name, value in pairs]


def query(text: str) -> str:
    """Return a query string with secret values replaced."""
    pairs = parse_qsl(text, keep_blank_values=True)
    if not any(is_secret(name) for name, _ in pairs):
        return text
    shown = [(name, HIDDEN if is_secret(name) else value) for name, value in pairs]
    return urlencode(shown, errors="replace")


def text(content: str) -> str:
    """Return a body with secrets replaced, if it is JSON, XML, a form or a task; else unchanged."""
    stripped = content.lstrip("\ufeff \t\r\n")
    if stripped.startswith(("{", "[")):
        return _json(content, stripped)
    if _PART.search(content):
        return _multipart(content)
    if stripped.startswith("<"):
        return _xml(content)
    if hides_task(content):
        return HIDDEN
    if "=" in content and is_secret(content):
        return "\n".join(query(line) for line in content.splitlines())
    return content


def _json(content: str, stripped: str) -> str:
    try:
        value = json.loads(stripped)
        shown = values(value)
        return content if shown == value else json.dumps(shown, ensure_ascii=False)
    except (ValueError, RecursionError):
        # JSON that was cut cannot be searched, so the name of a secret hides all of it.
        return HIDDEN if is_secret(content) or "argsrepr" in content else content


#: The head of a part with its name: https://www.rfc-editor.org/rfc/rfc7578#section-4.2
_PART = re.compile(
    r"content-disposition:\s*form-data(?:[^\r\n]|\r?\n[ \t])*?[;\s]"
    r"""name\*?=\s*"?(?P<name>[^";\r\n]*)""",
    re.IGNORECASE,
)
_END_OF_HEAD = re.compile(r"\r?\n\r?\n")


def _multipart(content: str) -> str:
    """A multipart form with its secret fields replaced, and those within its other fields."""
    boundary = content.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")
    if not boundary.startswith("--") or len(boundary) < 3:
        return HIDDEN if is_secret(content) else content
    return boundary.join(_part(each) for each in content.split(boundary))


def _part(part: str) -> str:
    named, end = _PART.search(part), _END_OF_HEAD.search(part)
    if named is None or end is None:
        return HIDDEN if is_secret(part) else part
    head, inner = part[: end.end()], part[end.end() :]
    line_end = "\r\n" if inner.endswith("\r\n") else "\n" if inner.endswith("\n") else ""
    value = inner.removesuffix(line_end)
    return head + (HIDDEN if is_secret(named["name"]) else text(value)) + line_end


_TAG = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|$)|<!--.*?(?:-->|$)|"
    r"""<(?:[^>"']|"[^"]*"|'[^']*')*>|<[^>]*(?:>|$)""",
    re.DOTALL,
)
_ELEMENT = re.compile(r"<(?P<end>/?)\s*(?:[\w.-]+:)?(?P<name>[\w.-]+)")
_ATTRIBUTE = re.compile(
    r"""(?P<name>[\w.-]+)(?P<is>\s*=\s*)(?P<value>"[^"]*(?:"|$)|'[^']*(?:'|$))"""
)
#: Fields and attributes that hold the name of another, which holds the value.
_NAMING = frozenset({"name", "key", "field", "parameterkey", "parametername", "header", "property"})


def _is_value(name: str) -> bool:
    return name.lower().endswith(("value", "values", "content"))


def _xml(content: str) -> str:
    """XML, or what looks like it, with secret elements and attributes replaced."""
    if not is_secret(content):
        return content
    pieces: list[str] = []
    hidden, depth, at = "", 0, 0
    pairs = _names_a_secret(content)
    for tag in _TAG.finditer(content):
        if not hidden:
            pieces.append(content[at : tag.start()])
        at = tag.end()
        element = _ELEMENT.match(tag[0])
        name, ends = (element["name"], element["end"]) if element else ("", "")
        if hidden:
            if name == hidden and not tag[0].endswith("/>"):
                depth += -1 if ends else 1
            if depth:
                continue
            hidden = ""
        shown, secret = _tag(tag[0]) if element and not ends else (tag[0], False)
        pieces.append(shown)
        secret = secret or is_secret(name) or (pairs and _is_value(name))
        if element and not ends and secret and not tag[0].endswith("/>"):
            hidden, depth = name, 1
            pieces.append(HIDDEN)
    return "".join(pieces) + ("" if hidden else content[at:])


def _names_a_secret(content: str) -> bool:
    """Whether an element holds the name of a secret, as in ``<Key>password</Key>``."""
    found = re.finditer(r"<(?:[\w.-]+:)?(?P<name>[\w.-]+)[^>]*>(?P<text>[^<]*)</", content)
    return any(each["name"].lower() in _NAMING and is_secret(each["text"]) for each in found)


def _tag(tag: str) -> tuple[str, bool]:
    """A tag with its secrets replaced, and whether its attributes name a secret."""
    named = any(
        each["name"].lower() in (*_NAMING, "id", "type") and is_secret(each["value"])
        for each in _ATTRIBUTE.finditer(tag)
    )

    def shown(found: re.Match[str]) -> str:
        hides = is_secret(found["name"]) or (named and _is_value(found["name"]))
        quote = found["value"][0]
        return f"{found['name']}{found['is']}{quote}{HIDDEN}{quote}" if hides else found[0]

    return _ATTRIBUTE.sub(shown, tag), named


def values(value: Any, name: str = "", depth: int = 0) -> Any:
    """Return JSON values with secrets replaced, and values that are nested too deep to search."""
    if depth > _DEEPEST:
        return HIDDEN
    if isinstance(value, dict):
        if _hides_envelope(value) or _hides_base64(value):
            value = {**value, "body": HIDDEN}
        named = any(
            str(key).lower() in _NAMING and isinstance(inner, str) and is_secret(inner)
            for key, inner in value.items()
        )
        return {
            key: HIDDEN
            if (is_secret(str(key)) or (named and _is_value(str(key)))) and inner not in (None, "")
            else values(inner, key, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return _elements(value, name, depth)
    if isinstance(value, str):
        if name in _NESTED:
            return text(value)
        if name in _QUERIES:
            return query(value)
    return value


def _elements(value: Sequence[Any], name: str, depth: int) -> list[Any]:
    if value and all(map(_is_pair, value)):
        return [
            [key, HIDDEN if is_secret(key) else values(inner, name, depth + 2)]
            for key, inner in value
        ]
    return [values(inner, name, depth + 1) for inner in value]


def _is_pair(value: Any) -> bool:
    """Return whether this is a name with its value, as in ``["password", "x"]``."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str)


def _hides_base64(value: Mapping[str, Any]) -> bool:
    """Return whether the body of an HTTP event holds a secret beneath its base64."""
    body = value.get("body")
    if value.get("isBase64Encoded") is not True or not isinstance(body, str):
        return False
    try:
        content = base64.b64decode(body, validate=True).decode("utf-8", "replace")
    except ValueError:
        return False
    return text(content) != content


def _hides_envelope(value: Mapping[str, Any]) -> bool:
    """Return whether this is a Celery message whose own body must be hidden."""
    if not isinstance(value.get("headers"), dict) or "properties" not in value:
        return False
    try:
        return hides_task(json.dumps(value))
    except RecursionError:
        return True


def hides_task(body: str) -> bool:
    """Return whether a task's arguments are hidden, or have secrets, maybe in base64."""
    task = decode(body)
    kwargs = dict(task.kwargs or {})
    args = list(task.args or ())
    return task.hidden or values(kwargs) != kwargs or values(args) != args


def event(step: Event, *, content: bool = False) -> dict[str, Any]:
    """Return an event as the control API shows it; ``content`` adds bodies, payloads, headers."""
    names = {"request_id": "requestId", "message_id": "messageId", "task_id": "taskId"}
    shown = {names.get(name, name): value for name, value in step.as_dict().items()}
    data = shown.pop("data", {})
    shown["data"] = {name: _field(name, value) for name, value in data.items() if content
                     or name not in ("body", "payload", "headers")}  # fmt: skip
    return shown


def _field(name: str, value: Any) -> Any:
    if is_secret(name) and value not in (None, ""):
        return HIDDEN
    if name == "headers":
        return headers(value)
    if isinstance(value, str):
        if name in _NESTED:
            return text(value)
        return query(value) if name in _QUERIES else value
    return values(value, name)
