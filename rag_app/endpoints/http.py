"""httpx: a JSON request to an endpoint, sent again where that can help, all within a deadline."""

import json
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import Kind, error_message
from rag_app.endpoints.limits import CONNECT_TIMEOUT, MAX_REPLY, MAX_WAIT, RETRIES
from rag_app.words import msg

# What may pass by itself; everything else is told at once.
PASSING: tuple[Kind, ...] = ("unreachable", "timeout", "rate", "server")
# For httpx's `mounts`: no proxy stands between a machine and itself, whatever the environment says.
DIRECT = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))


class Connection:
    """One pool of connections to one URL of an endpoint."""

    def __init__(self, endpoint: Endpoint, url: str, headers: dict[str, str]) -> None:
        self.endpoint = endpoint
        self.url = url
        self.http = httpx.Client(headers={"Content-Type": "application/json", **headers}, mounts=DIRECT)

    def post(self, body: dict[str, Any], deadline: float, on_attempt: Callable[[], None] = lambda: None) -> Any:
        """Return the decoded JSON of the answer, after at most RETRIES more tries where the failure may pass.

        `deadline` is a time of `time.monotonic()` by which all of it ends; EndpointError if there is no such answer.
        """
        try:
            content = orjson.dumps(body)
        except TypeError as error:
            raise self.endpoint.error(
                "request", msg("the request cannot be written as JSON ({reason})", reason=error)
            ) from None
        for attempt in range(RETRIES + 1):
            retry_after = None
            try:
                on_attempt()
                response, received = self._send(content, deadline)
                retry_after = seconds_asked(response.headers)
                if response.is_success:
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
            wait = random.uniform(0, 2.0**attempt) if retry_after is None else retry_after
            # Somebody is waiting: what would take longer than that is told at once.
            if attempt == RETRIES or failure.kind not in PASSING or wait > min(MAX_WAIT, deadline - time.monotonic()):
                raise failure
            time.sleep(wait)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def _send(self, content: bytes, deadline: float) -> tuple[httpx.Response, bytes]:
        """Post, and read the reply to its end within the deadline, however slowly it drips; return it and its body."""
        left = max(0.01, deadline - time.monotonic())
        timeout = httpx.Timeout(min(self.endpoint.timeout, left), connect=min(CONNECT_TIMEOUT, left))
        with self.http.stream("POST", self.url, content=content, timeout=timeout) as response:
            received = bytearray()
            for piece in response.iter_bytes():
                received += piece
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the deadline passed while the answer came in")
                if len(received) > MAX_REPLY:
                    raise self.endpoint.error("reply", msg("the reply is longer than {n:,} bytes", n=MAX_REPLY))
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
                message=error_message(body, 80),
            )
        raise self.endpoint.error("url" if "html" in kind else "reply", reason)


def seconds_asked(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, from `retry-after-ms` or `retry-after` (seconds or a date)."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        if after := headers.get("retry-after"):
            return max(0.0, float(after))
    except ValueError:
        try:
            return max(0.0, (parsedate_to_datetime(headers["retry-after"]) - datetime.now(UTC)).total_seconds())
        except (KeyError, ValueError, TypeError):
            return None
    return None
