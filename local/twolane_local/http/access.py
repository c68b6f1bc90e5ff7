"""Which requests a port of ours answers: those of this machine, and none of a foreign web page.

A page in the developer's browser can send requests to 127.0.0.1. It cannot hide where it comes
from: the Host by whose name it reached us (DNS rebinding), its Origin, and the browser's own
``Sec-Fetch-Site``: https://developer.mozilla.org/en-US/docs/Web/HTTP/Headers/Sec-Fetch-Site

The names are literal. No name that DNS can give to somebody else is among them, and so no page
from elsewhere has one as its Host or in its Origin.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: This machine's names. Browsers resolve them themselves, or need not.
NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: The name of a bucket in front of ``localhost``, as SDKs write it: no DNS server is asked for it.
#: https://www.rfc-editor.org/rfc/rfc6761#section-6.3
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*\.localhost")
_AUTHORITY = re.compile(r"(?P<name>\[[0-9a-f:]+\]|[^:\[\]]*)(?::\d{1,5})?")
#: How many different names are remembered as good.
_REMEMBERED = 256


class Caller(NamedTuple):
    """What a request's headers say about where it comes from; empty where they say nothing."""

    host: bytes
    origin: bytes = b""
    referer: bytes = b""
    site: bytes = b""
    mode: bytes = b""
    destination: bytes = b""


class Door:
    """The rule of one port."""

    def __init__(
        self,
        names: Iterable[str] = (),
        *,
        buckets: bool = False,
        pages: bool = False,
        own: bool = False,
        refused: Callable[[str], None] | None = None,
    ) -> None:
        """``names`` are further names by which the port may be called, and whose pages may call
        it; one with a leading dot stands for all names below it. ``buckets`` are names below
        ``localhost``. ``pages`` may be opened by a link or a redirect from elsewhere. With ``own``
        only pages of this very port may call.
        ``refused`` is called with each new reason for a refusal.
        """
        given = [name.lower() for name in names]
        self._names = NAMES | {name for name in given if not name.startswith(".")}
        self._suffixes = tuple(name for name in given if name.startswith("."))
        self._buckets, self._pages, self._own = buckets, pages, own
        self._refused = refused
        self._told: set[str] = set()
        self._good: set[bytes] = set()

    def refusal(self, method: str, caller: Caller) -> str | None:
        """Why the request is not answered, or ``None``."""
        if caller.host not in self._good:
            host = caller.host.decode("latin-1")
            if not self._is_host(host):
                return self._tell(f"Host {host!r} is not a name of this machine")
            if len(self._good) < _REMEMBERED:
                self._good.add(caller.host)
        if not caller.origin and not caller.site:
            return None
        why = self._page(method, caller)
        return None if why is None else self._tell(why)

    def _page(self, method: str, caller: Caller) -> str | None:
        """Why a request of a web page is not answered, or ``None``."""
        if caller.origin:
            origin = caller.origin.decode("latin-1")
            if self._own:
                ours = caller.origin == b"http://" + caller.host
                return None if ours else f"Origin {origin!r} is not this port's own"
            return None if self._is_page(origin) else f"Origin {origin!r} is not on this machine"
        if caller.site in (b"none", b"same-origin"):
            return None
        # A page can leave its Referer out, but not choose it.
        if not self._own and caller.referer and self._is_page(caller.referer.decode("latin-1")):
            return None
        opened = caller.mode == b"navigate" and caller.destination == b"document"
        if self._pages and opened and method in ("GET", "HEAD"):
            return None
        return (
            f"Sec-Fetch-Site is {caller.site.decode('latin-1')!r}: the page is not on this machine"
        )

    def _tell(self, why: str) -> str:
        if self._refused is not None and why not in self._told and len(self._told) < _REMEMBERED:
            self._told.add(why)
            self._refused(why)
        return why

    def _is_host(self, host: str) -> bool:
        found = _AUTHORITY.fullmatch(host.lower())
        if found is None:
            return False
        name = found["name"]
        return self._is_name(name) or (self._buckets and _BUCKET.fullmatch(name) is not None)

    def _is_page(self, url: str) -> bool:
        """Whether a page at this address, or origin, may call."""
        try:
            found = _AUTHORITY.fullmatch(urlsplit(url).netloc.lower())
        except ValueError:
            return False
        return found is not None and self._is_name(found["name"])

    def _is_name(self, name: str) -> bool:
        return name in self._names or (bool(self._suffixes) and name.endswith(self._suffixes))


#: The headers of a ``Caller`` besides Host, and the lengths of their names.
_FIELDS = {
    b"origin": "origin",
    b"referer": "referer",
    b"sec-fetch-site": "site",
    b"sec-fetch-mode": "mode",
    b"sec-fetch-dest": "destination",
}
_LENGTHS = frozenset(map(len, _FIELDS))


def caller_of(headers: Iterable[tuple[bytes, bytes]]) -> Caller | None:
    """The caller of a request; ``None`` without exactly one Host, which RFC 9112, 3.2 refuses."""
    host: bytes | None = None
    others: dict[str, bytes] = {}
    for name, value in headers:
        length = len(name)
        if length == 4:
            if name.lower() == b"host":
                if host is not None:
                    return None
                host = value
        elif length in _LENGTHS and (field := _FIELDS.get(name.lower())) is not None:
            # Joined, two values are nobody's name.
            others[field] = b", ".join((others[field], value)) if field in others else value
    if host is None:
        return None
    return Caller(host, **others) if others else Caller(host)
