"""A chunk as a row of Chroma: its text, and metadata of which all that is never filtered by is one JSON text, `rest`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import orjson

from rag_app.store.stored import StoredDocument, Version
from rag_app.types import Chunk

# All that a chunk has but what Chroma keeps by itself or filters by: a field that is added is kept too.
_CHUNK_FIELDS = [name for name in Chunk.model_fields if name not in ("id", "text", "document", "language")]


class Row(NamedTuple):
    """Metadata, and the chunk and version that are decoded from its rest."""

    metadata: Any
    chunk: dict[str, Any]
    version: dict[str, Any]


def metadata_of(chunk: Chunk, version: Version) -> dict[str, str | bool]:
    """Return what Chroma keeps beside a chunk's text and vector."""
    # Chroma keeps and reads a row per key.
    rest = {"chunk": {name: getattr(chunk, name) for name in _CHUNK_FIELDS}, "version": asdict(version)}
    first = {"first": True} if chunk.position == 0 else {}
    return {"document": chunk.document, "language": chunk.language, "rest": orjson.dumps(rest).decode(), **first}


def row_of(metadata: Any) -> Row:
    """Return metadata with what is decoded from it. KeyError, TypeError or ValueError if something else wrote it."""
    rest = orjson.loads(metadata["rest"])
    return Row(metadata, rest["chunk"], rest["version"])


def chunk_fields(identity: str, text: str | None, row: Row) -> dict[str, Any]:
    """Return the fields of a Chunk."""
    return {
        "id": identity,
        "text": text or "",
        "document": row.metadata["document"],
        "language": row.metadata["language"],
        **row.chunk,
    }


def newest(rows: Sequence[Row]) -> list[bool]:
    """Return for each row whether its version is the newest among those of its document."""
    versions: dict[str, dict[str, Any]] = {}
    for row in rows:
        version = versions.setdefault(row.metadata["document"], row.version)
        if row.version["when"] > version["when"]:
            versions[row.metadata["document"]] = row.version
    return [row.version == versions[row.metadata["document"]] for row in rows]


def documents_of(rows: Sequence[Row], counts: Mapping[str, int]) -> Iterator[StoredDocument]:
    """Yield the documents that chunks belong to, each in its newest version; `counts` are their numbers of chunks."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.metadata["document"], []).append(row)
    for name, found in sorted(by_name.items()):
        row = max(found, key=lambda row: row.version["when"])
        yield StoredDocument(
            document=name,
            title=row.chunk["title"],
            language=row.metadata["language"],
            chunks=counts[name],
            whole=counts[name] == row.version["n_chunks"] and all(other.version == row.version for other in found),
            version=Version(**row.version),
        )
