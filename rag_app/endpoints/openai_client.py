"""The openai package: one client per endpoint, its exceptions turned into our one error."""

import codecs
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx2
import openai
import orjson

from rag_app.endpoints import network
from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import EndpointError, message_in
from rag_app.endpoints.http import seconds_asked, stays
from rag_app.endpoints.limits import ANSWER_TIMES, CONNECT_TIMEOUT, MAX_ANSWER, MAX_WAIT, RETRIES
from rag_app.words import Message, msg

# What the package tells of this machine and of itself is nobody's business, and costs time to send and to read.
_TOLD = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async", "Retry-Count", "Read-Timeout")
_JSON: Any = {
    "headers": {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    | {f"X-Stainless-{name}": openai.Omit() for name in _TOLD}
}

# Stands in the head of a reply that came compressed, which was not asked for.
COMPRESSED = "x-compressed"
READS_OUT = "reads a stream out"
_NO_KEY = "none"
# Bytes of a stream that are kept.
_KEPT = 4000


def connect(endpoint: Endpoint, *, whole_files: bool = False) -> openai.OpenAI:
    """Return a client for the endpoint. It retries 408, 409, 429, 5xx and lost connections RETRIES times, with backoff.

    `whole_files` are read however long they are.
    """
    parts = urlsplit(endpoint.url)
    hooks: dict[str, list[Any]] = {"request": [_without_no_key], "response": [_not_too_long, _within_the_server]}
    if not whole_files:
        hooks["response"].append(_Body.replace)
    return openai.OpenAI(
        base_url=urlunsplit(parts._replace(query="")),
        default_query=dict(parse_qsl(parts.query)),
        # The client refuses an empty key, and writes it in one way only.
        api_key=_NO_KEY,
        default_headers=endpoint.credentials,
        timeout=openai.Timeout(endpoint.timeout, connect=CONNECT_TIMEOUT),
        max_retries=RETRIES,
        http_client=openai.DefaultHttpx2Client(event_hooks=hooks, **network.options(endpoint.url)),
    )


def _without_no_key(request: httpx2.Request) -> None:
    """Take the key out that is none."""
    if request.headers.get("authorization") == f"Bearer {_NO_KEY}":
        del request.headers["authorization"]


def _not_too_long(response: httpx2.Response) -> None:
    """Have the package not wait where a server asks for longer than a person waits in all: it would wait two minutes, twice."""
    asked = seconds_asked(response.headers)
    if asked is not None and asked > MAX_WAIT / RETRIES:
        response.headers["x-should-retry"] = "false"


def _within_the_server(response: httpx2.Response) -> None:
    """Have a request not follow a redirect to another server, which would be shown the question and the passages."""
    url = str(response.request.url)
    location = response.headers.get("location")
    if location and 300 <= response.status_code < 400 and not stays(response.status_code, url, location):
        response.headers["x-location"] = response.headers.pop("location")


class _TooMuchError(httpx2.ReadError):
    """A reply has more than MAX_ANSWER bytes."""


class _TooSlowError(httpx2.ReadError):
    """A reply does not end."""


class _Body(httpx2.SyncByteStream):
    """The body of a reply: at most MAX_ANSWER bytes, for at most ANSWER_TIMES the time-out of the endpoint.

    Of a stream of events it keeps the beginning, for the server that sends something else under that name; a byte that is
    no UTF-8 costs one character; and its connection serves the next request too. For the package closes a stream at [DONE],
    a moment before the response ends, and a connection that is closed there costs the next answer a new one and its TLS
    handshake. What is left is read beside the answer: some servers never end it.
    """

    def __init__(self, response: httpx2.Response, body: httpx2.SyncByteStream) -> None:
        self._body = body
        self._pieces = iter(body)
        self._events = response.headers.get("content-type", "").startswith("text/event-stream")
        self._done = False
        timeout = response.request.extensions.get("timeout", {}).get("read")
        self._deadline = time.monotonic() + ANSWER_TIMES * timeout if timeout else math.inf
        self.beginning = b""

    @classmethod
    def replace(cls, response: httpx2.Response) -> None:
        """Give a response this body; of what comes compressed nothing is read: some megabytes may be gigabytes."""
        if re.search(r"gzip|deflate|br|zstd|compress", response.headers.get("content-encoding", "")):
            if isinstance(response.stream, httpx2.SyncByteStream):
                response.stream.close()
            response.headers[COMPRESSED] = response.headers.pop("content-encoding")
            response.stream = httpx2.ByteStream(b"")
        elif isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = cls(response, response.stream)

    def __iter__(self) -> Iterator[bytes]:
        n = 0
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in self._pieces:
            # No event would begin with it.
            piece = piece.removeprefix(codecs.BOM_UTF8) if n == 0 else piece
            n += len(piece)
            if n > MAX_ANSWER:
                raise _TooMuchError("the reply is too long")
            if time.monotonic() > self._deadline:
                raise _TooSlowError("the answer did not end in time")
            self._done = self._events and piece.rstrip().endswith(b"[DONE]")
            # Where no event comes, all of it is looked at.
            most = _KEPT if self._events else MAX_ANSWER
            self.beginning += piece[: most - len(self.beginning)]
            yield decoder.decode(piece).encode() if self._events else piece

    def close(self) -> None:
        """Close the body, after its end if that is all that is missing."""
        if self._done:
            threading.Thread(target=self._end, name=READS_OUT, daemon=True).start()
        else:
            self._body.close()

    def _end(self) -> None:
        with suppress(httpx2.HTTPError):
            next(self._pieces, None)
        self._body.close()


@contextmanager
def translated(endpoint: Endpoint) -> Iterator[None]:
    """Turn what the openai package raises into our one error."""
    try:
        yield
    except openai.OpenAIError as error:
        raise _failure(endpoint, error) from error


@contextmanager
def stream(client: openai.OpenAI, path: str, body: dict[str, Any]) -> Iterator[openai.Stream[object]]:
    """Give the events of a streamed POST as decoded JSON, and close the stream after.

    The client's own methods would check every message and build an object per event.
    """
    content = orjson.dumps(body)
    events = client.post(path, cast_to=object, content=content, options=_JSON, stream=True, stream_cls=openai.Stream[object])
    try:
        yield events
    except httpx2.HTTPError as error:
        raise openai.APIConnectionError(request=events.response.request) from error
    finally:
        events.close()


def download(client: openai.OpenAI, file_id: str, target: IO[bytes]) -> None:
    """Write a file of the endpoint, however long, into one that is open."""
    with client.files.with_streaming_response.content(file_id) as response:
        try:
            for piece in response.iter_bytes():
                target.write(piece)
        except httpx2.HTTPError as error:
            raise openai.APIConnectionError(request=response.http_request) from error


def beginning(events: openai.Stream[object]) -> bytes:
    """Return how a stream of events began, as it came."""
    stream = events.response.stream
    return stream.beginning if isinstance(stream, _Body) else b""


def models(endpoint: Endpoint) -> list[str]:
    """Return the names of the models that the endpoint lists; an endpoint that lists none has none to tell."""
    try:
        with connect(endpoint) as client:
            listed = client.with_options(max_retries=0).models.list().data
            return [model.id for model in listed if isinstance(model.id, str)]
    except (openai.OpenAIError, AttributeError, TypeError, ValueError, RecursionError):
        return []


def _failure(endpoint: Endpoint, error: openai.OpenAIError) -> EndpointError:
    """Return our error for one of the openai package."""
    if isinstance(error, openai.APIStatusError):
        response = error.response
        return endpoint.status_error(
            response.status_code,
            response.reason_phrase,
            response.content,
            response.headers.get("retry-after"),
            response.headers.get("x-location") or response.headers.get("location"),
        )
    if isinstance(error.__cause__, _TooMuchError):
        reason = msg("the reply is longer than {n:,} bytes", n=MAX_ANSWER)
        return endpoint.error("unreachable", reason, msg("try again, or use another RAG_CHAT_MODEL"))
    if isinstance(error.__cause__, _TooSlowError):
        return endpoint.error("timeout", msg("the answer did not end within {n:g} s", n=ANSWER_TIMES * endpoint.timeout))
    if isinstance(error, openai.APIConnectionError):
        return endpoint.transport_error(error, timed_out=isinstance(error, openai.APITimeoutError))
    if isinstance(error, openai.APIError):
        # An error in the midst of a stream.
        return endpoint.said_error(error.body if message_in(error.body) else str(error))
    return endpoint.error("reply", Message(str(error) or type(error).__name__))
