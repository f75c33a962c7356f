"""httpx: a JSON request to an endpoint, sent again where that can help, all within a deadline."""

import json
import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import orjson

from rag_app.endpoints import network
from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import Kind, error_message
from rag_app.endpoints.learned import Pace
from rag_app.endpoints.limits import CONNECT_TIMEOUT, MAX_PATIENCE, MAX_REPLY, MAX_WAIT, RETRIES, TELL_WAIT
from rag_app.words import msg

# What may pass by itself; everything else is told at once.
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
PASSING: tuple[Kind, ...] = ("unreachable", "timeout", "rate", "server")
REDIRECTS = 5
OnWait = Callable[[float, str], None]


class Connection:
    """One pool of connections to one URL of an endpoint."""

    def __init__(self, endpoint: Endpoint, url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.endpoint = endpoint
        self.url = url
        self.sleep = sleep
        self.http = httpx.Client(headers={**_HEADERS, **endpoint.credentials}, **network.options(url))
        self.pace = Pace()

    def post(
        self,
        body: dict[str, Any],
        deadline: float,
        on_attempt: Callable[[], None] = lambda: None,
        on_wait: OnWait | None = None,
    ) -> Any:
        """Return the decoded JSON of the answer, after at most RETRIES more tries where the failure may pass.

        `deadline` is a time of `time.monotonic()` by which all of it ends; EndpointError if there is no such answer. With
        `on_wait` nobody is kept waiting: it is told the seconds and the reason of each wait, which may be MAX_PATIENCE long
        in all, and the deadline is moved by them.
        """
        try:
            content = orjson.dumps(merged(body, self.endpoint.parameters))
        except TypeError as error:
            raise self.endpoint.error(
                "request", msg("the request cannot be written as JSON ({reason})", reason=error)
            ) from None
        patience = MAX_PATIENCE if on_wait else 0.0
        attempt, refused, waited = 0, False, 0.0
        while True:
            sent = self.pace.start(len(content)) if on_wait else 0.0
            if on_wait and (pause := sent - time.monotonic()) > 0:
                if pause > MAX_PATIENCE:
                    raise self.endpoint.error("rate", msg("its rate limit allows the next request in {n:.0f} s", n=pause))
                if pause > TELL_WAIT and not refused:
                    on_wait(pause, msg("to stay below its rate limit"))
                self.sleep(pause)
                deadline += pause
            retry_after = None
            try:
                on_attempt()
                response, received = self._send(content, deadline)
                retry_after = seconds_asked(response.headers)
                if response.is_success:
                    if on_wait:
                        self.pace.took(len(content), sent, response.headers)
                    return self._decoded(response, received)
                failure = self.endpoint.status_error(
                    response.status_code,
                    response.reason_phrase,
                    received,
                    None if retry_after is None else f"{retry_after:g}",
                    response.headers.get("location"),
                )
            except httpx.TimeoutException as error:
                failure = self.endpoint.transport_error(error, timed_out=True)
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                failure = self.endpoint.transport_error(error, timed_out=False)
            if on_wait and failure.kind == "rate" and (wait := self.pace.refused(sent, retry_after)) <= patience:
                patience -= wait
                refused = True
                if wait > TELL_WAIT:
                    on_wait(wait, failure.reason)
                continue
            wait = random.uniform(0, 2.0**attempt) if retry_after is None else retry_after
            # Somebody is waiting: what would take longer than that is told at once.
            waited += wait
            if attempt == RETRIES or failure.kind not in PASSING or waited > MAX_WAIT or wait > deadline - time.monotonic():
                raise failure
            attempt += 1
            self.sleep(wait)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def _send(self, content: bytes, deadline: float) -> tuple[httpx.Response, bytes]:
        """Post, and read the reply to its end within the deadline, however slowly it drips; return it and its body."""
        left = max(0.01, deadline - time.monotonic())
        timeout = httpx.Timeout(min(self.endpoint.timeout, left), connect=min(CONNECT_TIMEOUT, left))
        url = self.url
        for _ in range(REDIRECTS):
            with self.http.stream("POST", url, content=content, timeout=timeout) as response:
                if "," in response.headers.get("content-encoding", ""):
                    # Compressed twice, some bytes may be gigabytes.
                    raise self.endpoint.error("reply", msg("the reply came compressed, which was not asked for"))
                received = bytearray()
                for piece in response.iter_bytes():
                    received += piece
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the deadline passed while the answer came in")
                    if len(received) > MAX_REPLY:
                        raise self.endpoint.error("reply", msg("the reply is longer than {n:,} bytes", n=MAX_REPLY))
            # To another server neither the key nor the texts are sent: that is told.
            if not stays(response.status_code, url, response.headers.get("location")):
                break
            url = urljoin(url, response.headers["location"])
        return response, bytes(received)

    def _decoded(self, response: httpx.Response, body: bytes) -> Any:
        with suppress(ValueError):
            return orjson.loads(body)
        try:
            # Some servers write NaN.
            return json.loads(body)
        except (ValueError, RecursionError):
            kind = response.headers.get("content-type", "")
            reason = msg(
                "the reply is not JSON but {kind}: {message}",
                kind=kind or msg("no content type"),
                message=error_message(self.endpoint.masked(body.decode("utf-8", "replace")).encode(), 80),
            )
        raise self.endpoint.error("url" if "html" in kind else "reply", reason)


def stays(status: int, url: str, location: str | None) -> bool:
    """Whether a reply sends the same request on to the same server."""
    if status not in (307, 308) or not location:
        return False
    try:
        there, here = urlsplit(urljoin(url, location)), urlsplit(url)
    except ValueError:
        return False
    return (there.scheme, there.netloc) == (here.scheme, here.netloc)


def merged(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with the user's parameters in it: objects joined, other values replaced, null takes a field out."""
    joined = dict(body)
    for name, value in extra.items():
        old = joined.get(name)
        if value is None:
            joined.pop(name, None)
        else:
            joined[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return joined


def seconds_asked(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, from `retry-after-ms` or `retry-after` (seconds or a date)."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        if re.fullmatch(r"-?\d{1,12}(\.\d+)?", after := headers.get(name, "").strip()):
            return max(0.0, float(after) / unit)
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, (parsedate_to_datetime(headers.get("retry-after", "")) - datetime.now(UTC)).total_seconds())
    return None
