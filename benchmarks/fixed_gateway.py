"""A gateway with fixed service times, so that what is measured beside it is our own time. Not for use: it knows nothing.

Vectors are random but the same for the same text; rerank scores fall with the position; the answer is always the same.
"""

import base64
import json
import multiprocessing
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import orjson

DIMENSIONS = 384
NOISE = (np.random.default_rng(0).standard_normal(1_000_000) / DIMENSIONS**0.5).astype(np.float32)
EMBED = 0.05
RERANK = 0.08
FIRST_TOKEN = 0.1
WORDS = ["The", "passages", "say", "so", "[1].", "And", "this", "follows", "from", "them", "[2]."]


def vector(text: str) -> Any:
    """Return a vector of about unit length that depends on the text alone: a window of fixed noise, which costs no time."""
    start = zlib.crc32(text.encode()) % (len(NOISE) - DIMENSIONS)
    return NOISE[start : start + DIMENSIONS]


class Handler(BaseHTTPRequestHandler):
    """One request of the three endpoints."""

    protocol_version = "HTTP/1.1"
    # Without this, small writes wait for each other's acknowledgement (Nagle).
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/embeddings"):
            vectors = [vector(text) for text in body["input"]]
            if body.get("encoding_format") == "base64":
                vectors = [base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode() for values in vectors]
            rows = [{"index": i, "embedding": values} for i, values in enumerate(vectors)]
            time.sleep(EMBED)
            self.reply({"data": rows, "usage": {"prompt_tokens": 1}})
        elif self.path.endswith("/rerank"):
            time.sleep(RERANK)
            n = len(body["documents"])
            self.reply({"results": [{"index": i, "relevance_score": 1 - i / n} for i in range(n)]})
        else:
            time.sleep(FIRST_TOKEN)
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for event in events():
                piece = f"data: {event}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    def reply(self, answer: Any) -> None:
        content = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Says nothing of clients that are gone: some are killed on purpose."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def events() -> Iterator[str]:
    """Yield the server-sent events of the answer."""
    for word in WORDS:
        yield json.dumps({"choices": [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}]})
    yield json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield "[DONE]"


def start_process() -> str:
    """Start the gateway in a process of its own, so that it does not share our interpreter, and return its base URL."""
    here, there = multiprocessing.Pipe()
    multiprocessing.Process(target=_serve, args=(there,), daemon=True).start()
    return str(here.recv())


def _serve(connection: Any) -> None:
    connection.send(start())
    threading.Event().wait()


def start() -> str:
    """Start the gateway in a thread and return its base URL."""
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"
