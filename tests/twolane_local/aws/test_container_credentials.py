"""https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html"""

from __future__ import annotations

import json

from twolane_local.aws.endpoint import PATH, ContainerCredentials


def test_the_token_opens_it() -> None:
    endpoint = ContainerCredentials()
    given = endpoint.variables("http://127.0.0.1:4566")
    assert given["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == f"http://127.0.0.1:4566{PATH}"
    token = given["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    answer = endpoint.answer({"authorization": token})
    found = json.loads(answer.body)
    assert answer.status == 200
    assert {found["AccessKeyId"], found["SecretAccessKey"], found["Token"]} == {"local"}


def test_nothing_else_does() -> None:
    endpoint, other = ContainerCredentials(), ContainerCredentials()
    token = other.variables("")["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    for headers in ({}, {"authorization": ""}, {"authorization": token}, {"authorization": "ä"}):
        answer = endpoint.answer(headers)
        assert answer.status == 403
        assert b"local" not in answer.body
