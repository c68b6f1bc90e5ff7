from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from moto.ses.models import ses_backends

from app import mail

if TYPE_CHECKING:
    from collections.abc import Iterator

SENDER = "notifications@example.com"


@pytest.fixture
def ses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("MAILER", "ses")
    mail._client.cache_clear()
    with mock_aws():
        yield
    mail._client.cache_clear()


def test_ses_gets_the_message(ses: None) -> None:
    boto3.client("sesv2", region_name="us-east-1").create_email_identity(EmailIdentity=SENDER)
    mail.deliver("user@example.com", "Hello")
    (sent,) = ses_backends["123456789012"]["us-east-1"].sent_messages
    assert sent.source == SENDER
    assert sent.destinations["ToAddresses"] == ["user@example.com"]
    assert sent.subject == mail.SUBJECT
    assert sent.body == "Hello"


def test_a_message_that_ses_rejects_is_refused_for_good(ses: None) -> None:
    with pytest.raises(mail.MessageRefusedError, match="not verified"):
        mail.deliver("user@example.com", "Hello")


def test_a_provider_that_does_not_answer_is_unavailable(
    ses: None, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    mail._client.cache_clear()
    with pytest.raises(mail.ProviderUnavailableError, match="endpoint"):
        mail.deliver("user@example.com", "Hello")


def test_without_a_provider_nothing_is_sent() -> None:
    mail.deliver("user@example.com", "Hello")


@pytest.mark.parametrize("attempt", range(4))
def test_down_never_answers(attempt: int) -> None:
    with pytest.raises(mail.ProviderUnavailableError, match=f"attempt {attempt + 1}"):
        mail.deliver("down@simulator.example.com", "Hello", attempt=attempt)


def test_flaky_answers_at_the_second_attempt() -> None:
    with pytest.raises(mail.ProviderUnavailableError):
        mail.deliver("flaky@simulator.example.com", "Hello")
    mail.deliver("flaky@simulator.example.com", "Hello", attempt=1)


def test_bounce_is_refused() -> None:
    with pytest.raises(mail.MessageRefusedError):
        mail.deliver("bounce@simulator.example.com", "Hello")


@pytest.mark.parametrize(("rate", "failures"), [("0", 0), ("0.25", 250), ("1", 1000)])
def test_failures_come_at_the_rate_that_is_set(
    monkeypatch: pytest.MonkeyPatch, rate: str, failures: int
) -> None:
    monkeypatch.setenv("NOTIFY_FAILURE_RATE", rate)
    assert len(failed(1000)) == pytest.approx(failures, abs=40)


def test_failures_come_at_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_FAILURE_RATE", "0.5")
    assert failed(50) == failed(50) != []


def failed(count: int) -> list[int]:
    numbers = []
    for number in range(count):
        try:
            mail.deliver(f"user{number}@example.com", "Hello")
        except mail.ProviderUnavailableError:
            numbers.append(number)
    return numbers
