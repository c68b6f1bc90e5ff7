"""The functions whose environments are forked from one process."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from twolane_local.aws import guard
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twolane_local.aws.lambda_.environment import Environment, Owner

#: In place of an installed one: it is not in the function's folder.
LIBRARY = "import os\nLEVEL = os.environ.get('LIBRARY_LEVEL')\n"
CODE = """
import os, sys
import library

def handler(event, context):
    return {"name": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "own": os.environ.get("OWN"),
            "server": os.getppid(), "level": library.LEVEL, "extra": "colorsys" in sys.modules}
"""


def answers(folder: Path, *functions: tuple[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Of functions ``(module, variables)``, invoked one after the other."""
    source, layer = folder / "src", folder / "layer"
    source.mkdir()
    (layer / "python").mkdir(parents=True)
    (layer / "python" / "library.py").write_text(LIBRARY)
    (source / "plain.py").write_text(CODE)
    (source / "same.py").write_text(CODE)
    (source / "more.py").write_text("import colorsys\n" + CODE)
    specs = [
        FunctionSpec(
            f"fn{number}", f"Fn{number}", f"{module}.handler", source,
            environment=variables, layer_dirs=(layer,),
        )
        for number, (module, variables) in enumerate(functions)
    ]  # fmt: skip

    async def main() -> list[dict[str, Any]]:
        journal, launcher = Journal(SystemClock()), ForkLauncher()

        def make(spec: FunctionSpec, owner: Owner) -> Environment:
            environ = guard.function_environment(
                spec, endpoint_url="http://127.0.0.1:1", log_stream=os.urandom(4).hex()
            )
            return IsolatedEnvironment(
                spec, environ, owner=owner, launcher=launcher, journal=journal
            )

        pools = Functions(specs, make, journal)
        try:
            found = [json.loads((await pools.invoke(each.name, b"{}")).payload) for each in specs]
            launcher.rest()  # a server in use stays
            again = json.loads((await pools.invoke("fn0", b"{}")).payload)
            assert again == found[0]
            return found
        finally:
            await pools.close()
            launcher.rest()
            assert all(not each for each in launcher._servers.values())
            await launcher.close()

    return asyncio.run(main())


def test_functions_of_the_same_imports_share_one_and_have_variables_of_their_own(
    tmp_path: Path,
) -> None:
    one, two = answers(tmp_path, ("plain", {"OWN": "1"}), ("same", {"OWN": "2"}))
    assert one["server"] == two["server"]
    assert (one["name"], one["own"], two["name"], two["own"]) == ("fn0", "1", "fn1", "2")


def test_a_variable_that_a_library_reads_at_its_import_needs_another(tmp_path: Path) -> None:
    one, two, three = answers(
        tmp_path,
        ("plain", {"LIBRARY_LEVEL": "1"}),
        ("plain", {"LIBRARY_LEVEL": "2"}),
        ("plain", {}),
    )
    assert len({each["server"] for each in (one, two, three)}) == 3
    assert [each["level"] for each in (one, two, three)] == ["1", "2", None]


def test_other_imports_need_another(tmp_path: Path) -> None:
    one, two = answers(tmp_path, ("more", {}), ("plain", {}))
    assert one["server"] != two["server"]
    assert (one["extra"], two["extra"]) == (True, False)


def test_environments_share_one_though_each_has_a_log_stream_of_its_own(tmp_path: Path) -> None:
    """Also where a library reads all variables when it is imported."""
    layer = tmp_path / "layer" / "python"
    layer.mkdir(parents=True)
    (layer / "library.py").write_text("import os\nALL = dict(os.environ)\n")
    (tmp_path / "plain.py").write_text(
        "import os, library\ndef handler(*_): return os.environ['AWS_LAMBDA_LOG_STREAM_NAME']\n"
    )
    spec = FunctionSpec("fn", "Fn", "plain.handler", tmp_path, layer_dirs=(layer.parent,))
    streams: list[str] = []

    async def main() -> None:
        journal, launcher = Journal(SystemClock()), ForkLauncher()

        def make(spec: FunctionSpec, owner: Owner) -> Environment:
            streams.append(os.urandom(4).hex())
            environ = guard.function_environment(
                spec, endpoint_url="http://127.0.0.1:1", log_stream=streams[-1]
            )
            return IsolatedEnvironment(
                spec, environ, owner=owner, launcher=launcher, journal=journal
            )

        pools = Functions([spec], make, journal)
        try:
            await pools.provision("fn", 2)
            assert json.loads((await pools.invoke("fn", b"{}")).payload) in streams
            assert [len(each) for each in launcher._servers.values()] == [1]
        finally:
            await pools.close()
            await launcher.close()

    asyncio.run(main())
    assert len(set(streams)) == 2
