"""Models of request bodies, with the jsonschema that an application has pinned."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Before 4.18 there is no ``referencing``; what takes its place then is still in later versions.
OLDER = "import sys, jsonschema.validators; sys.modules['referencing.exceptions'] = None; "
READ = (
    "import json; from twolane_local.aws.http_api.answers import _problem; "
    "schema, body = json.loads(sys.argv[1]), sys.argv[2].encode(); "
    "print(json.dumps(_problem(schema, body)))"
)


def problem(schema: object, body: str, *, before: str) -> str | None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", before + READ, json.dumps(schema), body],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: str | None = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("before", ["import sys; ", OLDER], ids=["installed", "older"])
def test_a_body_is_checked_and_nothing_is_fetched(before: str) -> None:
    pet = {"definitions": {"Pet": {"required": ["name"]}}, "$ref": "#/definitions/Pet"}
    assert problem(pet, '{"name": "Ada"}', before=before) is None
    assert problem(pet, "{}", before=before) == "'name' is a required property"
    for nowhere in ("#/definitions/Cat", "https://example.invalid/cat"):
        found = problem({**pet, "$ref": nowhere}, "{}", before=before)
        assert str(found).startswith("the model cannot be read: "), found
        assert "cat" in str(found).lower()
