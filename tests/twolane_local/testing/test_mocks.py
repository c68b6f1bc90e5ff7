"""moto's mocks answer as without what is kept between two tests."""

from __future__ import annotations

from typing import Any

import boto3
import moto
import requests
from moto.core import responses
from moto.core.base_backend import BaseBackend
from moto.core.models import responses_mock
from moto.core.utils import method_names_from_class

from twolane_local.testing.mocked_aws import moto_mocks


def backend_of(service: Any) -> Any:
    return service["123456789012"]["us-east-1"]


def test_each_service_keeps_its_own_patterns_and_names() -> None:
    from moto.ses.models import ses_backends
    from moto.ses.responses import EmailResponse
    from moto.sesv2.models import sesv2_backends
    from moto.sesv2.responses import SESV2Response

    services = backend_of(ses_backends), backend_of(sesv2_backends)
    expected = [backend.urls for backend in services]
    assert expected[0] != expected[1]
    looked_up: Any = responses
    with moto_mocks():
        for _ in range(2):
            assert [backend.urls for backend in services] == expected
            for kind in (EmailResponse, SESV2Response):
                assert looked_up.method_names_from_class(kind) == method_names_from_class(kind)


def test_what_one_test_left_is_not_there_in_the_next() -> None:
    for _ in range(2):
        with moto_mocks():
            mail = boto3.client("sesv2", region_name="us-east-1")
            assert mail.list_email_identities()["EmailIdentities"] == []
            mail.create_email_identity(EmailIdentity="ann@example.com")


def test_moto_is_itself_again_afterwards() -> None:
    stock = BaseBackend.urls
    with moto_mocks():
        assert BaseBackend.urls is not stock
    assert BaseBackend.urls is stock
    with moto.mock_aws():
        assert boto3.client("sesv2", region_name="us-east-1").list_email_identities()


def registered() -> list[list[str]]:
    """What moto answers through ``requests``: its patterns by method, in their order."""
    known: Any = responses_mock._registry
    return [
        [getattr(each.url, "pattern", each.url) for each in answers]
        for _, answers in sorted(known._registered.items())
    ]


def test_requests_are_answered_by_the_same_patterns_in_the_same_order() -> None:
    with moto.mock_aws():
        stock = registered()
    for _ in range(2):
        with moto_mocks():
            assert registered() == stock
            s3 = boto3.client("s3", region_name="us-east-1")
            s3.create_bucket(Bucket="files")
            s3.put_object(Bucket="files", Key="key", Body=b"text")
            wanted = {"Bucket": "files", "Key": "key"}
            assert requests.get(s3.generate_presigned_url("get_object", wanted)).text == "text"


def test_within_the_user_s_own_mocks_nothing_is_added() -> None:
    """Say in a fixture for the whole session."""
    with moto.mock_aws():
        before = registered()
        for _ in range(2):
            with moto_mocks():
                assert registered() == before
        assert registered() == before
