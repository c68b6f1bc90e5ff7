"""Where a region's services answer, and which networks only boto3 knows the way through."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The partitions whose domain is not ``amazonaws.com``, by the beginning of their regions' names:
#: https://docs.aws.amazon.com/general/latest/gr/rande.html and botocore's ``partitions.json``.
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "us-isof-": "csp.hci.ic.gov",
}
#: Where the same services answer over IPv6 as well.
_DUAL_STACK = (
    "api.aws", "api.amazonwebservices.com.cn", "api.amazonwebservices.eu", "api.aws.ic.gov",
    "api.aws.scloud", "api.cloud-aws.adc-e.uk", "api.aws.hci.ic.gov",
)  # fmt: skip

DOMAINS = ("amazonaws.com", *_DOMAINS.values(), *_DUAL_STACK)

_SUFFIX = "|".join(re.escape(domain) for domain in DOMAINS)
#: ``sqs.REGION.DOMAIN``, the same behind a VPC endpoint's name, and how it was until 2011.
_QUEUES_HOST = re.compile(
    rf"(?:.+\.)?sqs(?:-fips)?\.(?P<now>[a-z0-9-]+)\.(?:vpce\.)?(?:{_SUFFIX})"
    rf"|(?P<once>[a-z0-9-]+)\.queue\.(?:{_SUFFIX})"
)

#: The SDKs' switches for other endpoints than the usual ones:
#: https://docs.aws.amazon.com/sdkref/latest/guide/feature-endpoints.html
_SWITCHES = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
#: botocore's order, as Python's: https://docs.python.org/3/library/urllib.request.html#urllib.request.getproxies
_PROXIES = {
    True: ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    False: ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
}


def domain_of(region: str) -> str:
    """The DNS suffix of a region's services."""
    return next(
        (domain for start, domain in _DOMAINS.items() if region.startswith(start)), "amazonaws.com"
    )


def region_of(host: str) -> str | None:
    """The region in the host of a queue's URL; ``None`` for a host that is not AWS's."""
    if host == "queue.amazonaws.com":
        return "us-east-1"
    found = _QUEUES_HOST.fullmatch(host)
    return None if found is None else found["now"] or found["once"]


def needs_boto(host: str, *, secure: bool, environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for a way that only boto3 takes: FIPS, dual stack, a proxy.

    Asked once for each connection and its credentials, as boto3 asks once for each client.
    """
    if any(environ.get(name, "").lower() == "true" for name in _SWITCHES):
        return True
    if not any(environ.get(name) for name in _PROXIES[secure]) or is_loopback(host):
        return False
    # As Python's own ``urllib`` and botocore read the list of hosts that are near by.
    near = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    names = [name.strip().lstrip(".").lower() for name in near.split(",")]
    return "*" not in names and not any(
        name and (host == name or host.endswith(f".{name}")) for name in names
    )


def is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
