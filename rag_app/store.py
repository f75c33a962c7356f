"""Chroma: the only file that knows it. A collection holds chunks with their vectors, and the recipe they were made by."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import chromadb
import httpx
import numpy as np
import orjson
from chromadb.api.models.Collection import Collection
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import ChromaError, NotFoundError
from pydantic import TypeAdapter

from rag_app.embeddings import Vectors
from rag_app.types import Candidate, Chunk, RagError

_PAGE = 5000
_OLD = "-replaced"
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
        self.path = path
        self.url = url
        self.place = url or str(path)
        self.name = collection
        self._collection: Collection | None = None
        self._refreshing = threading.Lock()
        self._seen: list[tuple[int, int]] = []
        self._touched = 0.0
        if not url and not create and not (path / "chroma.sqlite3").is_file():
            raise self.empty()
        with self._errors():
            self.client = _client(path, url)
            try:
                self._collection = self._get()
            except NotFoundError:
                if not create:
                    raise self.empty() from None

    def _get(self) -> Collection:
        # The vectors come from our own endpoint: Chroma must not bring a model.
        try:
            found: Collection = self.client.get_collection(self.name, embedding_function=None)
        except NotFoundError:
            # A rebuild was broken off between its two renames.
            found = self.client.get_collection(f"{self.name}{_OLD}", embedding_function=None)
            found.modify(name=self.name)
        return found

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
    def recipe(self) -> dict[str, str]:
        """What the collection's vectors were made by, as `create` was told; empty while there is no collection."""
        known = (self._collection.metadata or {}) if self._collection else {}
        return {name: str(known[name]) for name in ("embedding_model", "passage_prefix") if name in known}

    @property
    def dimension(self) -> int | None:
        """The dimension of the collection's vectors, or None while there is no collection."""
        recorded = (self._collection.metadata or {}).get("dimension") if self._collection else None
        return recorded if isinstance(recorded, int) else None

    def require(self, recipe: dict[str, str]) -> None:
        """RagError unless the collection is new or its vectors were made by this recipe."""
        if self._collection is None or self.recipe == recipe:
            return
        phrases = {"embedding_model": "embedded with {}, not with {}", "passage_prefix": "embedded with prefix {!r}, not {!r}"}
        for name, phrase in phrases.items():
            old, new = self.recipe.get(name, "something else"), recipe[name]
            if old != new:
                how = phrase.format(old, new)
                raise RagError(
                    f"collection {self.name} was {how}: "
                    "put the settings back as they were, or embed it anew with `rag-app ingest --rebuild PATH`"
                )

    def create(self, recipe: dict[str, str], dimension: int) -> Self:
        """Make the collection, cosine, with its recipe, if it is not there."""
        if self._collection is None:
            with self._errors():
                # Another ingest may have made it a moment ago: then that one's recipe stands, and is checked below.
                self._collection = self.client.get_or_create_collection(
                    self.name,
                    embedding_function=None,
                    metadata={**recipe, "dimension": dimension},
                    configuration={"hnsw": {"space": "cosine"}},
                )
            self.require(recipe)
        self._require_dimension(dimension)
        return self

    def _require_dimension(self, dimension: int) -> None:
        if self.dimension != dimension:
            raise RagError(
                f"collection {self.name} has {self.dimension} dimensions, but its model now returned {dimension}: "
                "the endpoint serves another model; embed anew with `rag-app ingest --rebuild PATH`"
            )

    def replace(self, name: str) -> None:
        """Take the name of another collection, which is deleted; broken off midway, the next opening repairs it."""
        old = f"{name}{_OLD}"
        with self._errors():
            with suppress(NotFoundError):
                self.client.delete_collection(old)
            with suppress(NotFoundError):
                self.client.get_collection(name, embedding_function=None).modify(name=old)
            self.collection.modify(name=name)
            with suppress(NotFoundError):
                self.client.delete_collection(old)
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
        self._refresh()
        with self._errors():
            return self._collection.count()

    def nearest(self, vector: Vectors, n: int) -> list[Candidate]:
        """Return the n chunks nearest to a vector, shape (dim,), best first; the score is the cosine similarity."""
        self._refresh()
        self._require_dimension(len(vector))
        with self._errors():
            found = self.collection.query(
                query_embeddings=vector[np.newaxis], n_results=n, include=["documents", "metadatas", "distances"]
            )
        ids, texts = found["ids"][0], (found["documents"] or [[]])[0]
        metadatas, distances = (found["metadatas"] or [[]])[0], (found["distances"] or [[]])[0]
        if not ids:
            raise self.empty()
        if None in metadatas:
            raise RagError(f"collection {self.name} is being changed: ask again")
        rows = zip(ids, texts, metadatas, distances, strict=True)
        return _CANDIDATES.validate_python(
            [
                {**_chunk_fields(identity, text, metadata), "retrieval": {"rank": rank, "score": 1.0 - distance}}
                for rank, (identity, text, metadata, distance) in enumerate(rows, 1)
            ]
        )

    def _refresh(self) -> None:
        """See what other processes wrote: an embedded Chroma goes on with the index that it has in memory."""
        stamps = self._stamps()
        if stamps == self._seen and not self.url:
            return
        with self._refreshing, self._errors():
            try:
                now = self._get()
                if self._collection is None or (now.id, now.metadata) != (self._collection.id, self._collection.metadata):
                    if not self.url:
                        SharedSystemClient.clear_system_cache()
                        self.client = _client(self.path, self.url)
                    self._collection = self._get()
                # Those of before: what is written meanwhile is seen by the next question.
                self._seen = stamps
            except NotFoundError:
                raise self.empty() from None

    def _stamps(self) -> list[tuple[int, int]]:
        """Return time and size of the files that an embedded Chroma writes first."""
        stamps = []
        for name in ("chroma.sqlite3", "chroma.sqlite3-wal"):
            with suppress(OSError):
                state = (self.path / name).stat()
                stamps.append((state.st_mtime_ns, state.st_size))
        return stamps

    def touch(self, every: float = 0.0) -> None:
        """Tell other processes that the collection has changed, at most once in so many seconds."""
        if self._collection is not None and time.monotonic() - self._touched >= every:
            self._touched = time.monotonic()
            with self._errors():
                self._collection.modify(metadata={**(self._collection.metadata or {}), "written": time.time_ns()})

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
        self.touch(every=2.0)

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


# Checked all at once: one by one takes half as long again.
_CANDIDATES = TypeAdapter(list[Candidate])
_CHUNK_FIELDS = ("title", "headings", "page", "position", "image")
_STORED_FIELDS = ("root", "document_hash", "n_chunks")


def _metadata(chunk: Chunk, stored: Stored) -> dict[str, str]:
    # Chroma keeps and reads a row per key: what is never filtered by goes into one.
    rest = {
        "chunk": {name: getattr(chunk, name) for name in _CHUNK_FIELDS},
        "stored": {name: getattr(stored, name) for name in _STORED_FIELDS},
    }
    return {"document": chunk.document, "language": chunk.language, "rest": orjson.dumps(rest).decode()}


def _chunk_fields(identity: str, text: str | None, metadata: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "text": text or "",
        "document": metadata["document"],
        "language": metadata["language"],
        **orjson.loads(metadata["rest"])["chunk"],
    }


def _stored(metadata: Any) -> Stored:
    rest = orjson.loads(metadata["rest"])
    return Stored(
        document=metadata["document"],
        language=metadata["language"],
        position=rest["chunk"]["position"],
        **rest["stored"],
    )
