"""Chroma: the only file that knows it. A collection holds chunks with their vectors, and the recipe they were made by."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import chromadb
import httpx
import numpy as np
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import ChromaError, NotFoundError

from rag_app.embeddings import Vectors
from rag_app.types import Candidate, Chunk, RagError, Ranking

_PAGE = 5000
_LITTLE_ROOM = 10_000_000


@dataclass(frozen=True)
class Stored:
    """What the store knows of a chunk besides its text and vector."""

    document: str
    root: str
    document_hash: str
    n_chunks: int
    position: int
    language: str


class EmptyCollectionError(RagError):
    """There is nothing to retrieve from yet."""


class Store:
    """One collection of one Chroma, embedded (a folder) or a server (a URL)."""

    def __init__(self, path: Path, url: str, collection: str, *, create: bool = False) -> None:
        """Open the collection. RagError if Chroma or the collection is not there; `create` makes what is missing."""
        self.place = url or str(path)
        self.name = collection
        self._collection: Collection | None = None
        if not url and not create and not (path / "chroma.sqlite3").is_file():
            raise self.empty()
        with self._errors():
            self.client = _client(path, url)
            try:
                # The vectors come from our own endpoint: Chroma must not bring a model.
                self._collection = self.client.get_collection(collection, embedding_function=None)
            except NotFoundError:
                if not create:
                    raise self.empty() from None

    def empty(self) -> EmptyCollectionError:
        """Return the error for a collection without chunks."""
        return EmptyCollectionError(f"collection {self.name} in {self.place} is empty: run `rag-app ingest PATH` first")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what Chroma raises into our one error."""
        try:
            yield
        except (ChromaError, ValueError, OSError, RuntimeError, sqlite3.Error, httpx.HTTPError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RagError(f"Chroma at {self.place}: {reason[:300]}; {self._remedy()}") from error

    def _remedy(self) -> str:
        # Chroma's own message does not name a full disk.
        folder = Path(self.place)
        if folder.is_dir() and (free := shutil.disk_usage(folder).free) < _LITTLE_ROOM:
            return f"its disk has only {free / 1e6:.1f} MB left: make room and run the same command again"
        return "check RAG_CHROMA_PATH or RAG_CHROMA_URL"

    @property
    def collection(self) -> Collection:
        if self._collection is None:
            raise self.empty()
        return self._collection

    @property
    def model(self) -> str | None:
        """The embedding model that the collection was made with, or None while there is no collection."""
        if self._collection is None:
            return None
        model = (self._collection.metadata or {}).get("embedding_model")
        return str(model) if model else None

    @property
    def dimension(self) -> int | None:
        """The dimension of the collection's vectors, or None while there is no collection."""
        recorded = (self._collection.metadata or {}).get("dimension") if self._collection else None
        return recorded if isinstance(recorded, int) else None

    def require_model(self, model: str) -> None:
        """RagError unless the collection is new or was made with this embedding model."""
        if self._collection is not None and self.model != model:
            raise RagError(
                f"collection {self.name} was embedded with {self.model or 'an unknown model'}, not with {model}: "
                f"set RAG_EMBEDDING_MODEL={self.model} again, or embed it anew with `rag-app ingest --rebuild PATH`"
            )

    def create(self, model: str, dimension: int) -> Self:
        """Make the collection, cosine, with its recipe, if it is not there."""
        if self._collection is None:
            with self._errors():
                self._collection = self.client.create_collection(
                    self.name,
                    embedding_function=None,
                    metadata={"embedding_model": model, "dimension": dimension},
                    configuration={"hnsw": {"space": "cosine"}},
                )
        self._require_dimension(dimension)
        return self

    def _require_dimension(self, dimension: int) -> None:
        if self.dimension != dimension:
            raise RagError(
                f"collection {self.name} has {self.dimension} dimensions, but {self.model} returned {dimension}: "
                "the endpoint serves another model; embed anew with `rag-app ingest --rebuild PATH`"
            )

    def rename(self, name: str) -> None:
        """Give the collection another name; a collection that has it already is deleted first."""
        with self._errors():
            with suppress(NotFoundError):
                self.client.delete_collection(name)
            self.collection.modify(name=name)
        self.name = name

    def drop(self) -> None:
        """Delete the whole collection."""
        if self._collection is not None:
            with self._errors():
                self.client.delete_collection(self.name)
            self._collection = None

    def count(self) -> int:
        """Return the number of chunks."""
        if self._collection is None:
            return 0
        with self._errors():
            return self._collection.count()

    def nearest(self, vector: Vectors, n: int) -> list[Candidate]:
        """Return the n chunks nearest to a vector, shape (dim,), best first; the score is the cosine similarity."""
        self._require_dimension(len(vector))
        with self._errors():
            found = self.collection.query(
                query_embeddings=vector[np.newaxis], n_results=n, include=["documents", "metadatas", "distances"]
            )
        ids, texts = found["ids"][0], (found["documents"] or [[]])[0]
        metadatas, distances = (found["metadatas"] or [[]])[0], (found["distances"] or [[]])[0]
        if not ids:
            raise self.empty()
        return [
            Candidate(**_chunk_fields(identity, text, metadata), retrieval=Ranking(rank=rank, score=1.0 - float(distance)))
            for rank, (identity, text, metadata, distance) in enumerate(zip(ids, texts, metadatas, distances, strict=True), 1)
        ]

    def stored(self) -> dict[str, Stored]:
        """Return what is stored, chunk id → Stored."""
        if self._collection is None:
            return {}
        known: dict[str, Stored] = {}
        offset = 0
        while True:
            with self._errors():
                page = self._collection.get(include=["metadatas"], limit=_PAGE, offset=offset)
            for identity, metadata in zip(page["ids"], page["metadatas"] or [], strict=True):
                known[identity] = _stored(metadata)
            if len(page["ids"]) < _PAGE:
                return known
            offset += _PAGE

    def put(self, chunks: Sequence[tuple[Chunk, Stored]], vectors: Vectors) -> None:
        """Store chunks with their vectors, shape (len(chunks), dim); an id that is there is replaced."""
        self._require_dimension(vectors.shape[1])

        def write(part: slice) -> None:
            self.collection.upsert(
                ids=[chunk.id for chunk, _ in chunks[part]],
                embeddings=vectors[part],
                documents=[chunk.text for chunk, _ in chunks[part]],
                metadatas=[_metadata(chunk, stored) for chunk, stored in chunks[part]],
            )

        self._in_parts(len(chunks), write)

    def update(self, chunks: Sequence[tuple[Chunk, Stored]]) -> None:
        """Write anew what is known of chunks whose text, and so whose vector, stays."""

        def write(part: slice) -> None:
            self.collection.update(
                ids=[chunk.id for chunk, _ in chunks[part]],
                metadatas=[_metadata(chunk, stored) for chunk, stored in chunks[part]],
            )

        self._in_parts(len(chunks), write)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks by id."""
        self._in_parts(len(ids), lambda part: self.collection.delete(ids=list(ids[part])))

    def _in_parts(self, n: int, write: Callable[[slice], object]) -> None:
        # Chroma takes a limited number of records a call (5,461 embedded) and raises above it.
        with self._errors():
            size = self.client.get_max_batch_size()
            for start in range(0, n, size):
                write(slice(start, start + size))


def _client(path: Path, url: str) -> Any:
    settings = ChromaSettings(anonymized_telemetry=False)
    if not url:
        # Whole, since Chroma shares its databases in a process by the path as written.
        return chromadb.PersistentClient(path.resolve(), settings=settings)
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return chromadb.HttpClient(
        host=parts.hostname or "", port=parts.port or (443 if secure else 80), ssl=secure, settings=settings
    )


def _metadata(chunk: Chunk, stored: Stored) -> dict[str, str | int]:
    metadata: dict[str, str | int] = {
        "document": chunk.document,
        "title": chunk.title,
        "headings": "\n".join(chunk.headings),
        "position": chunk.position,
        "language": chunk.language,
        "root": stored.root,
        "document_hash": stored.document_hash,
        "n_chunks": stored.n_chunks,
    }
    # Chroma knows no null: page 0 is "no page", so that an update can take a page away.
    metadata["page"] = chunk.page or 0
    return metadata


def _chunk_fields(identity: str, text: str | None, metadata: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "document": metadata["document"],
        "title": metadata["title"],
        "headings": tuple(metadata["headings"].split("\n")) if metadata["headings"] else (),
        "page": metadata["page"] or None,
        "position": metadata["position"],
        "language": metadata["language"],
        "text": text or "",
    }


def _stored(metadata: Any) -> Stored:
    return Stored(
        document=metadata["document"],
        root=metadata["root"],
        document_hash=metadata["document_hash"],
        n_chunks=metadata["n_chunks"],
        position=metadata["position"],
        language=metadata["language"],
    )
