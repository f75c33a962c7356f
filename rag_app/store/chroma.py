"""Chroma: the only file that knows it. A collection holds chunks with their vectors, and the recipe they were made by."""

import hashlib
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import chromadb
import httpx
import numpy as np
import orjson
from chromadb.api import fastapi
from chromadb.api.models.Collection import Collection
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings as ChromaSettings
from chromadb.config import System
from chromadb.errors import ChromaError, NotFoundError
from pydantic import TypeAdapter

from rag_app.endpoints.embeddings import Vectors
from rag_app.endpoints.http import DIRECT
from rag_app.errors import RagError
from rag_app.store.records import (
    DATABASE,
    LANGUAGE,
    REINDEX,
    REPLACED,
    EmptyCollectionError,
    RecipeError,
    StoredDocument,
    Version,
    is_database,
)
from rag_app.types import Candidate, Chunk

_PAGE = 1000
# Documents that one filter may name; SQLite takes about 32,000 values.
_MOST_NAMED = 30_000
_LITTLE_ROOM = 10_000_000
_NOT_RECIPE = ("dimension", "written")
# Chosen by benchmarks/recall.py and indexing.py. Chroma writes its whole index to disk every 1,000 chunks by default, so that
# storing slows down as a collection grows; what is not written yet costs time when it is opened, half a second for 1,000.
HNSW: Any = {"space": "cosine", "sync_threshold": 3000}


