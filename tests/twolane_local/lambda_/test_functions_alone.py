"""A function that cannot run fails alone; code in archives runs. With real child processes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from tests.twolane_local import running

from twolane_local.aws.lambda_.launchers import snapstart_available
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.errors import TemplateError
from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from twolane_local.emulator import Emulator

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.13, Timeout: 10}}
Resources:
  Baker:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: bakery/
      Handler: oven.bake
      Events: {Loaf: {Type: HttpApi, Properties: {Path: /loaf, Method: get}}}
  Miller:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: mill/
      Handler: stones.grind
      FunctionUrlConfig: {AuthType: NONE}
      Events:
        Flour: {Type: HttpApi, Properties: {Path: /flour, Method: get}}
        Bran: {Type: Api, Properties: {Path: /bran, Method: get}}
        Grain: {Type: SQS, Properties: {Queue: !GetAtt Sacks.Arn, BatchSize: 1}}
  Sacks:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 0
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Spoiled.Arn, maxReceiveCount: 2}
  Spoiled: {Type: AWS::SQS::Queue}
"""
OVEN = "def bake(event, context):\n    return {'statusCode': 200, 'body': 'loaf'}\n"


@pytest.fixture(autouse=True)
def own_process(own_environ: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The emulator changes the process: undo the changes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "template.yaml"


def line_of(template: str, logical_id: str) -> int:
    return template[: template.index(f"\n  {logical_id}:") + 1].count("\n") + 1


def run(
    path: Path,
    script: Callable[[Emulator], Awaitable[None]],
    *,
    reload: bool = False,
    in_process: bool = False,
) -> None:
    options = Options(path, port=0, aws_port=0, reload=reload, in_process=in_process)
    running.run(options, script)


def direct(emulator: Emulator, function: str) -> tuple[int, str | None, Any]:
    """boto3's result of a direct invocation: status, ``X-Amz-Function-Error``, payload."""
    client = boto3.client("lambda", endpoint_url=emulator.aws_url, region_name="us-east-1")
    answer = client.invoke(FunctionName=function, Payload=b"{}")
    payload = json.loads(answer["Payload"].read())
    return answer["StatusCode"], answer.get("FunctionError"), payload


async def dead_lettered(emulator: Emulator, queue: str, dead: str) -> None:
    """Send a message; returns once the queue's own rules have moved it."""
    emulator.queues.send(queue, NewMessage(body="grain"))
    target = emulator.queues.get(dead)
    assert target is not None
    async with asyncio.timeout(30):
        while not len(target):
            await asyncio.sleep(0.02)
    began = [each for each in emulator.journal if each.kind == "message.received"]
    assert len(began) == 2


BROKEN = {
    "import": (
        {"mill/stones.py": "import no_such_quarry\n"},
        "Runtime.ImportModuleError",
        "Unable to import module 'stones': No module named 'no_such_quarry'",
    ),
    "handler": (
        {"mill/stones.py": "grinds = None\n"},
        "Runtime.HandlerNotFound",
        "Handler 'grind' missing on module 'stones'",
    ),
    "folder": (
        {},
        "Runtime.ImportModuleError",
        "Unable to import module 'stones': No module named 'stones'",
    ),
}


@pytest.mark.parametrize(
    "kind",
    [
        "import",
        pytest.param("handler", marks=pytest.mark.slow),
        pytest.param("folder", marks=pytest.mark.slow),
    ],
)
def test_one_that_does_not_load_fails_alone_and_works_once_mended(
    tmp_path: Path, kind: str
) -> None:
    files, error, message = BROKEN[kind]
    path = write(tmp_path, {"template.yaml": TEMPLATE, "bakery/oven.py": OVEN, **files})

    async def script(emulator: Emulator) -> None:
        (note,) = emulator.notes
        assert note.startswith(f"{path}:{line_of(TEMPLATE, 'Miller')}: Miller: ")
        assert f"{error}: {message}" in note
        assert "\n" not in note
        if kind == "folder":
            assert f"there is no {tmp_path / 'mill'}" in note
        apis = emulator.addresses.apis
        http = apis["serverlesshttpapi"]
        rest, url = apis["serverlessrestapi"], apis["millerurl"]
        async with httpx.AsyncClient(timeout=20) as client:
            loaf = await client.get(f"{http}/loaf")
            assert (loaf.status_code, loaf.text) == (200, "loaf")
            assert (
                await client.get(f"{http}/flour")
            ).status_code == 500  # the response of an HTTP API
            for address in (f"{rest}/Prod/bran", url):
                assert (await client.get(address)).status_code == 502
            status, failed, payload = await asyncio.to_thread(direct, emulator, "Miller")
            assert (status, failed) == (200, "Unhandled")
            assert (payload["errorType"], payload["errorMessage"]) == (error, message)
            assert payload["requestId"] == ""
            assert payload["stackTrace"] == []
            await dead_lettered(emulator, "local-Sacks", "local-Spoiled")

            write(tmp_path, {"mill/stones.py": OVEN.replace("bake", "grind")})
            async with asyncio.timeout(20):
                while emulator.notes:
                    await asyncio.sleep(0.05)
            assert (await client.get(f"{http}/flour")).text == "loaf"
            assert await asyncio.to_thread(direct, emulator, "Miller") == (
                200, None, {"statusCode": 200, "body": "loaf"},
            )  # fmt: skip

    run(path, script, reload=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def grind(:\n", "Runtime.UserCodeSyntaxError"),
        ("raise ValueError('two\\nlines')\n", "ValueError"),
        ("import sys\nsys.exit(7)\n", "Runtime.ExitError"),
        ("import os\nos.abort()\n", "Runtime.ExitError"),
    ],
    ids=["syntax", "raises", "exits", "aborts"],
)
def test_whatever_a_module_does_the_rest_runs(tmp_path: Path, code: str, error: str) -> None:
    files = {"template.yaml": TEMPLATE, "bakery/oven.py": OVEN, "mill/stones.py": code}

    async def script(emulator: Emulator) -> None:
        (note,) = emulator.notes
        assert error in note
        assert "\n" not in note
        status, failed, payload = await asyncio.to_thread(direct, emulator, "Miller")
        assert (status, failed, payload["errorType"]) == (200, "Unhandled", error)
        async with httpx.AsyncClient(timeout=20) as client:
            http = emulator.addresses.apis["serverlesshttpapi"]
            assert (await client.get(f"{http}/loaf")).text == "loaf"

    run(write(tmp_path, files), script)


@pytest.mark.slow
@pytest.mark.skipif(not snapstart_available(), reason="snapshots are played on Linux only")
def test_with_snap_start_too_one_fails_alone_and_works_once_mended(tmp_path: Path) -> None:
    snapped = "Timeout: 10, AutoPublishAlias: live, SnapStart: {ApplyOn: PublishedVersions}"
    files = {
        "template.yaml": TEMPLATE.replace("Timeout: 10", snapped),
        "bakery/oven.py": OVEN,
        "mill/stones.py": "import no_such_quarry\n",
    }

    async def script(emulator: Emulator) -> None:
        assert len(emulator.notes) == 1
        for _ in range(2):
            _, failed, payload = await asyncio.to_thread(direct, emulator, "Miller")
            assert (failed, payload["errorType"]) == ("Unhandled", "Runtime.ImportModuleError")
        _, failed, _ = await asyncio.to_thread(direct, emulator, "Baker")
        assert failed is None
        write(tmp_path, {"mill/stones.py": OVEN.replace("bake", "grind")})
        async with asyncio.timeout(30):
            while emulator.notes:
                await asyncio.sleep(0.05)
        _, failed, payload = await asyncio.to_thread(direct, emulator, "Miller")
        assert (failed, payload["body"]) == (None, "loaf")

    run(write(tmp_path, files), script, reload=True)


@pytest.mark.slow
def test_in_process_too_each_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    files = {"template.yaml": TEMPLATE, "bakery/oven.py": OVEN}

    async def script(emulator: Emulator) -> None:
        assert len(emulator.notes) == 1
        _, failed, payload = await asyncio.to_thread(direct, emulator, "Miller")
        assert (failed, payload["errorType"]) == ("Unhandled", "Runtime.ImportModuleError")
        _, failed, payload = await asyncio.to_thread(direct, emulator, "Baker")
        assert (failed, payload) == (None, {"statusCode": 200, "body": "loaf"})

    try:
        run(write(tmp_path, files), script, in_process=True)
    finally:
        sys.modules.pop("oven", None)


FOREIGN = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Painter:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: studio/
      Runtime: nodejs22.x
      Handler: brush.paint
      Events:
        Wall: {Type: HttpApi, Properties: {Path: /wall, Method: get}}
        Orders: {Type: SQS, Properties: {Queue: !GetAtt Sacks.Arn}}
  Sculptor:
    Type: AWS::Serverless::Function
    Properties: {PackageType: Image, ImageUri: "123456789012.dkr.ecr.us-east-1.amazonaws.com/s:1"}
  Carver:
    Type: AWS::Serverless::Function
    Properties: {PackageType: Image}
    Metadata: {Dockerfile: Dockerfile, DockerContext: ./workshop, DockerTag: v1}
  Stored:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: a.b
      Role: arn:aws:iam::123456789012:role/any
      Code: {S3Bucket: gallery, S3Key: a.zip}
  Native:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: bakery/, Runtime: provided.al2023, Handler: any}
  Baker:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: bakery/
      Runtime: python3.13
      Handler: oven.bake
      Events: {Loaf: {Type: HttpApi, Properties: {Path: /loaf, Method: get}}}
  Sacks:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 0
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Spoiled.Arn, maxReceiveCount: 2}
  Spoiled: {Type: AWS::SQS::Queue}
