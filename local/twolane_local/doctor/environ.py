"""What the shell brings along: a virtual environment, AWS settings, a Redis."""

from __future__ import annotations

import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twolane_local.doctor.findings import Finding, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def venv(environ: Mapping[str, str], prefix: str = sys.prefix) -> Iterator[Finding]:
    """The one that is active must be the one that runs."""
    active = environ.get("VIRTUAL_ENV")
    if active and Path(active).resolve() != Path(prefix).resolve():
        yield Finding(
            "venv", "warning", f"{active} is active, but `twolane` runs from {prefix}",
            "run `python -m twolane_local.cli`, or install twolane in the active environment",
        )  # fmt: skip
    else:
        yield ok("venv", prefix)


def packages(
    required: Iterable[str] | None = None,
    version: Callable[[str], str] = metadata.version,
) -> Iterator[Finding]:
    """An environment that was made before a dependency changed misses it, or has an older one."""
    from packaging.requirements import Requirement

    wanted = metadata.requires("twolane") or [] if required is None else required
    stale = []
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": "local"}):
            continue
        try:
            found = version(requirement.name)
        except metadata.PackageNotFoundError:
            stale.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            stale.append(f"{requirement} is wanted, {found} is here")
    for problem in stale:
        yield Finding(
            "packages", "error", problem, "install again: pip install --upgrade 'twolane[local]'"
        )
    if not stale:
        yield ok("packages", "all requirements are installed")


def aws(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Functions never get these; the commands with ``--stack`` and the AWS CLI do."""
    endpoint = environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        local = urlsplit(endpoint).hostname in {"127.0.0.1", "localhost", "::1"}
        if not local or not _answers(endpoint, 4566):
            yield Finding(
                "aws", "warning", f"AWS_ENDPOINT_URL is {endpoint}, where "
                + ("nothing answers" if local else "AWS calls of this shell go"),
                "unset AWS_ENDPOINT_URL, or start `twolane up` and eval \"$(twolane env)\"",
            )  # fmt: skip
        else:
            yield ok("aws", f"AWS calls of this shell go to {endpoint}")
        return
    who = _credentials(environ)
    if who is None:
        yield ok("aws", "no AWS credentials in this shell's environment")
    else:
        yield Finding(
            "aws", "note", f"{who} is set: `--stack`, `sam` and `aws` in this shell act on a real "
            "account; functions under `twolane up` never see it",
            "unset it if that is not what you want",
        )  # fmt: skip


def _credentials(environ: Mapping[str, str]) -> str | None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"):
        if environ.get(name) and environ[name] not in {"local", "testing"}:
            return name
    return None


def redis_url(environ: Mapping[str, str]) -> Iterator[Finding]:
    """``twolane up`` takes the one that is named, and does not start one of its own."""
    url = environ.get("REDIS_URL")
    if not url:
        return
    if _answers(url, 6379):
        yield ok("redis url", "the Redis of REDIS_URL answers")
    else:
        where = urlsplit(url)
        yield Finding(
            "redis url", "error",
            f"nothing answers at REDIS_URL ({where.hostname}:{where.port or 6379})",
            "start it, or unset REDIS_URL so that `twolane up` starts one",
        )  # fmt: skip


def _answers(url: str, port: int) -> bool:
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "127.0.0.1", parts.port or port)
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True