@dataclass
class _Memory:
    """What this process knows of an embedded Chroma's index in its memory: how often it was opened, as of which writing."""

    opened: int = 0
    written: dict[str, tuple[str, str]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


_MEMORIES: dict[str, _Memory] = {}


class ChromaStore:
    """One collection of one Chroma, embedded (a folder) or a server (a URL)."""

    def __init__(self, path: Path, url: str, collection: str, *, create: bool = False) -> None:
        """Open the collection. RagError if Chroma or the collection is not there; `create` makes what is missing."""
        self.path = path
        self.url = url
        self.place = url or str(path)
        self.name = collection
        self._collection: Collection | None = None
        self._seen: list[tuple[int, int]] = []
        self._opened = 0
        self._touched = 0.0
        if not url and not create and not is_database(path):
            raise EmptyCollectionError.of(self.name, self.place)
        with self._errors():
            self.client = _client(path, url)
            try:
                self._collection = self._get()
                self._refresh()
            except NotFoundError:
                if not create:
                    raise EmptyCollectionError.of(self.name, self.place) from None

    def close(self) -> None:
        """Let go of Chroma: the last store of a folder in this process to do so closes its files."""
        memory = _MEMORIES.setdefault(self.place, _Memory())
        with memory.lock:
            # One that was reopened since is no longer counted by Chroma.
            if self._opened == memory.opened:
                self.client.close()

    def _get(self) -> Collection:
        # The vectors come from our own endpoint: Chroma must not bring a model.
        try:
            found: Collection = self.client.get_collection(self.name, embedding_function=None)
        except NotFoundError:
            # A reindex is, or was broken off, between its two renames.
            found = self.client.get_collection(f"{self.name}{REPLACED}", embedding_function=None)
        return found

    def sibling(self, name: str) -> Self:
        """Return another collection of the same database, which is made when something is stored in it."""
        return type(self)(self.path, self.url, name, create=True)

    @property
    def lock_file(self) -> Path:
        """The file whose lock whoever changes the collection holds: beside an embedded Chroma; of a server, on this machine."""
        if not self.url:
            return self.path.resolve() / f"{self.name}.lock"
        key = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"rag-app-{key}-{self.name}.lock"

    def repair(self) -> None:
        """Give a collection its name back that a reindex was broken off from; for who changes it, and holds its lock."""
        if self._collection is not None and self._collection.name != self.name:
            with self._errors():
                self._collection.modify(name=self.name)

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
            raise EmptyCollectionError.of(self.name, self.place)
        return self._collection

    @property
    def recipe(self) -> dict[str, str]:
        """What the collection was made by, as `create` was told; empty while there is no collection."""
        known = (self._collection.metadata or {}) if self._collection else {}
        return {name: str(value) for name, value in known.items() if name not in _NOT_RECIPE}

    @property
    def dimension(self) -> int | None:
        """The dimension of the collection's vectors, or None while there is no collection."""
        recorded = (self._collection.metadata or {}).get("dimension") if self._collection else None
        return recorded if isinstance(recorded, int) else None

    def require(self, recipe: dict[str, str]) -> None:
        """RagError, which names what differs, unless the collection is new or was made by this recipe."""
        if self._collection is None:
            return
        old = self.recipe
        differs = [
            f"{name.replace('_', ' ')} {old.get(name, 'unknown')!r}, not {wanted!r}"
            for name, wanted in recipe.items()
            if old.get(name) != wanted
        ]
        if differs:
            raise RecipeError(
                f"collection {self.name} was made with {', '.join(differs)}: "
                "put the settings back as they were, or make it anew with `rag-app reindex`"
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
                    configuration={"hnsw": HNSW},
                )
            self.require(recipe)
        self._require_dimension(dimension)
        return self

    def _require_dimension(self, dimension: int) -> None:
        if self.dimension != dimension:
            raise RagError(
                f"collection {self.name} has {self.dimension} dimensions, but its model now returned {dimension}: "
                "the endpoint serves another model; make the collection anew with `rag-app reindex`"
            )

    def replace(self, name: str) -> None:
        """Take the name of another collection, which is deleted; broken off midway, `repair` completes it."""
        old = f"{name}{REPLACED}"
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
        """Delete the whole collection, and what a reindex that was broken off left of an older one."""
        if self._collection is not None:
            with self._errors():
                self.client.delete_collection(self._collection.name)
                with suppress(NotFoundError):
                    self.client.delete_collection(f"{self.name}{REPLACED}")
            self._collection = None

    @property
    def revision(self) -> str:
        """Another text after each change of the collection: for who keeps what was read of it."""
        self._refresh()
        return "/".join(_written(self.collection))

    def count(self) -> int:
        """Return the number of chunks."""
        if self._collection is None:
            return 0
        self._refresh()
        return self._count()

    def _count(self) -> int:
        with self._errors():
            return self.collection.count()

    def nearest(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return the n chunks nearest to a vector, shape (dim,), best first; the score is the cosine similarity.

        `only` names documents, or folders ending in "/", to look in. Of a document that is being replaced at this moment,
        only chunks of its new version.
        """
        self._refresh()
        self._require_dimension(len(vector))
        where = self._where(only)
        found, replaced = self._query(vector, n, where)
        if replaced:
            found = self._query(vector, n + 2 * replaced, where)[0][:n]
        if not found and not only:
            raise EmptyCollectionError.of(self.name, self.place)
        return _CANDIDATES.validate_python(
            [
                {**_chunk_fields(identity, text, metadata, rest), "retrieval": {"rank": rank, "score": 1.0 - distance}}
                for rank, (identity, text, metadata, rest, distance) in enumerate(found, 1)
            ]
        )

    def _where(self, only: Sequence[str]) -> Any:
        """Return Chroma's filter for what names mean (a document, a folder/, language:de); RagError if one means nothing."""
        languages = [name.removeprefix(LANGUAGE) for name in only if name.startswith(LANGUAGE)]
        names = [name for name in only if not name.startswith(LANGUAGE)]
        ways: list[Any] = [{"language": {"$in": languages}}] if languages else []
        if names:
            stored = self.documents()
            below = {name: [d for d in stored if d == name or (name.endswith("/") and d.startswith(name))] for name in names}
            if gone := [name for name, found in below.items() if not found]:
                raise RagError(f"not in collection {self.name} any more: {', '.join(gone)}; take it out of the filter")
            documents = sorted({document for found in below.values() for document in found})
            if len(documents) > _MOST_NAMED:
                raise RagError(
                    f"the filter names {len(documents):,} documents, more than {_MOST_NAMED:,}; choose smaller folders"
                )
            ways.append({"document": {"$in": documents}})
        return {"$or": ways} if len(ways) > 1 else ways[0] if ways else None

    def _query(self, vector: Vectors, n: int, where: Any) -> tuple[list[tuple[str, str, Any, Any, float]], int]:
        """Return the nearest chunks (id, text, metadata, decoded rest, distance), and how many old ones were left out."""
        for anew in (False, True):
            if anew:
                # The index in memory names what another process has deleted.
                self._refresh(anew=True)
            with self._errors():
                found: Any = self.collection.query(
                    query_embeddings=vector[np.newaxis],
                    n_results=n,
                    where=where,
                    include=["documents", "metadatas", "distances"],
                )
            ids, texts = found["ids"][0], (found["documents"] or [[]])[0]
            metadatas, distances = (found["metadatas"] or [[]])[0], (found["distances"] or [[]])[0]
            if None not in metadatas:
                break
        else:
            raise RagError(f"collection {self.name} is being changed: ask again")
        rests = [self._rest(metadata) for metadata in metadatas]
        newest: dict[str, dict[str, Any]] = {}
        for metadata, rest in zip(metadatas, rests, strict=True):
            version = newest.setdefault(metadata["document"], rest["version"])
            if rest["version"]["when"] > version["when"]:
                newest[metadata["document"]] = rest["version"]
        current = [
            (identity, text, metadata, rest, distance)
            for identity, text, metadata, rest, distance in zip(ids, texts, metadatas, rests, distances, strict=True)
            if rest["version"] == newest[metadata["document"]]
        ]
        return current, len(ids) - len(current)

    def _refresh(self, *, anew: bool = False) -> None:
        """See what other processes wrote: an embedded Chroma goes on with the index that it has in memory.

        That one is shared by all stores of a folder in this process, and so is what is known of it.
        """
        stamps = self._stamps()
        memory = _MEMORIES.setdefault(self.place, _Memory())
        if stamps == self._seen and self._opened == memory.opened and not (self.url or anew):
            return
        with memory.lock, self._errors():
            try:
                now = self._get()
                written = _written(now)
                if not self.url and (anew or memory.written.setdefault(self.name, written) != written):
                    SharedSystemClient.clear_system_cache()
                    memory.opened += 1
                    memory.written = {self.name: written}
                if self._opened != memory.opened:
                    self.client = _client(self.path, self.url)
                    self._opened = memory.opened
                    now = self._get()
                self._collection = now
                # Those of before: what is written meanwhile is seen by the next question.
                self._seen = stamps
            except NotFoundError:
                raise EmptyCollectionError.of(self.name, self.place) from None

    def _stamps(self) -> list[tuple[int, int]]:
        """Return time and size of the files that an embedded Chroma writes first."""
        stamps = []
        for name in (DATABASE, f"{DATABASE}-wal"):
            with suppress(OSError):
                state = (self.path / name).stat()
                stamps.append((state.st_mtime_ns, state.st_size))
        return stamps

    def touch(self, every: float = 0.0) -> None:
        """Tell other processes that the collection has changed, at most once in so many seconds."""
        if self._collection is not None and time.monotonic() - self._touched >= every:
            self._touched = time.monotonic()
            memory = _MEMORIES.setdefault(self.place, _Memory())
            # What this process wrote itself it has in memory: nobody here may take it for another's.
            with memory.lock, self._errors():
                self._collection.modify(metadata={**(self._collection.metadata or {}), "written": time.time_ns()})
                memory.written[self.name] = _written(self._get())

    def documents(self) -> dict[str, StoredDocument]:
        """Return what is stored, by document, in order of name."""
        if self._collection is None:
            return {}
        self._refresh()
        # The first chunk speaks for the rest, as long as there are no more and no fewer than the first ones say.
        firsts = [row for row in self._pages({"first": True}) if row[1]["chunk"]["position"] == 0]
        names = {metadata["document"] for metadata, _ in firsts}
        if len(names) == len(firsts) and sum(rest["version"]["n_chunks"] for _, rest in firsts) == self._count():
            counts = {metadata["document"]: rest["version"]["n_chunks"] for metadata, rest in firsts}
            return {d.document: d for d in sorted(_documents(firsts, counts), key=lambda d: d.document)}
        rows = list(self._pages(None))
        counts = Counter(metadata["document"] for metadata, _ in rows)
        return {d.document: d for d in sorted(_documents(rows, counts), key=lambda d: d.document)}

    def document(self, name: str) -> StoredDocument | None:
        """Return one stored document, or None."""
        if self._collection is None:
            return None
        self._refresh()
        rows = list(self._pages({"document": name}))
        return next(_documents(rows, {name: len(rows)}), None)

    def _pages(self, where: Any) -> Iterator[tuple[Any, Any]]:
        """Yield metadata and its decoded rest of every chunk, or of those that a filter chooses."""
        with self._errors():
            ids = self.collection.get(where=where, include=[])["ids"]
            # Chroma takes much memory for what it gives at once.
            for start in range(0, len(ids), _PAGE):
                for metadata in self.collection.get(ids=ids[start : start + _PAGE], include=["metadatas"])["metadatas"] or []:
                    yield metadata, self._rest(metadata)

    def _rest(self, metadata: Any) -> Any:
        """Return what is written of a chunk in one piece. RagError if something else wrote it."""
        try:
            rest = orjson.loads(metadata["rest"])
            _ = rest["chunk"], rest["version"]
        except (KeyError, TypeError, ValueError):
            raise RagError(
                f"collection {self.name} in {self.place} was made by another version or program: "
                "take another name (RAG_COLLECTION), or `rag-app reset` it and ingest anew"
            ) from None
        return rest

    def chunks_of(self, document: str) -> list[tuple[Chunk, Version, Vectors]]:
        """Return a document's chunks in order, each with its version and its vector, shape (dim,)."""
        if self._collection is None:
            return []
        self._refresh()
        with self._errors():
            found: Any = self._collection.get(where={"document": document}, include=["documents", "metadatas", "embeddings"])
        texts, metadatas, vectors = found["documents"] or [], found["metadatas"] or [], found["embeddings"]
        rows = []
        for identity, text, metadata, vector in zip(found["ids"], texts, metadatas, vectors if texts else [], strict=True):
            rest = self._rest(metadata)
            chunk = Chunk(**_chunk_fields(identity, text, metadata, rest))
            rows.append((chunk, Version(**rest["version"]), np.asarray(vector, dtype=np.float32)))
        return sorted(rows, key=lambda row: row[0].position)

    def put(self, chunks: Sequence[tuple[Chunk, Version]], vectors: Vectors) -> None:
        """Store chunks with their vectors, shape (len(chunks), dim); an id that is there is replaced.

        As many as Chroma takes in one call (`most_at_once`) are seen by a question all at once or not at all.
        """
        self._require_dimension(vectors.shape[1])

        def write(part: slice) -> None:
            self.collection.upsert(
                ids=[chunk.id for chunk, _ in chunks[part]],
                embeddings=vectors[part],
                documents=[chunk.text for chunk, _ in chunks[part]],
                metadatas=[_metadata(chunk, version) for chunk, version in chunks[part]],
            )

        self._in_parts(len(chunks), write)
        self.touch(every=2.0)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks by id."""
        self._in_parts(len(ids), lambda part: self.collection.delete(ids=list(ids[part])))

    def forget(self, document: str) -> int:
        """Remove a document; return how many chunks it had."""
        ids = [chunk.id for chunk, _, _ in self.chunks_of(document)]
        self.delete(ids)
        return len(ids)

    @property
    def most_at_once(self) -> int:
        """How many records Chroma takes in one call (5,461 embedded)."""
        with self._errors():
            return int(self.client.get_max_batch_size())

    def _in_parts(self, n: int, write: Callable[[slice], object]) -> None:
        size = self.most_at_once
        with self._errors():
            for start in range(0, n, size):
                write(slice(start, start + size))


def collections(path: Path, url: str) -> list[str]:
    """Return the names of the collections that there are, without those that a reindex is making or has replaced."""
    if not url and not is_database(path):
        return []
    try:
        found = [collection.name for collection in _client(path, url).list_collections()]
    except (ChromaError, ValueError, OSError, RuntimeError, sqlite3.Error, httpx.HTTPError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RagError(f"Chroma at {url or path}: {reason[:300]}; check RAG_CHROMA_PATH or RAG_CHROMA_URL") from error
    names = {name.removesuffix(REPLACED) for name in found}
    return sorted(name for name in names if not name.endswith(REINDEX))


class _DirectAPI(fastapi.FastAPI):
    """Chroma's client of a server. Chroma has no setting for proxies: none stands between a machine and itself."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._session.close()
        self._session = httpx.Client(
            timeout=self._session.timeout, limits=self.http_limits, headers=self._session.headers, mounts=DIRECT
        )


# Chroma looks its client up by this name, and takes none of another.
fastapi.FastAPI = _DirectAPI  # type: ignore[misc]


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
_CHUNK_FIELDS = ("title", "headings", "page", "position", "start", "end", "image")


def _written(collection: Collection) -> tuple[str, str]:
    return str(collection.id), str((collection.metadata or {}).get("written"))


def _documents(rows: Sequence[tuple[Any, Any]], counts: Mapping[str, int]) -> Iterator[StoredDocument]:
    """Yield the documents that chunks belong to, each in its newest version."""
    versions: dict[str, list[tuple[Version, Any, Any]]] = {}
    for metadata, rest in rows:
        versions.setdefault(metadata["document"], []).append((Version(**rest["version"]), metadata, rest))
    for name, found in versions.items():
        version, metadata, rest = max(found, key=lambda row: row[0].when)
        yield StoredDocument(
            document=name,
            title=rest["chunk"]["title"],
            language=metadata["language"],
            chunks=counts[name],
            whole=counts[name] == version.n_chunks and all(other == version for other, _, _ in found),
            version=version,
        )


def _metadata(chunk: Chunk, version: Version) -> dict[str, str | bool]:
    # Chroma keeps and reads a row per key: what is never filtered by goes into one.
    rest = {"chunk": {name: getattr(chunk, name) for name in _CHUNK_FIELDS}, "version": asdict(version)}
    first = {"first": True} if chunk.position == 0 else {}
    return {"document": chunk.document, "language": chunk.language, "rest": orjson.dumps(rest).decode(), **first}


def _chunk_fields(identity: str, text: str | None, metadata: Any, rest: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "text": text or "",
        "document": metadata["document"],
        "language": metadata["language"],
        **rest["chunk"],
    }
