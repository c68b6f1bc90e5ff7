"""Lua in the embedded store as Redis has it: a script is compiled once, and makes no global.

fakeredis compiles a script each time that it runs, then collects all garbage, and goes through all
names before each command in it, to find a new one: half of what a script takes.
https://redis.io/docs/latest/develop/programmability/lua-api/#sandbox-context
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeredis import FakeServer

_COLLECT = "collectgarbage()"
#: Lua collects by itself; what it cannot weigh is what Python's objects hold.
_SCRIPTS_A_COLLECTION = 100
_SCRIPTS_KEPT = 200
_NO_GLOBALS = """
setmetatable(_G, {__newindex = function(_, name)
  error('Script attempted to create global variable ' .. tostring(name), 2)
end})
"""


class _NoNewNames:
    """The global names that were not there at first."""

    def keys(self) -> tuple[()]:
        return ()


@cache
def _runtime() -> type[Any]:
    from fakeredis.commands_mixins import scripting_mixin

    stock: Any = scripting_mixin.LUA_MODULE.LuaRuntime

    class Runtime(stock):  # type: ignore[misc]
        def __init__(self, *_: Any, **__: Any) -> None:  # the base class's options are read by then
            self._compiled: dict[str | bytes, Any] = {}
            self._ran = 0
            self._names: Any = None

        def execute(self, code: str | bytes, *args: Any) -> Any:
            if isinstance(code, str) and code == _COLLECT:
                self._ran += 1
                if self._ran % _SCRIPTS_A_COLLECTION:
                    return None
            if (function := self._compiled.get(code)) is None:
                if len(self._compiled) >= _SCRIPTS_KEPT:
                    self._compiled.clear()
                function = self._compiled[code] = self.compile(code)
            return function(*args)

        def globals(self) -> Any:
            return self._names or super().globals()

        def seal(self) -> None:
            """Refuse global variables that scripts make from now on."""
            self.execute(_NO_GLOBALS)
            self._names = _NoNewNames()

    return Runtime


def compile_once(server: FakeServer) -> FakeServer:
    """The same server, which has its lock and has run nothing yet, with such a runtime."""
    from fakeredis import FakeStrictRedis
    from fakeredis.commands_mixins import scripting_mixin

    module: Any = scripting_mixin.LUA_MODULE
    stock, module.LuaRuntime = module.LuaRuntime, _runtime()
    try:
        FakeStrictRedis(server=server).eval("return 1", 0)
    finally:
        module.LuaRuntime = stock
    made: Any = server
    made._lua_runtime.seal()  # noqa: SLF001 - fakeredis keeps it there, and offers no way to give one
    return server