"""


@pytest.mark.slow
def test_another_runtime_and_an_image_fail_alone(tmp_path: Path) -> None:
    path = write(tmp_path, {"template.yaml": FOREIGN, "bakery/oven.py": OVEN})
    why = {
        "Painter": "runtime 'nodejs22.x' is neither Python nor OS-only",
        "Sculptor": "it is a container image, which is not run",
        "Carver": "it is a container image, which is not run",
        "Stored": "its code is not a path on this machine",
    }

    async def script(emulator: Emulator) -> None:
        said = {
            f"{path}:{line_of(FOREIGN, name)}: {name} cannot run here, its invocations fail: {each}"
            for name, each in why.items()
        }
        (native,) = set(emulator.notes) - said
        assert len(emulator.notes) == len(said) + 1
        assert native == (
            f"{path}:{line_of(FOREIGN, 'Native')}: "
            f"Native: there is no {tmp_path}/bakery/bootstrap: "
            "Runtime.InvalidEntrypoint: Couldn't find valid bootstrap(s): "
            "[/var/task/bootstrap /opt/bootstrap]; its invocations fail until that is corrected"
        )
        why["Native"] = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
        for name, reason in why.items():
            status, failed, payload = await asyncio.to_thread(direct, emulator, name)
            assert (status, failed) == (200, "Unhandled")
            assert payload["errorType"] == "Runtime.InvalidEntrypoint"
            identifier, _, message = payload["errorMessage"].partition(" Error: ")
            assert len(identifier) == len("RequestId: ") + 36
            assert message == reason
        http = emulator.addresses.apis["serverlesshttpapi"]
        async with httpx.AsyncClient(base_url=http, timeout=20) as client:
            assert (await client.get("/loaf")).text == "loaf"
            assert (await client.get("/wall")).status_code == 500
        await dead_lettered(emulator, "local-Sacks", "local-Spoiled")

    run(path, script)


INLINE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {CodeUri: gone/, Runtime: python3.13, Handler: index.handler, Timeout: 10}}
Resources:
  Bell:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: |
        import os
        def handler(event, context):
            return {"statusCode": 200, "body": "ding " + os.path.basename(__file__)}
      Events:
        Ring: {Type: HttpApi, Properties: {Path: /ring, Method: get}}
  Gong:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: index.handler
      Role: arn:aws:iam::123456789012:role/any
      Code:
        ZipFile: !Sub |
          def handler(event, context):
              for record in event["Records"]:
                  print("gong in ${AWS::Region}", record["body"])
  Ropes: {Type: AWS::SQS::Queue}
  Pull:
    Type: AWS::Lambda::EventSourceMapping
    Properties: {EventSourceArn: !GetAtt Ropes.Arn, FunctionName: !Ref Gong}
"""


