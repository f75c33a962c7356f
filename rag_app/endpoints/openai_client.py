"""The openai package: one client per endpoint, its exceptions turned into our one error."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import openai
import orjson

from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import EndpointError
from rag_app.endpoints.http import DIRECT, seconds_asked
from rag_app.endpoints.limits import CONNECT_TIMEOUT, MAX_WAIT, RETRIES
from rag_app.words import Message

# What the package tells of this machine and of itself is nobody's business, and costs time to send and to read.
_TOLD = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async", "Retry-Count", "Read-Timeout")
_JSON: Any = {"headers": {"Content-Type": "application/json"} | {f"X-Stainless-{name}": openai.Omit() for name in _TOLD}}

READS_OUT = "reads a stream out"


def connect(endpoint: Endpoint) -> openai.OpenAI:
    """Return a client for the endpoint. It retries 408, 409, 429, 5xx and lost connections RETRIES times, with backoff."""
    return openai.OpenAI(
        base_url=endpoint.url,
        # An empty key is refused by the client; servers without keys ignore this one.
        api_key=endpoint.key.get_secret_value() or "none",
        timeout=openai.Timeout(endpoint.timeout, connect=CONNECT_TIMEOUT),
        max_retries=RETRIES,
        http_client=openai.DefaultHttpx2Client(event_hooks={"response": [_not_too_long, _read_out]}, mounts=DIRECT),
    )


def _not_too_long(response: httpx2.Response) -> None:
    """Have the package not wait where a server asks for longer than a person does: it would wait two minutes, twice."""
    asked = seconds_asked(response.headers)
    if asked is not None and asked > MAX_WAIT:
        response.headers["x-should-retry"] = "false"


def _read_out(response: httpx2.Response) -> None:
    """Have a stream read to its end, where it is the server that ends it."""
    stream = response.stream
    if isinstance(stream, httpx2.SyncByteStream) and response.headers.get("content-type", "").startswith("text/event-stream"):
        response.stream = _ReadOut(stream)


class _ReadOut(httpx2.SyncByteStream):
    """A streamed body whose connection serves the next request too.

    The package closes a stream at [DONE], a moment before the response ends, and a connection that is closed there costs
    the next answer a new one and its TLS handshake. What is left is read beside the answer: some servers never end it.
    """

    def __init__(self, body: httpx2.SyncByteStream) -> None:
        self._body = body
        self._pieces = iter(body)
        self._done = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._done = piece.rstrip().endswith(b"[DONE]")
            yield piece

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


def models(endpoint: Endpoint) -> list[str]:
    """Return the names of the models that the endpoint lists; an endpoint that lists none has none to tell."""
    try:
        with connect(endpoint) as client:
            return [model.id for model in client.with_options(max_retries=0).models.list().data]
    except (openai.OpenAIError, AttributeError, TypeError, ValueError):
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
            response.headers.get("location"),
        )
    if isinstance(error, openai.APIConnectionError):
        return endpoint.transport_error(error, timed_out=isinstance(error, openai.APITimeoutError))
    return endpoint.error("reply", Message(str(error) or type(error).__name__))
