"""The rerank wire: how each kind of server wants its request, and how any reply is read. No connection is made here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Document:
    """What is reranked: a text, or the picture that it is the caption of."""

    text: str
    image: str = ""

    @property
    def item(self) -> dict[str, str]:
        return {"image": self.image} if self.image else {"text": self.text}


Build = Callable[[str, str, list[Document]], dict[str, Any]]


def _flat(documents_field: str, limit_field: str) -> Build:
    def build(model: str, query: str, documents: list[Document]) -> dict[str, Any]:
        n = len(documents)
        if any(document.image for document in documents):
            # The multimodal form of the same gateways.
            return {"model": model, "input": {"query": query, "documents": [d.item for d in documents]}, limit_field: n}
        return {"model": model, "query": query, documents_field: [d.text for d in documents], limit_field: n}

    return build


def _dashscope(model: str, query: str, documents: list[Document]) -> dict[str, Any]:
    pictures = any(document.image for document in documents)
    items = [document.item if pictures else document.text for document in documents]
    parameters = {"top_n": len(documents), "return_documents": False}
    return {"model": model, "input": {"query": query, "documents": items}, "parameters": parameters}


def _tei(model: str, query: str, documents: list[Document]) -> dict[str, Any]:
    return {"query": query, "texts": [document.text for document in documents], "truncate": True}


def _nim(model: str, query: str, documents: list[Document]) -> dict[str, Any]:
    passages = [{"text": document.text} for document in documents]
    return {"model": model, "query": {"text": query}, "passages": passages, "truncate": "END"}


@dataclass(frozen=True)
class Dialect:
    """How a server wants its request, where it can be told by its URL, and how many documents it takes by default."""

    build: Build
    recognise: Callable[[str], bool] = lambda url: False
    max_documents: int = 0


# A new dialect is one entry here (and its name in the setting). "auto" takes the first that knows the URL, else "flat".
DIALECTS = {
    "nim": Dialect(_nim, lambda url: url.endswith("/ranking") or "/retrieval/nvidia/" in url, 512),
    "dashscope": Dialect(_dashscope, lambda url: url.endswith("/text-rerank")),
    "mixedbread": Dialect(_flat("input", "top_k"), lambda url: url.endswith("/v1/reranking")),
    "top_k": Dialect(_flat("documents", "top_k"), lambda url: "voyageai.com" in url),
    "tei": Dialect(_tei, max_documents=32),
    "flat": Dialect(_flat("documents", "top_n")),
}


def rows_in(reply: Any) -> list[Any] | None:
    """Return the list of results in any of the shapes that servers answer, or None if there is none or it is empty."""
    if isinstance(reply, dict):
        if reply.get("success") is False:
            return None
        for name in ("data", "output"):
            if isinstance(reply.get(name), dict):
                reply = reply[name]
        reply = next((reply[name] for name in ("results", "data", "rankings") if isinstance(reply.get(name), list)), None)
    return reply if isinstance(reply, list) and reply else None


def index_of(row: Any, n: int) -> int | None:
    """Return a row's index if it is a whole number from 0 to n - 1, be it written 1, 1.0 or "1"."""
    value = row.get("index") if isinstance(row, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        index = int(value)
        return index if 0 <= index < n and float(value) == index else None
    except (ValueError, OverflowError):
        return None


def score_of(row: Any) -> float | None:
    """Return a row's score if it is a finite number."""
    names = ("relevance_score", "score", "logit") if isinstance(row, dict) else ()
    value = next((row[name] for name in names if name in row), None)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        score = float(value)
    except (ValueError, OverflowError):
        return None
    return score if math.isfinite(score) else None


def usage_in(reply: Any) -> dict[str, float]:
    """Return the numbers that a reply reports as usage, nested names joined with a dot."""
    if not isinstance(reply, dict):
        return {}
    found: dict[str, float] = {}

    def collect(prefix: str, value: Any, depth: int) -> None:
        if isinstance(value, dict) and depth < 4:
            for name, inner in list(value.items())[:20]:
                collect(f"{prefix}.{name}" if prefix else str(name), inner, depth + 1)
        elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
            found[prefix] = value

    for name in ("usage", "meta", "tokens"):
        collect("" if name == "usage" else name, reply.get(name), 0)
    return found
