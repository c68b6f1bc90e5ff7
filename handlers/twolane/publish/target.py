"""The target of a queue's messages, if the light path covers it.

Everything is read from the Celery application's own settings: ``broker_url``,
``broker_transport_options``, and the environment as Lambda (or a user of the AWS SDKs) sets it. The
addresses of a region's services are here, too, and the list of networks that only boto3 knows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from twolane.publish.sigv4 import Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Options that make kombu take another way than "sign with these keys, send to this queue".
_STOCK_ONLY = ("sts_role_arn", "supports_fanout", "client-config", "queue_name_prefix")

#: What ``resolve`` reads of the environment and may change while a connection lives.
READ_FROM_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)  # fmt: skip


class Endpoint(NamedTuple):
    """One server to connect to. ``host`` is as the Host header has it: no default port."""

    secure: bool
    name: str
    port: int

    @property
    def host(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == (443 if self.secure else 80) else f"{name}:{self.port}"

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """The endpoint of an ``http`` or ``https`` URL; its path is ignored."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not an http or https URL with a host")
        secure = parts.scheme == "https"
        return cls(secure, parts.hostname, parts.port or (443 if secure else 80))


class Target(NamedTuple):
    """One queue, and all that a request to it needs."""

    queue_url: str
    endpoint: Endpoint
    region: str
    credentials: Credentials


class Broker(NamedTuple):
    """The parts of ``broker_url`` and the transport's options, as kombu's connection has them."""

    options: Mapping[str, Any]
    hostname: str | None = None
    port: int | None = None
    userid: str | None = None
    password: str | None = None


def resolve(queue: str, broker: Broker, environ: Mapping[str, str]) -> Target | None:
    """The target of ``queue``, or ``None`` where the stock transport has to do it.

    Not covered: queues without a fixed URL (kombu lists and creates them), FIFO queues, assumed
    roles, fan-out, credentials that are not in the environment (a profile, a container or instance
    role, SnapStart's credentials endpoint), and what ``network.needs_boto`` names.
    """
    options = broker.options
    if any(options.get(name) for name in _STOCK_ONLY) or not _is_plain(queue):
        return None
    settings = (options.get("predefined_queues") or {}).get(queue)
    if not settings or str(settings["url"]).endswith(".fifo"):
        return None
    credentials = _credentials(settings, broker, environ)
    if credentials is None:
        return None
    url = str(settings["url"])
    region = (
        region_of(urlsplit(url).hostname or "")
        or settings.get("region")
        or options.get("region")
        or environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or "us-east-1"
    )
    endpoint = _endpoint(url, broker, environ)
    if needs_boto(endpoint.name, secure=endpoint.secure, environ=environ):
        return None
    return Target(url, endpoint, str(region), credentials)


def _is_plain(name: str) -> bool:
    """True if kombu sends to the name as it is; it rewrites others first."""
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum()


def _endpoint(url: str, broker: Broker, environ: Mapping[str, str]) -> Endpoint:
    """First what the application says, then the environment, then the queue's own host.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if broker.hostname is not None:
        secure = bool(broker.options.get("is_secure"))
        return Endpoint(secure, broker.hostname, broker.port or (443 if secure else 80))
    return Endpoint.of(configured("SQS", environ) or url)


def configured(service: str, environ: Mapping[str, str]) -> str | None:
    """The endpoint that the environment names for a service, in the SDKs' way."""
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return environ.get(f"AWS_ENDPOINT_URL_{service}") or environ.get("AWS_ENDPOINT_URL")


def _credentials(
    settings: Mapping[str, Any], broker: Broker, environ: Mapping[str, str]
) -> Credentials | None:
    """The queue's own keys, those of ``broker_url``, those of the environment; in kombu's order."""
    key = settings.get("access_key_id", broker.userid)
    secret = settings.get("secret_access_key", broker.password)
    if key and secret:
        return Credentials(str(key), str(secret))
    return credentials_in(environ)


def credentials_in(environ: Mapping[str, str]) -> Credentials | None:
    """Keys as Lambda gives them to a function; ``None`` where they are to be found elsewhere."""
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, environ.get("AWS_SESSION_TOKEN") or None)
    return None


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
    """True if the environment asks for a way that only boto3 takes: FIPS, dual stack, a proxy.

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
