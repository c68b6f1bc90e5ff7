"""moto's mocks, without what moto works out anew for each test or call and is always the same."""

from __future__ import annotations

import functools
import os
import uuid
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def moto() -> Iterator[None]:
    """``mock_aws``, without making its thousand patterns for each test anew."""
    from moto import mock_aws
    from moto.core import base_backend, models, responses
    from moto.core.base_backend import AccountSpecificBackend, BaseBackend

    mocks = mock_aws()
    with mock.patch.object(models, "backend_index", _NoPatterns()) as index:
        mocks.start()
    with (
        mock.patch.object(AccountSpecificBackend, "_generate_regions", _regions()),
        mock.patch.object(BaseBackend, "urls", _urls()),
        mock.patch.object(responses, "method_names_from_class", _method_names()),
        # moto knows its services apart, and which of them it has cleared, by these; a seed would
        # give one of this test the id of one of another.
        mock.patch.object(base_backend, "uuid4", _true_uuid4),
    ):
        try:
            if index.asked:
                _register()
            yield
        finally:
            mocks.stop()


@cache
def _regions() -> Callable[[Any, str], list[str]]:
    """A service's regions."""
    from moto.core.base_backend import AccountSpecificBackend

    stock: Any = AccountSpecificBackend._generate_regions  # noqa: SLF001 - beneath its own cache
    found: Callable[[str], list[str]] = cache(functools.partial(stock.__wrapped__, None))
    return lambda _, service: found(service)


@cache
def _urls() -> Any:
    """A service's patterns, each with what answers; they are its module's."""
    from moto.core.base_backend import BaseBackend

    stock: Any = BaseBackend.urls
    found: dict[type[BaseBackend], Any] = {}

    def urls(backend: BaseBackend) -> Any:
        of = type(backend)
        if of not in found:
            found[of] = stock.fget(backend)
        return found[of]

    return property(urls)


@cache
def _method_names() -> Any:
    """The names of a class's functions."""
    from moto.core import utils

    names: Any = cache(utils.method_names_from_class)
    return names


def _true_uuid4() -> uuid.UUID:
    return uuid.UUID(bytes=os.urandom(16), version=4)


class _NoPatterns:
    """In place of moto's index. Mocks within others, and those of a server, do not ask for it."""

    asked = False

    @property
    def backend_url_patterns(self) -> tuple[()]:
        self.asked = True
        return ()


def _register() -> None:
    from moto.core import models

    registry: Any = models.responses_mock._registry  # noqa: SLF001 - moto's own
    for method, answers in _answers().items():
        registry._registered[method][:0] = answers  # noqa: SLF001 - where its ``add`` puts them


@cache
def _answers() -> dict[str, list[Any]]:
    """What moto answers through ``requests`` and the like, for each HTTP method."""
    from moto import backend_index
    from moto.core.custom_responses_mock import CallbackResponse
    from moto.core.models import RESPONSES_METHODS, botocore_stubber

    answer = botocore_stubber.process_prepared_request
    return {
        method: [
            CallbackResponse(method=method, url=pattern, callback=answer)
            for _, pattern in backend_index.backend_url_patterns
        ]
        for method in RESPONSES_METHODS
    }
