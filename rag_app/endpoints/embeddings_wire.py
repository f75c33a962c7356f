"""The embeddings wire: how each kind of server wants its request, and how any reply is read. No connection is made here."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["question", "passage"]
Build = Callable[[str, Sequence[str], Kind], dict[str, Any]]


def _openai(model: str, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
    # Not base64, which some servers answer with nothing.
    return {"model": model, "input": list(texts), "encoding_format": "float"}


def _cohere(model: str, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
    said = "search_query" if kind == "question" else "search_document"
    return {"model": model, "texts": list(texts), "input_type": said, "embedding_types": ["float"]}


def _dashscope(model: str, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
    said = "query" if kind == "question" else "document"
    return {"model": model, "input": {"texts": list(texts)}, "parameters": {"text_type": said}}


def _tei(model: str, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
    return {"inputs": list(texts)}


def _ollama(model: str, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
    # Else it cuts in silence what is too long.
    return {"model": model, "input": list(texts), "truncate": False}


def _gemini(model: str, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
    said = "RETRIEVAL_QUERY" if kind == "question" else "RETRIEVAL_DOCUMENT"
    name = model if model.startswith("models/") else f"models/{model}"
    return {"requests": [{"model": name, "content": {"parts": [{"text": text}]}, "taskType": said} for text in texts]}


@dataclass(frozen=True)
class Dialect:
    """How a server wants its request, and the ends of the paths by which it is told."""

    build: Build
    paths: tuple[str, ...]


# A new dialect is one entry here. An address that ends with none of these is the base of an OpenAI-style interface.
DIALECTS = {
    "cohere": Dialect(_cohere, ("/v2/embed",)),
    "dashscope": Dialect(_dashscope, ("/text-embedding",)),
    "ollama": Dialect(_ollama, ("/api/embed",)),
    "gemini": Dialect(_gemini, (":batchEmbedContents",)),
    "tei": Dialect(_tei, ("/embed",)),
}
OPENAI = Dialect(_openai, ())


def dialect_of(path: str) -> Dialect:
    """Return the dialect that the path of an address tells."""
    return next((dialect for dialect in DIALECTS.values() if path.endswith(dialect.paths)), OPENAI)


def rows_in(reply: Any) -> list[tuple[Any, Any]]:
    """Return the (index, numbers) of each row in any of the shapes that servers answer.

    The OpenAI interface promises an index per row, not an order; an index that is left out, as Gemini does with 0, is the
    row's place. ValueError, LookupError, TypeError or AttributeError if there are no rows.
    """
    if isinstance(reply, dict):
        reply = reply.get("output", reply)
        reply = reply["data"] if "data" in reply else reply["embeddings"]
        # Cohere, by type.
        reply = reply["float"] if isinstance(reply, dict) else reply
    if not isinstance(reply, list):
        raise TypeError("no list")
    return sorted((_row(place, row) for place, row in enumerate(reply)), key=lambda row: row[0])


def _row(place: int, row: Any) -> tuple[Any, Any]:
    if not isinstance(row, dict):
        return place, _numbers(row)
    index = row.get("index", row.get("text_index"))
    index = place if index is None else int(index)
    return index, _numbers(row["values"] if "values" in row else row["embedding"])


def _numbers(embedding: Any) -> Any:
    """Return the numbers of an embedding; some servers send base64 (little-endian float32) whatever was asked for."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return embedding


def tokens_in(reply: Any) -> int | None:
    """Return the tokens that a reply reports, or None."""
    if not isinstance(reply, dict):
        return None
    usage, meta = _object(reply, "usage"), _object(reply, "meta")
    billed = _object(meta, "billed_units")
    places = (usage.get("prompt_tokens"), usage.get("total_tokens"), reply.get("prompt_eval_count"), billed.get("input_tokens"))
    return next((int(n) for n in places if isinstance(n, int | float) and not isinstance(n, bool)), None)


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
