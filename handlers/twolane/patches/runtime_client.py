"""The moment at which a response has left: ``awslambdaric`` has posted it to the Runtime API.

The handler's own ``return`` is too early: the runtime still has to serialise and post what was
returned, for which a response of some megabytes takes tens of milliseconds, and work that starts
meanwhile competes with it for the one vCPU. ``post_invocation_result`` and
``post_invocation_error`` of the runtime client return when the Runtime API has taken the whole
body, so that is where we listen.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-response
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULE = "awslambdaric.lambda_runtime_client"
#: The base class since 3.1; older runtimes have the second one only.
_CLASSES = ("BaseLambdaRuntimeClient", "LambdaRuntimeClient")
_METHODS = ("post_invocation_result", "post_invocation_error")


def listen(posted: Callable[[str], None]) -> bool:
    """Call ``posted(request id)`` each time after the runtime has posted a response or an error.

    ``False``, and nothing touched, where there is no such runtime client in this process: the
    caller then has to finish its work before it returns.
    """
    # Looked up, never imported: without the runtime in the process there is nothing to hear.
    module = sys.modules.get(_MODULE)
    client = next((c for name in _CLASSES if (c := getattr(module, name, None))), None)
    if client is None or not all(callable(getattr(client, name, None)) for name in _METHODS):
        return False
    for name in _METHODS:
        setattr(client, name, _telling(getattr(client, name), posted))
    return True


def _telling(post: Callable[..., Any], posted: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(post)
    def post_then_tell(self: Any, invoke_id: str, *args: Any, **kwargs: Any) -> Any:
        # Also when posting fails: an extension that never heard of the end would hold the
        # environment until the function's timeout.
        try:
            return post(self, invoke_id, *args, **kwargs)
        finally:
            posted(invoke_id)

    return post_then_tell
