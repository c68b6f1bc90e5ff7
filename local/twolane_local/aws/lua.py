"""Lua scripts in the embedded store run as in Redis: compiled once, without new global names.

fakeredis compiles a script on each run, collects all garbage after it, and compares all global
names before each command in it: that is half of a script's time.
https://redis.io/docs/latest/develop/programmability/lua-api/#sandbox-context
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeredis import FakeServer

_COLLECT = "collectgarbage()"
#: Lua collects by itself, but it cannot see the memory that Python objects hold.
_SCRIPTS_A_COLLECTION = 100
_SCRIPTS_KEPT = 200
_NO_GLOBALS = """
setmetatable(_G, {__newindex = function(_, name)
  error('Script attempted to create global variable ' .. tostring(name), 2)
end})
"""


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
            """Refuse new global variables from now on, so that there are none to look for."""
            self.execute(_NO_GLOBALS)
            self._names = {}

    return Runtime


def compile_once(server: FakeServer) -> FakeServer:
    """Give a server that has run nothing yet a runtime that compiles each script once."""
    from fakeredis import FakeStrictRedis
    from fakeredis.commands_mixins import scripting_mixin

    module: Any = scripting_mixin.LUA_MODULE
    stock, module.LuaRuntime = module.LuaRuntime, _runtime()
    try:
        FakeStrictRedis(server=server).eval("return 1", 0)
    finally:
        module.LuaRuntime = stock
    sealed: Any = server
    sealed._lua_runtime.seal()  # noqa: SLF001 - fakeredis keeps it there and takes none from outside
    return server
