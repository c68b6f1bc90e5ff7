"""Applications that configure logging themselves: with AWS's own client, with ours, and forked.

The configuration is in a layer's module, which a fork server imports before it forks.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from twolane_local.aws import guard
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.aws.lambda_.process import Launcher, SpawnLauncher
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.aws.lambda_.environment import Environment, Owner
    from twolane_local.aws.lambda_.report import Line
    from twolane_local.journal import Event

DICT = """
import logging.config
logging.config.dictConfig({{
    "version": 1, "disable_existing_loggers": {disable},
    "formatters": {{"own": {{"format": "OWN %(levelname)s %(name)s %(message)s"}}}},
    "handlers": {{"own": {{"class": "logging.StreamHandler", "formatter": "own"}}}},
    "root": {{"handlers": ["own"], "level": "{level}"}},
}})
"""
FILE = '''
import io, logging.config
logging.config.fileConfig(io.StringIO("""
[loggers]
keys=root
[handlers]
keys=own
[formatters]
keys=own
[logger_root]
level=INFO
handlers=own
[handler_own]
class=StreamHandler
formatter=own
args=(sys.stdout,)
[formatter_own]
format=OWN %(levelname)s %(message)s
"""))
'''
STRUCTLOG = """
import logging, structlog
shared = [structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level]
handler = logging.StreamHandler()
handler.setFormatter(structlog.stdlib.ProcessorFormatter(
    foreign_pre_chain=shared, processors=[
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]))
logging.getLogger().handlers[:] = [handler]
logging.getLogger().setLevel("INFO")
structlog.configure(
    processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory())
def say(): structlog.get_logger("shop").info("task.started", taskId="none")
"""
LOGURU = """
import logging, sys
from loguru import logger
class Intercept(logging.Handler):
    def emit(self, record):
        logger.opt(exception=record.exc_info).log(record.levelname, record.getMessage())
logging.basicConfig(handlers=[Intercept()], level=0, force=True)
logger.remove()
logger.add(sys.stdout, format="LOGURU {level} {message}", backtrace=False, diagnose=False)
def say(): logger.info("said")
"""
JSON_LOGGER = """
import logging
from pythonjsonlogger.json import JsonFormatter
handler = logging.StreamHandler()
handler.setFormatter(JsonFormatter("%(levelname)s %(name)s %(message)s"))
root = logging.getLogger()
root.handlers.clear()
root.addHandler(handler)
root.setLevel(logging.DEBUG)
"""
POWERTOOLS = """
from aws_lambda_powertools import Logger
logger = Logger(service="shop")
def say(): logger.info("said")
"""
BROKEN = """
import logging
logging.raiseExceptions = False
class Broken(logging.Handler):
    def emit(self, record):
        try: raise OSError("the disk is full")
        except OSError: self.handleError(record)
logging.getLogger().addHandler(Broken())
"""
STYLES = {
    "none": "",
    "dictConfig": DICT.format(disable=True, level="INFO"),
    "dictConfig, at WARNING": DICT.format(disable=False, level="WARNING"),
    "fileConfig": FILE,
    "basicConfig": "import logging; logging.basicConfig(format='OWN %(message)s', level='DEBUG')",
    "basicConfig, forced": "import logging\n"
    "logging.basicConfig(format='OWN %(message)s', level='DEBUG', force=True)",
    "a second handler": "import logging, sys\n"
    "logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))",
    "Lambda's handler, reformatted": "import logging\n"
    "for each in logging.getLogger().handlers:\n"
    "    each.setFormatter(logging.Formatter('OWN %(aws_request_id)s %(message)s\\n'))",
    "python-json-logger": JSON_LOGGER,
    "structlog": STRUCTLOG,
    "loguru": LOGURU,
    "Powertools": POWERTOOLS,
    "raiseExceptions": BROKEN,
}
HANDLER = """
import logging, own_logging
log = logging.getLogger("shop")
say = getattr(own_logging, "say", lambda: None)

async def app(scope, receive, send):
    say()
    log.debug("too quiet"); log.info("said %s", "once"); log.warning("warned", extra={"n": 1})
    try: 1 / 0
    except ZeroDivisionError: log.exception("caught")
    raise KeyError("not caught")

