from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from twolane_local.aws import guard, real_aws

if TYPE_CHECKING:
    from ...conftest import RunPython  # noqa: TID252

HOSTS = ["sqs.us-east-1.amazonaws.com", "SQS.amazonaws.com.", "x.lambda-url.us-east-1.on.aws",
         "s3.cn-north-1.amazonaws.com.cn", "169.254.169.254", "fd00:ec2::254"]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_no_name_of_aws_resolves(host: str) -> None:
    with real_aws.refused():
        for call in (
            lambda: socket.getaddrinfo(host, 443),
            lambda: socket.getaddrinfo(host.encode(), 443),
            lambda: socket.gethostbyname(host),
            lambda: socket.create_connection((host, 443)),
        ):
            with pytest.raises(ConnectionRefusedError, match="refused a connection to real AWS"):
                call()


def test_nor_is_it_connected_or_sent_to() -> None:
    with real_aws.refused(), socket.socket(type=socket.SOCK_DGRAM) as probe:
        with pytest.raises(ConnectionRefusedError, match="169"):
            probe.connect(("169.254.169.254", 80))
        with pytest.raises(ConnectionRefusedError, match="169"):
            probe.sendto(b"x", ("169.254.169.254", 80))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "amazonaws.com.localhost"])
def test_other_names_are_left_alone(host: str) -> None:
    with real_aws.refused():
        assert socket.getaddrinfo(host.removeprefix("amazonaws.com."), 80)
        sys.audit("socket.getaddrinfo", host, 80, 0, 0, 0)


def test_blocks_overlap_and_end() -> None:
    def look() -> None:
        sys.audit("socket.getaddrinfo", HOSTS[0], 443, 0, 0, 0)

    with real_aws.refused():
        with real_aws.refused():
            pass
        with pytest.raises(ConnectionRefusedError):
            look()
    look()


def test_the_emulators_process_is_protected_unless_a_flag_says_otherwise(
    own_environ: None,
) -> None:
    with guard.protected(allow_real_aws=False), pytest.raises(ConnectionRefusedError):
        sys.audit("socket.getaddrinfo", HOSTS[0], 443, 0, 0, 0)
    with guard.protected(allow_real_aws=True):
        sys.audit("socket.getaddrinfo", HOSTS[0], 443, 0, 0, 0)


def test_a_process_that_refuses_cannot_take_it_back(run_python: RunPython) -> None:
    code = (
        "import socket, sys; from twolane_local.aws import real_aws; real_aws.refuse()\n"
        "try: socket.gethostbyname('sts.amazonaws.com')\n"
        "except ConnectionRefusedError as error: print(error)\n"
        "else: sys.exit(1)"
    )
    assert "sts.amazonaws.com" in run_python(code)


def test_every_partitions_domain_is_known() -> None:
    from twolane.publish.transport import DOMAINS

    for domain in DOMAINS:
        assert real_aws.is_aws_host(f"sqs.somewhere.{domain}"), domain


def test_it_imports_nothing_of_the_runtime(run_python: RunPython) -> None:
    # It runs in every function's process, before the function's own code.
    code = "import sys, twolane_local.aws.lambda_.child; assert 'twolane' not in sys.modules"
    run_python(code)
