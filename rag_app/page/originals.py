"""What is served beside the pages: the documents' original files, and headers that keep the browser on this server."""

from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from ingest.readers.document import UnreadableError
from ingest.readers.encoding import decode
from rag_app.errors import RagError
from rag_app.page import resources
from rag_app.store.opening import open_store
from rag_app.words import msg

# Shown in the browser; everything else is downloaded, since what it holds may be a program for a browser.
SHOWN = {".pdf": "application/pdf"}
TEXT = {".md", ".markdown", ".txt", ".csv", ".json", ".jsonl", ".log", ".rst", ".eml", ".html", ".htm", ".xml", ".tex", ".py"}
# Streamlit's own page needs inline styles and scripts, and its charts eval; nothing may come from or go to another server.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-src 'self'; "
    "object-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def base() -> str:
    """Return the path below which the pages are served, such as /rag behind a proxy; empty at the root."""
    path = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{path}" if path else ""


def original_url(collection: str, document: str, page: int | None = None) -> str:
    """Return the address of a document's file; a PDF opens at the page."""
    return f"{base()}/original/{quote(collection)}/{quote(document)}" + (f"#page={page}" if page else "")


def beside_url(collection: str, document: str, passage: str) -> str:
    """Return the address of the page that shows a passage beside its original."""
    return f"{base()}/documents?{urlencode({'collection': collection, 'document': document, 'passage': passage})}"


async def original(request: Request) -> Response:
    """Answer with the file of a stored document: a PDF as it is, text as text, anything else as a download."""
    collection, document = request.path_params["collection"], request.path_params["document"]
    try:
        path = await run_in_threadpool(_path, collection, document)
    except RagError as error:
        return PlainTextResponse(str(error), 404)
    kind, name = path.suffix.lower(), path.name.encode("utf-8", "replace").decode()
    if kind in SHOWN:
        return FileResponse(path, media_type=SHOWN[kind], filename=name, content_disposition_type="inline")
    if kind in TEXT:
        # Browsers are told one encoding; files are in many.
        with suppress(UnreadableError):
            text = await run_in_threadpool(lambda: decode(path.read_bytes()))
            return PlainTextResponse(text.encode("utf-8", "replace"), headers={"Content-Disposition": "inline"})
    return FileResponse(path, media_type="application/octet-stream", filename=name)


def _path(collection: str, document: str) -> Any:
    with open_store(resources.of(collection)) as store:
        stored = store.document(document)
    if stored is None:
        raise RagError(msg("{document} is not in collection {collection}", document=document, collection=collection))
    if not stored.path.is_file():
        raise RagError(
            msg("the file of {document} is not where it was ingested from", document=document),
            msg("restore it, or ingest it again"),
        )
    return stored.path


class Headers:
    """Adds HEADERS to every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, receive, with_headers)


class _Document(Convertor[str]):
    """A document's name in an address: with folders, and with line breaks too."""

    regex = r"(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("document", _Document())
ROUTES = [Route(f"{base()}/original/{{collection}}/{{document:document}}", original)]
MIDDLEWARE = [Middleware(Headers)]
