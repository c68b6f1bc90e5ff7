from __future__ import annotations

from pathlib import Path

from twolane_local.aws import guard
from twolane_local.model import FunctionSpec

SPEC = FunctionSpec(
    "fn", "Fn", "m.h", Path("/task"), layer_dirs=(Path("/layer"),),
    environment={"MINE": "1", "AWS_ACCESS_KEY_ID": "mine", "AWS_REGION": "eu-west-1"},
)  # fmt: skip
SHELL = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "AWS_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_SECRET_ACCESS_KEY": "real",
    "HTTPS_PROXY": "http://proxy",
    "PYTHONPATH": "/mine",
}


def environment(**more: bool) -> dict[str, str]:
    return guard.function_environment(
        SPEC, endpoint_url="http://127.0.0.1:4566", environ=SHELL, **more
    )


def test_nothing_of_the_shell_reaches_a_function_but_what_is_needed() -> None:
    values = environment()
    assert values["PATH"] == "/bin"
    assert not {"HOME", "AWS_PROFILE", "HTTPS_PROXY"} & values.keys()
    assert not {"AKIAREAL", "real"} & set(values.values())


def test_reserved_variables_cannot_be_overridden() -> None:
    """On Lambda it is an error to set one."""
    values = environment()
    assert values["MINE"] == "1"
    assert values["AWS_ACCESS_KEY_ID"] == "local"
    assert values["AWS_REGION"] == "us-east-1"
    assert values["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"


def test_credential_files_and_metadata_are_out_of_reach() -> None:
    values = environment()
    assert values["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"
    assert values["AWS_CONFIG_FILE"] == "/dev/null"
    assert values["AWS_EC2_METADATA_DISABLED"] == "true"


def test_a_restored_function_has_its_credentials_from_an_endpoint() -> None:
    given = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:4566/credentials"}
    values = guard.function_environment(
        SPEC, endpoint_url="http://127.0.0.1:4566", environ=SHELL, snapshot=given
    )
    assert given.items() <= values.items()
    assert values["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"
    assert not {name for name in values if "KEY" in name or "LOG_STREAM" in name}


def test_layers_come_after_the_function_code() -> None:
    assert (
        environment()["PYTHONPATH"]
        == "/task:/layer/python/lib/python3.13/site-packages:/layer/python"
    )


def test_real_aws_is_allowed_only_by_flag() -> None:
    assert "TWOLANE_ALLOW_REAL_AWS" not in environment()
    assert environment(allow_real_aws=True)["TWOLANE_ALLOW_REAL_AWS"] == "1"


def test_our_own_process_gets_dummies_too() -> None:
    own = dict(SHELL)
    guard.protect_own_process(own)
    assert own["AWS_ACCESS_KEY_ID"] == own["AWS_SECRET_ACCESS_KEY"] == "local"
    assert "AWS_PROFILE" not in own
    assert own["HOME"] == "/home/me"
