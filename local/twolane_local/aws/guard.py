"""Environment variables that keep functions, and the emulator itself, away from real AWS.

The other half is ``real_aws``, which refuses AWS hosts by name.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twolane_local.aws.real_aws import refused
from twolane_local.model import LATEST, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    from twolane_local.model import FunctionSpec

#: Every SDK signs with them, and no reader takes them for real ones.
DUMMY_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_SESSION_TOKEN": "local",
}
#: Not set in an environment that is restored from a snapshot.
_NOT_RESTORED = ("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME")
#: The only variables that are taken over from the shell that starts the emulator.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


def function_environment(
    spec: FunctionSpec,
    *,
    endpoint_url: str,
    allow_real_aws: bool = False,
    environ: Mapping[str, str] | None = None,
    snapshot: Mapping[str, str] | None = None,
    log_stream: str = "",
) -> dict[str, str]:
    """The variables of one function, reserved ones as Lambda sets them.

    ``snapshot`` holds the variables of container credentials, for a function that is restored from
    a snapshot: it has neither keys nor a log stream.
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
    """
    shell = os.environ if environ is None else environ
    inherited = {name: shell[name] for name in _INHERITED if name in shell}
    task_root = str(spec.code_dir)
    for name, folder in (("PATH", "bin"), ("LD_LIBRARY_PATH", "lib")):
        found = [str(each / folder) for each in spec.layer_dirs if (each / folder).is_dir()]
        if found:
            shared = inherited.get(name)
            inherited[name] = os.pathsep.join([*reversed(found), *([shared] if shared else [])])
    values = {
        **inherited,
        "LANG": shell.get("LANG", "en_US.UTF-8"),
        "TZ": ":UTC",
        "PYTHONPATH": os.pathsep.join(map(str, spec.python_path)),
        **spec.environment,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        **DUMMY_CREDENTIALS,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{spec.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": spec.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
        "AWS_LAMBDA_LOG_FORMAT": spec.log_format,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": spec.log_group_name,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "LAMBDA_TASK_ROOT": task_root,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": spec.handler,
    }
    if spec.log_format == "JSON":
        values["AWS_LAMBDA_LOG_LEVEL"] = spec.application_log_level or "INFO"
    if snapshot is not None:
        for name in (*DUMMY_CREDENTIALS, *_NOT_RESTORED):
            del values[name]
        values |= {
            **snapshot,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
            "AWS_LAMBDA_FUNCTION_VERSION": "1" if spec.version == LATEST else spec.version,
        }
    if allow_real_aws:
        values["TWOLANE_ALLOW_REAL_AWS"] = "1"
    return values


def protect_own_process(environ: MutableMapping[str, str] | None = None) -> None:
    """Give this process dummy credentials, so that none of its calls reaches a real account."""
    own = os.environ if environ is None else environ
    for name in [name for name in own if name.startswith("AWS_")]:
        del own[name]
    own.update(DUMMY_CREDENTIALS)
    own.update(
        AWS_REGION=REGION,
        AWS_DEFAULT_REGION=REGION,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_CONFIG_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
    )


@contextmanager
def protected(*, allow_real_aws: bool) -> Iterator[None]:
    """Keep this process, and the functions that run in it, from reaching real AWS.

    With ``allow_real_aws`` names resolve, but the credentials are still dummies.
    """
    protect_own_process()
    if allow_real_aws:
        yield
        return
    with refused():
        yield
