"""kombu's ``sqs`` transport for publishers, without boto3; and the target of a queue's messages.

kombu resolves transports by name, so everything above it (Celery's routing, protocol, signals,
retries, canvas) runs as it always does; only the last step, "put this envelope on that queue", is
ours. What the light path does not cover is handed over, one operation at a time, to a stock channel
of the same connection: consuming, purging, FIFO queues, assumed roles, credentials that are not in
the environment. Only then is boto3 imported.

The target is read from the Celery application's own settings: ``broker_url``,
``broker_transport_options``, and the environment as Lambda (or a user of the AWS SDKs) sets it. The
addresses of a region's services are here, too, and the list of networks that only boto3 knows.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from amqp.protocol import queue_declare_ok_t
from kombu.transport import virtual

from twolane.publish import message as messages
from twolane.publish.batch import Batch
from twolane.publish.client import Credentials, SqsClient
from twolane.publish.errors import MessageTooBigError, botos_errors_translated
from twolane.publish.message import MAX_DELAY_S, due_at, later

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane.publish.claimcheck import ClaimCheck


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
    if any(options.get(name) for name in _STOCK_ONLY):
        return None
    # kombu rewrites other names before it sends to them.
    if not (queue.isascii() and queue.replace("-", "").replace("_", "").isalnum()):
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


def _endpoint(url: str, broker: Broker, environ: Mapping[str, str]) -> Endpoint:
    """First what the application says, then the environment, then the queue's own host."""
    # https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
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
    if not any(environ.get(name) for name in _PROXIES[secure]) or (
        host in {"localhost", "::1"} or host.startswith("127.")
    ):
        return False
    # As Python's own ``urllib`` and botocore read the list of hosts that are near by.
    near = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    names = [name.strip().lstrip(".").lower() for name in near.split(",")]
    return "*" not in names and not any(
        name and (host == name or host.endswith(f".{name}")) for name in names
    )


def _handed_over(name: str) -> Callable[..., Any]:
    """An operation that the stock channel does."""

    def operation(self: Channel, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.stock, name)(*args, **kwargs)

    operation.__name__ = name
    return operation


#: All that an entry may have to be sent by a schedule; X-Ray's header is lost at any deferral.
_BESIDE = frozenset({"MessageBody", "DelaySeconds", "MessageGroupId", "MessageSystemAttributes"})


def _sent_later(target: Target, entry: messages.Entry, message: Mapping[str, Any]) -> bool:
    """True if a message beyond SQS's longest delay was put where it waits as a whole."""
    headers = message.get("headers") or {}
    send, due = later.get(), due_at(headers.get("eta"))
    if send is None or due is None or not entry.fields.keys() <= _BESIDE:
        return False
    delay_s = due - time.time()
    # A retry waits for something to mend itself, not for a time of the day.
    exact = not headers.get("retries") or headers.get("expires") is not None
    fields = entry.fields
    if delay_s <= MAX_DELAY_S or not send(
        target, fields["MessageBody"], due, exact, fields.get("MessageGroupId")
    ):
        return False
    messages.published(entry._replace(fields={"DelaySeconds": round(delay_s)}), target, None)
    return True


class Channel(virtual.Channel):
    """Publishes; hands everything else over."""

    supports_batch_publish = True

    basic_consume = _handed_over("basic_consume")
    basic_cancel = _handed_over("basic_cancel")
    basic_get = _handed_over("basic_get")
    basic_ack = _handed_over("basic_ack")
    basic_reject = _handed_over("basic_reject")
    basic_recover = _handed_over("basic_recover")
    basic_qos = _handed_over("basic_qos")
    queue_delete = _handed_over("queue_delete")
    drain_events = _handed_over("drain_events")
    _get = _handed_over("_get")
    _size = _handed_over("_size")
    _purge = _handed_over("_purge")
    _delete = _handed_over("_delete")
    _put_fanout = _handed_over("_put_fanout")

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._owner = connection
        self._base64 = bool(connection.options.get("sqs_base64_encoding", True))
        #: As the application says; fan-out itself is handed over.
        self.supports_fanout = bool(connection.options.get("supports_fanout", False))
        self._stock: virtual.Channel | None = None
        #: Whether the group that is published next comes from a generator that is still drawn.
        self.drawing = False
        #: The batch of each thread's group, where kombu's producer has none (before 5.7).
        self.batches: dict[int, Batch] = {}

    @property
    def stock(self) -> virtual.Channel:
        """kombu's own channel, made when something asks for what only it can do."""
        if self._stock is None:
            transport: Any = self._owner.stock
            self._stock = transport.create_channel(transport)
        return self._stock

    @property
    def sqs(self) -> SqsClient:
        return self._owner.sqs

    def queue_declare(
        self, queue: str | None = None, passive: bool = False, **kwargs: Any
    ) -> queue_declare_ok_t:
        """Infrastructure makes the queue; asking SQS for its size would cost a round trip."""
        if queue is not None and self._owner.target(queue) is not None:
            return queue_declare_ok_t(queue, 0, 0)
        with botos_errors_translated(f"queue {queue!r}"):
            return self.stock.queue_declare(queue=queue, passive=passive, **kwargs)

    def create_publish_batch(self, max_size: int) -> Batch:
        """kombu's seam for ``Producer.batch()``."""
        return Batch(self, max_size, first_alone=self.drawing)

    def _put(
        self, queue: str, message: dict[str, Any], batch: Batch | None = None, **_: Any
    ) -> None:
        target = self._owner.target(queue)
        if target is None:
            with botos_errors_translated(f"queue {queue!r}"):
                self.stock._put(queue, message)  # noqa: SLF001 - how virtual channels publish
            return
        entry = messages.build(
            message,
            base64_encoding=self._base64,
            trace_header=os.environ.get("_X_AMZN_TRACE_ID"),
            now=time.time(),
        )
        entry = self._owner.fitting(entry)
        batch = batch or self.batches.get(threading.get_ident())
        if batch is not None:
            batch.add(target, entry)
            return
        if entry.fields.get("DelaySeconds") == MAX_DELAY_S and _sent_later(target, entry, message):
            return
        answer = self._owner.sqs.call("SendMessage", target, entry.fields)
        messages.published(entry, target, str(answer.get("MessageId", "")))

    def close(self) -> None:
        if self._stock is not None:
            self._stock.close()
            _close_clients(self._stock)
            self._stock = None
        super().close()


