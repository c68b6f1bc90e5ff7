"""``twolane artifact`` on folders as `sam build` leaves them."""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from twolane_local.cli import main

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Runtime: {Type: String, Default: python%s}
Globals:
  Function: {Runtime: !Ref Runtime}
Resources:
  Api: {Type: AWS::Serverless::Function, Properties: {CodeUri: Api, Handler: app.handler}}
  Script:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: Script, Handler: index.handler, Runtime: nodejs22.x}
  Shared: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: Shared}}
  Inner: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: Inner/template.yaml}}
  Queue: {Type: AWS::SQS::Queue}
"""
INNER = """
Resources:
  Back:
    Type: AWS::Lambda::Function
    Properties: {Code: Back, Handler: app.handler, Runtime: python%s}
"""
#: The packages that are left out, and what names them; `tests` in each.
FILES = {
    "app.py": "import celery, email_validator_like\n",
    "celery/__init__.py": "",
    "celery/bin/shell.py": "from click_repl import register_repl\n",
    "celery/contrib/django/task.py": "",
    "celery/contrib/rdb.py": "",
    "click_repl/__init__.py": "import prompt_toolkit\n",
    "click_repl-0.3.dist-info/RECORD": "click_repl/__init__.py,sha256=x,1\n",
    "prompt_toolkit/__init__.py": "from wcwidth import wcwidth\n",
    "prompt_toolkit-3.0.dist-info/RECORD": "prompt_toolkit/__init__.py,sha256=x,1\n",
    "wcwidth/__init__.py": "",
    "wcwidth-0.2.dist-info/RECORD": "wcwidth/__init__.py,sha256=x,1\n",
    "dns/__init__.py": "",
    "dnspython-2.7.dist-info/RECORD": "dns/__init__.py,sha256=x,1\n",
    "email_validator/__init__.py": "def f():\n    import dns.resolver\n",
    "email_validator-2.dist-info/RECORD": "email_validator/__init__.py,sha256=x,1\n",
    "pydantic/networks.py": "import email_validator\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    write(tmp_path, {"template.yaml": TEMPLATE % PYTHON, "Inner/template.yaml": INNER % PYTHON})
    write(tmp_path / "Api", FILES)
    write(tmp_path / "Script", {"index.js": "", "tool.py": ""})
    write(tmp_path / "Shared", {"python/shared.py": "", "python/wcwidth/__init__.py": ""})
    write(tmp_path / "Inner" / "Back", {"app.py": ""})
    return tmp_path


def compiled(source: Path) -> Path:
    return Path(cache_from_source(str(source)))


def code_file(source: Path) -> str:
    data = compiled(source).read_bytes()
    assert data[4:8] == b"\x01\x00\x00\x00"  # PEP 552: by hash, never checked
    return str(marshal.loads(data[16:]).co_filename)


def test_each_python_function_and_layer_is_compiled_for_its_place(build: Path) -> None:
    assert main(["artifact", str(build)]) == 0
    assert code_file(build / "Api" / "app.py") == "/var/task/app.py"
    assert code_file(build / "Shared" / "python" / "shared.py") == "/opt/python/shared.py"
    assert code_file(build / "Inner" / "Back" / "app.py") == "/var/task/app.py"
    assert not compiled(build / "Script" / "tool.py").exists()
    assert not compiled(build / "Api" / "celery" / "bin" / "shell.py").exists()
    assert not compiled(build / "Api" / "celery" / "contrib" / "rdb.py").exists()
    assert compiled(build / "Api" / "celery" / "contrib" / "django" / "task.py").exists()


def test_what_no_function_imports_is_left_out_with_its_metadata(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["artifact", "--json", str(build)]) == 0
    found = {
        Path(one["folder"]).name: one for one in json.loads(capsys.readouterr().out)["functions"]
    }
    assert set(found) == {"Api", "Shared", "Back"}
    assert list(found["Api"]["left_out"]) == ["click_repl", "prompt_toolkit", "wcwidth", "dns"]
    assert list(found["Shared"]["left_out"]) == ["wcwidth"]
    assert found["Api"]["python"] == PYTHON
    left = {path.name for path in (build / "Api").iterdir()}
    assert left == {
        "app.py", "celery", "email_validator", "email_validator-2.dist-info", "pydantic",
        "__pycache__",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("import prompt_toolkit", ["prompt_toolkit", "wcwidth"]),
        ("import os, wcwidth", ["wcwidth"]),
        ("def f():\n    from click_repl import repl", ["click_repl", "prompt_toolkit", "wcwidth"]),
        ('import importlib\nimportlib.import_module("dns.resolver")', ["dns"]),
        # It asks the DNS unless it is told not to.
        ("from email_validator import validate_email", ["dns"]),
        ("import wcwidth_like  # wcwidth", []),
    ],
)
def test_what_the_application_imports_is_kept(build: Path, text: str, kept: list[str]) -> None:
    (build / "Api" / "app.py").write_text(f"{text}\n")
    assert main(["artifact", str(build)]) == 0
    names = ["click_repl", "prompt_toolkit", "wcwidth", "dns"]
    assert [name for name in names if (build / "Api" / name).exists()] == kept


def test_what_a_function_imports_stays_in_its_layer(build: Path) -> None:
    (build / "Inner" / "Back" / "app.py").write_text("import wcwidth\n")
    assert main(["artifact", str(build)]) == 0
    assert (build / "Shared" / "python" / "wcwidth").is_dir()
    assert not (build / "Api" / "prompt_toolkit").exists()


def test_what_is_to_be_kept_is_kept(build: Path) -> None:
    assert main(["artifact", "--keep", "dns", str(build)]) == 0
    assert (build / "Api" / "dns").is_dir()
    assert (build / "Api" / "dnspython-2.7.dist-info").is_dir()
    assert not (build / "Api" / "prompt_toolkit").exists()


def test_a_second_run_changes_nothing(build: Path) -> None:
    def tree() -> dict[str, bytes]:
        files = (path for path in build.rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files}

    assert main(["artifact", str(build)]) == 0
    first = tree()
    assert main(["artifact", str(build)]) == 0
    assert tree() == first


def test_one_function_s_folder_needs_no_template(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "package", {"app.py": "", f"core.cpython-{PYTHON.replace('.', '')}-x.so": ""})
    assert main(["artifact", str(tmp_path / "package")]) == 0
    assert code_file(tmp_path / "package" / "app.py") == "/var/task/app.py"
    assert capsys.readouterr().out.startswith(f"package: Python {PYTHON}, 0.0 MB unzipped, 1 modul")


def test_a_file_that_python_cannot_compile_is_named(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(build / "Api", {"templates/old.py": "print 1\n"})
    assert main(["artifact", str(build)]) == 0
    assert "! Python cannot compile 1 of its files: templates/old.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "arguments", "said"),
    [
        ({}, ["nowhere"], "nowhere is not there: run `sam build` first"),
        ({"f/readme": ""}, ["f"], "f holds no Python code that was built"),
        ({"f/a.py": ""}, ["f"], "nothing in f says for which Python it is: give --python"),
        ({"f/a.py": "", "f/x.cpython-39-x.so": ""}, ["f"], "there is no python3.9 on the PATH"),
        ({"f/a.py": "", "f/x.cpython-39-x.so": ""}, ["f", "--python", sys.executable],
         f"f holds x.cpython-39-x.so, and {sys.executable} is Python {PYTHON}"),
        ({"f/a.py": ""}, ["f", "--python", "no-such-python"], "no-such-python does not run"),
    ],
)  # fmt: skip
def test_an_error_says_what_to_do(
    tmp_path: Path, files: dict[str, str], arguments: list[str], said: str
) -> None:
    write(tmp_path, files)
    done = subprocess.run(
        [sys.executable, "-m", "twolane_local.cli", "artifact", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.pyc"))


def test_another_python_compiles_for_itself(build: Path) -> None:
    """By its own interpreter, whose compiled modules have its own tag."""
    asked = "import sys; print(sys.implementation.cache_tag)"
    tag = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert main(["artifact", "--python", sys.executable, str(build)]) == 0
    assert (build / "Api" / "__pycache__" / f"app.{tag}.pyc").is_file()
