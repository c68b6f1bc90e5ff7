"""moto's mocks answer as without what is kept between two tests."""

from __future__ import annotations

from typing import Any

import boto3
import moto
from moto.core import responses
from moto.core.base_backend import BaseBackend
from moto.core.utils import method_names_from_class

from twolane_local.testing import mocks


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
    with mocks.moto():
        for _ in range(2):
            assert [backend.urls for backend in services] == expected
            for kind in (EmailResponse, SESV2Response):
                assert looked_up.method_names_from_class(kind) == method_names_from_class(kind)


def test_what_one_test_left_is_not_there_in_the_next() -> None:
    for _ in range(2):
        with mocks.moto():
            mail = boto3.client("sesv2", region_name="us-east-1")
            assert mail.list_email_identities()["EmailIdentities"] == []
            mail.create_email_identity(EmailIdentity="ann@example.com")


def test_moto_is_itself_again_afterwards() -> None:
    stock = BaseBackend.urls
    with mocks.moto():
        assert BaseBackend.urls is not stock
    assert BaseBackend.urls is stock
    with moto.mock_aws():
        assert boto3.client("sesv2", region_name="us-east-1").list_email_identities()