from twolane import ApiHandler
handler = ApiHandler(app, lifespan="off")
"""
EVENT = {
    "version": "2.0", "routeKey": "$default", "rawPath": "/boom", "rawQueryString": "",
    "headers": {"host": "127.0.0.1"}, "isBase64Encoded": False,
    "requestContext": {"http": {"method": "GET", "path": "/boom", "sourceIp": "127.0.0.1",
                                "protocol": "HTTP/1.1", "userAgent": ""}},
}  # fmt: skip
LAUNCHERS: dict[str, Callable[[], Launcher]] = {
    "stock": partial(SpawnLauncher, stock=True), "spawned": SpawnLauncher, "forked": ForkLauncher,
}  # fmt: skip


class Lines:
    def __init__(self) -> None:
        self.text: list[str] = []

    def put(self, line: Line, shown: Callable[[bytes], bytes]) -> None:
        self.text.append(shown(line if isinstance(line, bytes) else line()).decode())


def run(
    folder: Path, launcher: str, style: str, *, log_format: str = "Text", level: str = ""
) -> tuple[str, list[Event]]:
    """The function's log, and the journal."""
    (folder / "module.py").write_text(HANDLER)
    layer = folder / "layer"
    (layer / "python").mkdir(parents=True, exist_ok=True)
    (layer / "python" / "own_logging.py").write_text(style)
    journal, lines = Journal(SystemClock()), Lines()

    async def main() -> None:
        starts = LAUNCHERS[launcher]()
        ended = asyncio.Event()
        journal.subscribe(lambda event: event.kind == "invocation.ended" and ended.set())

        def make(spec: FunctionSpec, owner: Owner) -> Environment:
            environ = guard.function_environment(spec, endpoint_url="http://127.0.0.1:1")
            return IsolatedEnvironment(
                spec, environ, owner=owner, launcher=starts, journal=journal, log=lines
            )

        spec = FunctionSpec(
            "fn", "Fn", "module.handler", folder, timeout_s=20, layer_dirs=(layer,),
            log_format=log_format, application_log_level=level,
        )  # fmt: skip
        functions = Functions([spec], make, journal)
        try:
            for number in range(2):
                ended.clear()
                done = await functions.invoke(
                    "fn", json.dumps(EVENT).encode(), request_id=f"r-{number}"
                )
                assert json.loads(done.payload)["statusCode"] == 500, done.payload
                async with asyncio.timeout(20):  # or the next one would get another environment
                    await ended.wait()
        finally:
            await functions.close()
            await starts.close()

    asyncio.run(main())
    return "".join(lines.text), list(journal)


_VARIES = re.compile(
    r'"(?:timestamp|eventId|Timestamp)": ?(?:"[^"]*"|\d+),?|\d{4}-\d\d-\d\d[T ][\d:.,]+\S*'
    r"|^(?:INIT_START|START|END|REPORT|EXTENSION) .*$|0x[0-9a-f]+|xray_trace_id\":\"[^\"]*\"",
    re.MULTILINE,
)


def comparable(log: str) -> Counter[str]:
    """The lines, without what differs from run to run; stdout and the log may take turns."""
    return Counter(line.rstrip() for line in _VARIES.sub("", log).split("\n") if line.strip())


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_an_application_logs_as_on_lambda_and_is_counted_once(tmp_path: Path, style: str) -> None:
    logs = {}
    for launcher in LAUNCHERS:
        logs[launcher], events = run(tmp_path, launcher, STYLES[style])
        failed = [event for event in events if event.kind == "request.failed"]
        assert [event.request_id for event in failed] == ["r-0", "r-1"], logs[launcher]
        assert all("KeyError: 'not caught'" in event.data["stackTrace"] for event in failed)
        assert logs[launcher].count('"environment.cold"') == 1
        assert logs[launcher].count('"request.failed"') == 2
    assert comparable(logs["spawned"]) == comparable(logs["stock"])
    assert comparable(logs["forked"]) == comparable(logs["stock"])
    log = logs["forked"]
    times = 2 * (2 if style == "a second handler" else 1)
    assert log.count("caught") - log.count("not caught") == times
    assert ("OWN" in log) == ("OWN" in STYLES[style] and style != "basicConfig")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_what_a_level_keeps_out_of_the_log_is_counted_here(tmp_path: Path, launcher: str) -> None:
    log, events = run(tmp_path, launcher, "", log_format="JSON", level="WARN")
    lines = [json.loads(line) for line in log.splitlines() if '"logger"' in line]
    assert {line["level"] for line in lines} == {"WARNING", "ERROR"}
    cold = [e for e in events if e.data.get("initialization")]
    assert len(cold) == (0 if launcher == "stock" else 1)  # AWS's own client has no such channel


def test_extra_fields_are_in_the_line(tmp_path: Path) -> None:
    """As in Lambda's own JSON log."""
    log, _ = run(tmp_path, "forked", "", log_format="JSON")
    warned = [json.loads(line) for line in log.splitlines() if '"warned"' in line]
    assert [(line["n"], line["requestId"]) for line in warned] == [(1, "r-0"), (1, "r-1")]


def test_what_is_logged_while_a_fork_server_imports_is_each_environments(tmp_path: Path) -> None:
    log, _ = run(tmp_path, "forked", "import logging; logging.warning('while it is imported')")
    assert log.count("while it is imported") == 1
    assert log.index("INIT_START") < log.index("while it is imported") < log.index("START Req")
