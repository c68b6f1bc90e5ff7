from __future__ import annotations

import pytest

from twolane_local.aws.moto.objects import is_s3, target

SIGNED = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/s3/aws4_request, Signature=0"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HTTP_AUTHORIZATION": SIGNED}, True),
        (
            {"QUERY_STRING": "X-Amz-Credential=local%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"},
            True,
        ),
        ({"HTTP_AUTHORIZATION": SIGNED.replace("/s3/", "/sns/")}, False),
        ({}, False),
    ],
)
def test_whose_call_it_is(environ: dict[str, str], expected: bool) -> None:
    assert is_s3(environ) is expected


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("127.0.0.1:4566", "/mine/a/b", ("mine", "a/b")),
        ("127.0.0.1:4566", "/mine", ("mine", "")),
        ("mine.localhost:4566", "/a/b", ("mine", "a/b")),
        ("mine.s3.amazonaws.com", "/", ("mine", "")),
        ("other.localhost:4566", "/mine/\xc3\xa9", ("mine", "é")),
    ],
)
def test_bucket_and_key(host: str, path: str, expected: tuple[str, str]) -> None:
    assert target({"HTTP_HOST": host, "PATH_INFO": path}, ["mine"]) == expected
