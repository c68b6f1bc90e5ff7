from __future__ import annotations

import subprocess
import sys

from twolane_local.cli.env import exports


def test_a_shell_takes_what_it_prints() -> None:
    script = (
        f'eval "$({sys.executable} -m twolane_local.cli env --aws-port 4577)"; '
        'printf %s "$AWS_ENDPOINT_URL $AWS_REGION $AWS_ACCESS_KEY_ID"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "http://127.0.0.1:4577 us-east-1 local"


def test_nothing_of_it_is_a_real_credential() -> None:
    values = exports(4566)
    assert values["AWS_ACCESS_KEY_ID"] == values["AWS_SECRET_ACCESS_KEY"] == "local"
    assert values["AWS_DEFAULT_REGION"] == values["AWS_REGION"]
