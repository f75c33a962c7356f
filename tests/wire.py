"""A real HTTP server on loopback that answers as it is told, and remembers what it was sent."""

import json
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSIONS = 64


@dataclass
class Reply:
    """What goes back for one request."""

    body: Any = b""
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    parts: Iterator[bytes] | None = None

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


# The connection is closed without an answer.
RESET = Reply()


@dataclass
class Sent:
    """A request as it came in."""

    path: str
    headers: dict[str, str]
    body: Any
    # Another for each connection.
    port: int = 0


class Wire:
    """The server: `on(path ending, function from body to Reply)` sets what it answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[Sent] = []
        self.answers: dict[str, Callable[[Any], Reply]] = {
            "/embeddings": embeddings,
            "/rerank": rerank,
            "/chat/completions": lambda body: chat("It is so [1]."),
        }

    def on(self, ending: str, answer: Callable[[Any], Reply]) -> None:
        self.answers[ending] = answer

    def count(self, ending: str) -> int:
        return sum(sent.path.endswith(ending) for sent in self.sent)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def vector(text: str) -> list[float]:
    """Return a bag of hashed words, never zero."""
    values = [0.01] * DIMENSIONS
    for word in words(text):
        values[zlib.crc32(word.encode()) % DIMENSIONS] += 1.0
    return values


def embeddings(body: Any) -> Reply:
    """Embed, and answer in reverse order: the index counts, the place does not."""
    rows = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
    return Reply({"data": rows[::-1], "usage": {"prompt_tokens": 7, "total_tokens": 7}})


def rerank(body: Any) -> Reply:
    """Score by shared words, unsorted."""
    query = words(body["query"])
    rows = [{"index": i, "relevance_score": len(query & words(text)) / len(query)} for i, text in enumerate(body["documents"])]
    return Reply({"results": rows, "usage": {"total_tokens": 42}})


def events(*deltas: Any, finish: str | None = "stop", done: bool = True) -> bytes:
    """Return a stream of server-sent events; a delta is text or a whole event."""
    lines = []
    for delta in deltas:
        event = {"choices": [{"index": 0, "delta": {"content": delta}}]} if isinstance(delta, str) else delta
        lines.append(f"data: {json.dumps(event)}\n\n")
    if finish:
        lines.append(f"data: {json.dumps({'choices': [{'index': 0, 'delta': {}, 'finish_reason': finish}]})}\n\n")
    if done:
        lines.append("data: [DONE]\n\n")
    return "".join(lines).encode()


def chat(*deltas: Any, finish: str | None = "stop", done: bool = True) -> Reply:
    """Return a streamed answer."""
    return Reply(events(*deltas, finish=finish, done=done), kind="text/event-stream")


@contextmanager
def serve() -> Iterator[Wire]:
    """Run a Wire for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: else each reply waits 40 ms for an acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(raw) if raw else None
            wire.sent.append(Sent(self.path, {k.lower(): v for k, v in self.headers.items()}, body, self.client_address[1]))
            answer = next((answer for ending, answer in wire.answers.items() if self.path.endswith(ending)), None)
            reply = answer(body) if answer else Reply({"error": {"message": f"no such path {self.path}"}}, 404)
            if reply is RESET:
                self.close_connection = True
                return
            self.send_response(reply.status)
            if reply.parts:
                # Sent as they come.
                self.send_header("content-type", reply.kind)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for part in reply.parts:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
                return
            for name, value in {"content-type": reply.kind, "content-length": str(len(reply.content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.content)
            if int(reply.headers.get("content-length", 0)) > len(reply.content):
                self.close_connection = True

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    wire = Wire(f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
