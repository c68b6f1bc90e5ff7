"""Which route a request takes.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.model import RouteSpec

_VARIABLE = re.compile(r"\{([^}+]+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """A route, ready to match."""

    spec: RouteSpec
    key: str
    pattern: re.Pattern[str] | None
    rank: tuple[int, ...]

    def matches(self, method: str, path: str) -> dict[str, str] | None:
        """The path's parameters, or ``None``."""
        if self.spec.method not in {"ANY", method}:
            return None
        if self.pattern is None:
            return {}
        match = self.pattern.fullmatch(path)
        if match is None:
            return None
        return dict(zip(_names(self.spec.path), match.groups(), strict=True))


def _names(path: str) -> list[str]:
    return [name for name, _ in _VARIABLE.findall(path)]


def _compile(path: str) -> re.Pattern[str]:
    parts: list[str] = []
    end = 0
    for match in _VARIABLE.finditer(path):
        parts += [re.escape(path[end : match.start()]), "(.+)" if match.group(2) else "([^/]+)"]
        end = match.end()
    return re.compile("".join([*parts, re.escape(path[end:])]), re.DOTALL)


def _rank(spec: RouteSpec) -> tuple[int, ...]:
    """Most specific first: segment by segment a literal beats a variable beats a greedy one;
    then a named method beats ANY; ``$default`` comes last.
    """
    if spec.path == "$default":
        return (9,)
    kinds = [
        (2 if "+}" in segment else 1) if "{" in segment else 0 for segment in spec.path.split("/")
    ]
    return (*kinds, 8 if spec.method == "ANY" else 7)


class Routes:
    """The routes of one API, most specific first."""

    def __init__(self, specs: Iterable[RouteSpec]) -> None:
        routes = [
            Route(
                spec,
                "$default" if spec.path == "$default" else f"{spec.method} {spec.path}",
                None if spec.path == "$default" else _compile(spec.path),
                _rank(spec),
            )
            for spec in specs
        ]
        self._routes = sorted(routes, key=lambda route: route.rank)
        self._rest = bool(routes) and routes[0].spec.kind == "rest"

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route that the request takes, with its path parameters.

        A REST API passes over a slash at the end.
        """
        if self._rest and len(path) > 1:
            path = path.removesuffix("/")
        for route in self._routes:
            parameters = route.matches(method, path)
            if parameters is not None:
                return route, parameters
        return None
