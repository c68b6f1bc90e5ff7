from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from twolane_local.cli.flags import template_flags, template_parameters
from twolane_local.errors import TemplateError
from twolane_local.template import parameters

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", ('[{"ParameterKey": "A", "ParameterValue": "1"},'
                   ' {"ParameterKey": "B", "ParameterValue": "x,y"},'
                   ' {"ParameterKey": "C", "UsePreviousValue": true}]')),
        ("p.json", '["A=1", "B=x,y"]'),
        ("p.json", '{"Parameters": {"A": "1", "B": "x,y"}, "Tags": {"t": "u"}}'),
        ("p.json", '{"A": 1, "B": ["x", "y"]}'),
        ("p.yaml", "A: 1\nB: [x, y]\n"),
        ("p.yaml", "- ParameterKey: A\n  ParameterValue: 1\n- B=x,y\n"),
        (".env", "# values\nexport A=1\n\nB='x,y' # both\n"),
        ("local.env", 'A=1\nB="x,y"'),
    ],
)  # fmt: skip
def test_the_forms_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert parameters.read_parameter_file(file) == {"A": "1", "B": "x,y"}


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("p.json", "[1]", r"p\.json: 1 is neither"),
        ("p.yaml", "text", r"p\.yaml holds no parameters"),
        ("p.yaml", "A: {b: c}", r"p\.yaml: A must be text"),
        ("p.yaml", "A: [", r"p\.yaml:1 is not valid YAML"),
        (".env", "A=1\nB", r"\.env:2 is not NAME=VALUE"),
        (".env", "A='1", r"\.env:1 is not NAME=VALUE"),
    ],
)
def test_what_is_no_parameter_file_is_named(
    tmp_path: Path, name: str, text: str, error: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(TemplateError, match=error):
        parameters.read_parameter_file(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="cannot be read"):
        parameters.read_parameter_file(tmp_path / "p.json")


def test_which_value_wins(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    names = "".join(f"  {name}: {{Type: String}}\n" for name in "ABCD")
    template.write_text(
        f"Parameters:\n{names}  E: {{Type: String, Default: e}}\n"
        "Resources: {Q: {Type: 'AWS::SQS::Queue'}}\n"
    )
    (tmp_path / ".env").write_text("".join(f"{name}=env\n" for name in "ABCDEF"))
    (tmp_path / "samconfig.toml").write_text(
        '[default.deploy.parameters]\nparameter_overrides = "A=sam B=sam C=sam F=sam"\n'
    )
    (tmp_path / "p.yaml").write_text("{A: file, B: file, F: file}")
    parser = argparse.ArgumentParser(parents=[template_flags()])
    options = parser.parse_args(
        ["--template", str(template), "--parameter", "A=line",
         "--parameter-file", str(tmp_path / "p.yaml")]
    )  # fmt: skip
    # E has a default, so `.env` is not used; F is not a parameter of this template.
    assert template_parameters(options) == {"A": "line", "B": "file", "C": "sam", "D": "env"}


def test_a_variable_in_env_is_for_the_parameter_that_is_called_alike(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    declared = {"DatabaseUrl": {}, "Token": {}, "HTTPPort": {}, "Other": {"Default": "1"}}
    (tmp_path / ".env").write_text(
        "DATABASE_URL=postgresql://db\nTOKEN=one\nToken=two\nHTTP_PORT=80\nOTHER=2\n"
    )
    assert parameters.from_env_file(template, declared) == {
        "DatabaseUrl": "postgresql://db", "Token": "two", "HTTPPort": "80",
    }  # fmt: skip


def test_samconfig_names_a_file(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(
        '[default.deploy.parameters]\nparameter_overrides = "file://p.json"\n'
    )
    (tmp_path / "p.json").write_text('{"A": 1}')
    assert parameters.read_samconfig(tmp_path / "template.yaml").parameters == {"A": "1"}