def test_inline_code_runs_from_a_folder_that_is_removed_in_the_end(tmp_path: Path) -> None:
    path = write(tmp_path, {"template.yaml": INLINE})
    folders: list[Path] = []

    async def script(emulator: Emulator) -> None:
        assert emulator.notes == []
        http = emulator.addresses.apis["serverlesshttpapi"]
        async with httpx.AsyncClient(base_url=http, timeout=20) as client:
            assert (await client.get("/ring")).text == "ding index.py"
            folders.extend(spec.code_dir for spec in emulator.stack.functions)
            assert all(folder.is_dir() for folder in folders)
            emulator.queues.send("local-Ropes", NewMessage(body="thrice"))
            async with asyncio.timeout(20):
                while not any(event.kind == "message.deleted" for event in emulator.journal):
                    await asyncio.sleep(0.02)
            lines = [str(e.data.get("line")) for e in emulator.journal if e.kind == "log"]
            assert any("gong in us-east-1 thrice" in line for line in lines)
            path.write_text(INLINE.replace("ding ", "dong "))
            async with asyncio.timeout(20):
                while (await client.get("/ring")).text != "dong index.py":
                    await asyncio.sleep(0.05)

    run(path, script, reload=True)
    assert len(folders) == 2
    assert not any(folder.parent.exists() for folder in folders)


