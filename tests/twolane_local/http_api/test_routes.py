"""Route selection:
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
"""

from __future__ import annotations

import pytest

from twolane_local.aws.http_api.requests import Routes
from twolane_local.model import RouteSpec

ROUTES = Routes(
    RouteSpec(function=key, method=key.split()[0] if " " in key else "ANY", path=key.split()[-1])
    for key in (
        "$default",
        "ANY /{proxy+}",
        "GET /pets/{proxy+}",
        "GET /pets/dog/1",
        "GET /pets/dog/{id}",
        "ANY /pets/dog/{id}",
        "POST /users/{user}/posts/{post}",
    )
)


@pytest.mark.parametrize(
    ("method", "path", "key", "parameters"),
    [
        ("GET", "/pets/dog/1", "GET /pets/dog/1", {}),
        ("GET", "/pets/dog/2", "GET /pets/dog/{id}", {"id": "2"}),
        ("PUT", "/pets/dog/2", "ANY /pets/dog/{id}", {"id": "2"}),
        ("GET", "/pets/cat/3", "GET /pets/{proxy+}", {"proxy": "cat/3"}),
        ("POST", "/users/1/posts/2", "POST /users/{user}/posts/{post}", {"user": "1", "post": "2"}),
        ("GET", "/users/1/posts/2", "ANY /{proxy+}", {"proxy": "users/1/posts/2"}),
        ("GET", "/", "$default", {}),
    ],
)
def test_the_most_specific_route_wins(
    method: str, path: str, key: str, parameters: dict[str, str]
) -> None:
    found = ROUTES.find(method, path)
    assert found is not None
    route, values = found
    assert (route.key, values) == (key, parameters)


def test_no_route() -> None:
    assert Routes([RouteSpec("f", "GET", "/a")]).find("GET", "/b") is None
    assert Routes([RouteSpec("f", "GET", "/a")]).find("POST", "/a") is None


def test_a_dot_in_a_path_is_a_dot() -> None:
    assert Routes([RouteSpec("f", "GET", "/a.b")]).find("GET", "/axb") is None
