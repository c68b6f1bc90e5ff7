"""Every patch stands alone: its place has the shape that was tested, and it can be taken out."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from twolane.patches import TESTED
from twolane.patches.catalogue import ENTRIES
from twolane_local.patches import ENTRIES as LOCAL

from ...installed import shape_of  # noqa: TID252

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUNTIME = ROOT / "handlers" / "twolane"
#: Every place with the shape that the patches were written for, in the newest versions.
SHAPES = json.loads((HERE / "shapes.json").read_text())
#: Those that have another one in older versions.
OLDER = tomllib.loads((HERE / "older.toml").read_text())

PLACES = [place for entry in ENTRIES for place in entry.places]


def run(code: str) -> str:
    """What a fresh process prints."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT / "handlers")},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def shapes() -> dict[str, str]:
    ran = subprocess.run(
        [sys.executable, str(HERE / "shape.py")],
        input=json.dumps(PLACES), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("place", PLACES)
def test_what_is_replaced_or_used_has_the_shape_that_was_tested(
    shapes: dict[str, str], place: str
) -> None:
    found = "gone" if shapes[place].startswith("gone") else shapes[place]
    assert found == shape_of(place, SHAPES, OLDER)


def test_what_older_versions_lack_has_a_sentence_that_says_what_comes_of_it() -> None:
    gone = {
        place for places in OLDER.values() for place, shape in places.items() if shape == "gone"
    }
    silent = [place for one in ENTRIES for place in one.places if place in gone and not one.older]
    assert silent == []
    assert gone <= {*PLACES, *(place for one in LOCAL for place in one.places)}


def test_a_place_that_has_gone_is_seen() -> None:
    gone = "celery.canvas:group._apply_all"
    ran = subprocess.run(
        [sys.executable, str(HERE / "shape.py")],
        input=json.dumps([gone]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(ran.stdout)[gone].startswith("gone: AttributeError")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_each_entry_says_who_does_it_and_why(entry: object) -> None:
    user, why = getattr(entry, "user", ""), getattr(entry, "why", "")
    assert (RUNTIME.parent / f"{user.replace('.', '/')}.py").is_file()
    assert len(why.split()) > 5


def test_each_private_name_of_others_is_in_the_catalogue() -> None:
    """Where ruff was told that a private name is used on purpose."""
    known = {part for place in PLACES for part in re.split(r"[.:() ]+", place)}
    own = {"_thread", "_getframe"}  # of one's own class; of the standard library's interpreter
    unlisted = []
    for path in RUNTIME.rglob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.Attribute) and "SLF001" in lines[node.lineno - 1]:
                name = node.attr
                if name.startswith("_") and name not in known | own:
                    unlisted.append(f"{path.relative_to(RUNTIME)}:{node.lineno} {name}")
    assert unlisted == []


def test_what_is_installed_is_undone() -> None:
    code = """
import json
import celery.events.receiver, starlette.background
from billiard import einfo
from celery import Celery
from celery.app import backends, trace
from celery.app.events import Events
from celery.app.task import Context
from celery.canvas import group
from contextvars import ContextVar
from kombu import transport

def places():
    background, receiver = starlette.background, celery.events.receiver.EventReceiver
    return [
        *(transport.TRANSPORT_ALIASES[name] for name in ("sqs", "SQS")),
        *(backends.BACKEND_ALIASES[name] for name in ("redis", "rediss", "sentinel", "dynamodb")),
        vars(group)["_apply_tasks"], vars(Celery)["_get_backend"], vars(Celery)["control"],
        Events.dispatcher_cls, Events.receiver_cls, vars(receiver)["__init__"],
        trace.Context, vars(Context).get("_twolane_fence", "absent"),
        trace.saferepr, vars(vars(einfo)["_Frame"])["Code"], einfo.traceback,
        vars(background.BackgroundTask)["__call__"], vars(background.BackgroundTasks)["__call__"],
    ]

before = places()
from twolane import patches

def install():
    patches.install("publisher", transport="twolane.publish.transport:Transport")
    patches.install("worker")
    patches.install("api", lane=ContextVar("lane", default=None))

install()
installed = places()
install()
again = places()
patches.undo()
after = places()
same = lambda one, other: [a is b for a, b in zip(one, other, strict=True)]
print(json.dumps([same(before, installed), same(installed, again), same(before, after)]))
"""
    replaced, twice, undone = json.loads(run(code))
    assert not any(replaced)
    assert all(twice)
    assert all(undone)


@pytest.mark.parametrize(
    ("version", "warned"), [("5.3.9", True), ("5.4.0", False), ("5.7.3rc1", False), ("5.8", True)]
)
def test_a_version_that_was_not_tested_gives_one_warning(version: str, warned: bool) -> None:
    code = f"""
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
import celery
celery.__version__ = {version!r}
from twolane import patches
patches.install("worker")
patches.install("publisher", transport="twolane.publish.transport:Transport")
"""
    said = run(code).splitlines()
    if not warned:
        assert said == []
        return
    (line,) = said
    assert line.startswith(f"WARNING ! celery {version} is not a version that twolane was tested")
    assert "Install celery>=5.4,<5.8" in line


def test_what_is_patched_is_bounded_where_it_is_required() -> None:
    required = [
        one
        for file in ("pyproject.toml", "local/pyproject.toml")
        for one in tomllib.loads((ROOT / file).read_text())["project"]["dependencies"]
    ]
    bounds = {
        re.split(r"[\[<>=;]", one)[0]: one.partition(";")[0]
        for one in required
    }  # fmt: skip
    for library in ("awslambdaric", "celery", "mangum", "redis"):
        assert "<" in bounds[library], bounds[library]
        # On AWS awslambdaric is Lambda's own, which may be older than the emulator's.
        if library in TESTED and library != "awslambdaric":
            first, end = TESTED[library]
            assert bounds[library].endswith(f">={first},<{end}")