ZIPPED = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Baker:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: out/bakery.zip
      Runtime: python3.13
      Handler: shop.oven.bake
      Events: {Loaf: {Type: HttpApi, Properties: {Path: /loaf, Method: get}}}
"""


def pack(file: Path, members: dict[str, str]) -> None:
    file.parent.mkdir(exist_ok=True)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(info, text, zipfile.ZIP_DEFLATED)
    file.write_bytes(content.getvalue())


@pytest.mark.slow
def test_a_zip_file_runs_and_is_taken_up_when_it_changes(tmp_path: Path) -> None:
    """It is missing at the start: then the function fails alone, until it is there."""
    path = write(tmp_path, {"template.yaml": ZIPPED})
    file = tmp_path / "out" / "bakery.zip"

    async def script(emulator: Emulator) -> None:
        (note,) = emulator.notes
        assert f"{path}:{line_of(ZIPPED, 'Baker')}: Baker: there is no {file}" in note
        http = emulator.addresses.apis["serverlesshttpapi"]
        async with httpx.AsyncClient(base_url=http, timeout=20) as client:
            assert (await client.get("/loaf")).status_code == 500
            for text in ("rye", "corn", "spelt"):
                pack(file, {"shop/oven.py": OVEN.replace("'loaf'", f"'{text}'"), "bin/tool": "#!"})
                async with asyncio.timeout(20):
                    while (answer := await client.get("/loaf")).text != text:
                        await asyncio.sleep(0.05)
                assert answer.status_code == 200
            (spec,) = emulator.stack.functions
            assert len(list(spec.code_dir.parent.glob("Baker-*"))) == 2  # and the one before
            assert os.access(spec.code_dir / "bin" / "tool", os.X_OK)
            file.write_bytes(b"no archive")
            async with asyncio.timeout(20):
                while not any("cannot be unzipped" in str(e.data) for e in emulator.journal):
                    await asyncio.sleep(0.05)
            assert (await client.get("/loaf")).text == "spelt"  # the former stays

    run(path, script, reload=True)


def bomb(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.txt", bytes(100_000_000))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda file: pack(file, {"../oven.py": OVEN}), r"'\.\./oven\.py', which leads out"),
        (lambda file: pack(file, {"/tmp/oven.py": OVEN}), r"'/tmp/oven\.py', which leads out"),
        (bomb, r"has 300000000 bytes unzipped; Lambda takes no more than 262144000"),
        (lambda file: file.write_bytes(b"PK"), "cannot be unzipped: File is not a zip file"),
    ],
    ids=["up", "absolute", "bomb", "no zip"],
)
def test_an_archive_that_aws_refuses_is_refused(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    path = write(tmp_path, {"template.yaml": ZIPPED, "out/any": ""})
    file = tmp_path / "out" / "bakery.zip"
    make(file)

    async def script(emulator: Emulator) -> None:
        raise AssertionError("it must not start")

    line = line_of(ZIPPED, "Baker")
    with pytest.raises(TemplateError, match=rf"template\.yaml:{line}: Baker's code {file} .*{why}"):
        run(path, script)
    assert not (tmp_path / "oven.py").exists()