def _close_clients(stock: Any) -> None:
    """Close boto3's clients, which kombu leaves open: those of each queue, and a channel's own."""
    by_queue = vars(stock).get("_predefined_queue_clients", {})
    for client in (*by_queue.values(), vars(stock).get("_sqs")):
        if client is not None:
            client.close()
    by_queue.clear()
    vars(stock).pop("_sqs", None)


class Transport(virtual.Transport):
    """One kombu connection; its channels share one client, so one kept-alive socket."""

    Channel = Channel
    driver_type = "sqs"
    driver_name = "sqs"
    default_port = None
    implements = virtual.Transport.implements.extend(
        batch_publish=True, exchange_type=frozenset(["direct"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.options: Mapping[str, Any] = client.transport_options
        self.sqs = SqsClient()
        self._connection = client
        self._claim_check: ClaimCheck | None = None
        self._targets: dict[tuple[str | None, ...], Target | None] = {}
        self._stock: virtual.Transport | None = None

    @property
    def stock(self) -> virtual.Transport:
        """kombu's own SQS transport on the same connection settings; imports boto3."""
        if self._stock is None:
            from kombu.transport.SQS import Transport as Stock

            from twolane.patches.clients import patient_channel

            self._stock = Stock(self._connection)
            self._stock.Channel = patient_channel(Stock.Channel)
        return self._stock

    def target(self, queue: str) -> Target | None:
        """The target of ``queue`` by the light path; decided anew when the environment changes."""
        said = (queue, *map(os.environ.get, READ_FROM_ENVIRONMENT))
        if said not in self._targets:
            url = self._connection
            broker = Broker(self.options, url.hostname, url.port, url.userid, url.password)
            self._targets[said] = resolve(queue, broker, os.environ)
        return self._targets[said]

    def fitting(self, entry: messages.Entry) -> messages.Entry:
        """The entry, or what carries it where it is bigger than SQS takes."""
        claim = self.options.get("claim_check")
        limit = int((claim or {}).get("limit") or messages.MAX_BYTES)
        if entry.size <= limit:
            return entry
        if not claim:
            raise MessageTooBigError(
                f"Task {entry.name}[{entry.task_id}] makes a message of {entry.size} bytes, more "
                f"than SQS takes ({limit}). Pass a reference to the data, or name a bucket for big "
                "messages in broker_transport_options['claim_check']."
            )
        from twolane.publish.claimcheck import ClaimCheck, S3Objects

        if self._claim_check is None:
            self._claim_check = ClaimCheck(objects=S3Objects(), **claim)
        with botos_errors_translated(f"the S3 bucket {claim['bucket']}"):
            return messages.checked_in(entry, self._claim_check)

    def drain_events(  # type: ignore[override]  # the stubs' two base classes disagree
        self,
        connection: Any,  # noqa: ARG002 - kombu passes what it got from us, this transport
        timeout: float | None = None,
    ) -> None:
        stock: Any = self.stock
        stock.drain_events(stock, timeout=timeout)

    def close_connection(self, connection: Any) -> None:
        self.sqs.close()
        super().close_connection(connection)
        if self._stock is not None:
            stock: Any = self._stock
            stock.close_connection(stock)
            _close_clients(stock)

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {"port": self.default_port}
