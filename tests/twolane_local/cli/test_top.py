from __future__ import annotations

import argparse
import re
import shlex
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from twolane_local.cli.flags import emulator_options
from twolane_local.cli.parser import COMMANDS, GROUPS, command_module, parser

if TYPE_CHECKING:
    from pathlib import Path


def subparsers(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def test_the_help_fits_a_screen_and_names_every_command() -> None:
    lines = parser().format_help().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    shown = [line[len("check  ") :].split()[0] for line in lines[2:-1]]
    assert shown == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_it_takes(name: str) -> None:
    examples = command_module(name).EXAMPLES
    assert examples
    for line in examples:
        found = re.search(r"twolane [^>|)]*", line)
        assert found is not None, line
        words = shlex.split(found[0].rstrip('" '))
        options = parser().parse_args(words[1:])
        assert options.command == name, line
    help_text = subparsers(parser())[name].format_help()
    assert all(f"  {line}" in help_text for line in examples)


def test_every_action_of_a_command_says_what_it_does() -> None:
    for name, command in subparsers(parser()).items():
        assert command.description == COMMANDS[name]
        for action, below in subparsers(command).items():
            assert below.description, f"{name} {action}"


def test_every_flag_says_what_it_is_for() -> None:
    for name, command in subparsers(parser()).items():
        for each in (command, *subparsers(command).values()):
            for action in each._actions:
                assert action.help or isinstance(action, argparse._SubParsersAction), (
                    f"{name}: {action.option_strings or action.dest}"
                )


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in {"env", "completion", "dlq"}])
def test_one_command_alone_takes_the_same(name: str) -> None:
    whole = subparsers(parser())[name].format_help()
    assert subparsers(parser(only=name))[name].format_help() == whole


def test_what_names_no_command_gets_the_whole_parser() -> None:
    assert subparsers(parser(only="--help"))["up"].description == COMMANDS["up"]


def test_flags_are_only_where_they_mean_something() -> None:
    for name in ("queues", "env", "template"):
        with pytest.raises(SystemExit):
            parser().parse_args([name, "--in-process"])
    assert parser().parse_args(["up", "--in-process"]).in_process


def test_a_parameter_is_a_pair(capsys: pytest.CaptureFixture[str]) -> None:
    options = parser().parse_args(["template", "--parameter", "A=b=c", "--parameter", "D="])
    assert options.parameter == [("A", "b=c"), ("D", "")]
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["template", "--parameter", "A"])
    assert ended.value.code == 2
    assert "'A' is not NAME=VALUE" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"twolane {version('twolane')}\n"


def test_groups_share_no_command() -> None:
    assert len(COMMANDS) == sum(map(len, GROUPS.values()))


def test_an_import_reaches_the_emulator(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("Resources: {}")
    command = ["invoke", "F", "--template", str(path), "--import", "net:Id=vpc-1"]
    assert emulator_options(parser().parse_args(command)).imports == {"net:Id": "vpc-1"}
