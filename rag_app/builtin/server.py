"""Runs the built-in gateway: in this process on a free port, or alone on a port of choice."""

import functools
import socket
import threading
import time
from pathlib import Path

import uvicorn

from rag_app.builtin import CHAT_MODEL, EMBEDDING_MODEL, RERANK_MODEL
from rag_app.builtin.gateway import application
from rag_app.builtin.late import KeptTokens
from rag_app.endpoints.limits import START_TIMEOUT
from rag_app.errors import RagError
from rag_app.words import msg

HOST = "127.0.0.1"
_starting = threading.Lock()


def start(folder: Path) -> str:
    """Start the gateway in a thread of this process, once for a folder of token vectors, and return its base URL."""
    with _starting:
        return _start(folder.absolute())


@functools.cache
def _start(folder: Path) -> str:
    listener = _listen(0)
    server = uvicorn.Server(_config(folder))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="builtin-gateway", daemon=True).start()
    deadline = time.monotonic() + START_TIMEOUT
    while not server.started:
        if time.monotonic() > deadline:
            raise RagError(
                msg("the built-in gateway did not start within {seconds:g} s", seconds=START_TIMEOUT),
                msg("set RAG_BASE_URL to an endpoint of your own"),
            )
        time.sleep(0.005)
    return f"http://{HOST}:{listener.getsockname()[1]}/v1"


def serve(port: int, folder: Path) -> None:
    """Run the gateway alone on a port (0 = a free one) until it is stopped; prints its base URL."""
    listener = _listen(port)
    url = f"http://{HOST}:{listener.getsockname()[1]}/v1"
    print(msg("built-in models at {url} (Ctrl-C stops). For another project's .env:", url=url))
    print(f"RAG_BASE_URL={url}")
    for setting, model in (("EMBEDDING", EMBEDDING_MODEL), ("RERANK", RERANK_MODEL), ("CHAT", CHAT_MODEL)):
        print(f"RAG_{setting}_MODEL={model}", flush=True)
    uvicorn.Server(_config(folder)).run(sockets=[listener])


def _config(folder: Path) -> uvicorn.Config:
    return uvicorn.Config(application(KeptTokens(folder)), log_level="critical", lifespan="off")


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise RagError(
            msg("port {port} is not available ({reason})", port=port, reason=error.strerror), msg("choose another with --port")
        ) from None
    listener.listen(128)
    return listener
