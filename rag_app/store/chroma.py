"""The store in Chroma: a collection of chunks with their vectors, which is also told the recipe they were made by."""

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter

from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.store.chroma_client import Database, revision
from rag_app.store.chroma_rows import Row, chunk_fields, documents_of, metadata_of, newest, row_of
from rag_app.store.recipe import check_dimension, check_recipe
from rag_app.store.stored import REINDEX, REPLACED, EmptyCollectionError, StoredDocument, Version, is_database, meant
from rag_app.types import Candidate, Chunk
from rag_app.words import msg

_PAGE = 1000
# Documents that one filter may name; SQLite takes about 32,000 values.
_MOST_NAMED = 30_000
_NOT_RECIPE = ("dimension", "written")
# Chosen by benchmarks/recall.py and indexing.py. Chroma writes its whole index to disk every 1,000 chunks by default, so that
# storing slows down as a collection grows; what is not written yet costs time when it is opened, half a second for 1,000.
HNSW: Any = {"space": "cosine", "sync_threshold": 3000}
# Checked all at once: one by one takes half as long again.
_CANDIDATES = TypeAdapter(list[Candidate])


class ChromaStore:
    """One collection of one Chroma, embedded (a folder) or a server (a URL)."""

    def __init__(self, path: Path, url: str, collection: str, *, create: bool = False) -> None:
        """Open the collection. RagError if Chroma or the collection is not there; `create` makes what is missing."""
        self.path = path
        self.url = url
        self.place = url or str(path)
        self.name = collection
        self._create = create
        self._closed = False
        self._touched = 0.0
        if not url and not create and not is_database(path):
            raise self._empty()
        self._database = Database.shared(path, url)
        try:
            with self._reading():
                pass
        except RagError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of Chroma: the last store of a folder in this process to do so closes its files."""
        if not self._closed:
            self._closed = True
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _empty(self) -> EmptyCollectionError:
        return EmptyCollectionError.of(self.name, self.place)

    @contextmanager
    def _reading(self, *, reopen: bool = False) -> Iterator[Any]:
        """Lend the collection as it is now, with what other processes wrote; None where it is yet to be made."""
        with self._database.collection(self.name, reopen=reopen) as found:
            if found is None and not self._create:
                raise self._empty()
            yield found

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """Lend the collection. EmptyCollectionError where it is yet to be made."""
        with self._reading() as found:
            if found is None:
                raise self._empty()
            yield found

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

    @property
    def _recorded(self) -> dict[str, Any]:
        known = self._database.known(self.name)
        return dict(known.metadata or {}) if known else {}

    @property
    def recipe(self) -> dict[str, str]:
        """What the collection was made by, as `create` was told; empty while there is no collection."""
        return {name: str(value) for name, value in self._recorded.items() if name not in _NOT_RECIPE}

    @property
    def dimension(self) -> int | None:
        """The dimension of the collection's vectors, or None while there is no collection."""
        recorded = self._recorded.get("dimension")
        return recorded if isinstance(recorded, int) else None

    def require(self, recipe: dict[str, str]) -> None:
        """RagError, which names what differs, unless the collection is new or was made by this recipe."""
        if self._database.known(self.name):
            check_recipe(self.name, self.recipe, recipe)

    def create(self, recipe: dict[str, str], dimension: int) -> Self:
        """Make the collection, cosine, with its recipe, if it is not there."""
        if not self._database.known(self.name):
            # Another ingest may have made it a moment ago: then that one's recipe stands, and is checked below.
            self._database.create(self.name, metadata={**recipe, "dimension": dimension}, configuration={"hnsw": HNSW})
            self.require(recipe)
        check_dimension(self.name, self.dimension, dimension)
        return self

    def repair(self) -> None:
        """Give a collection its name back that a reindex was interrupted in; for who changes it, and holds its lock."""
        with self._reading() as found:
            if found is not None and found.name != self.name:
                found.modify(name=self.name)

    def replace(self, name: str) -> None:
        """Take the name of another collection, which is deleted; interrupted midway, `repair` completes it."""
        old = f"{name}{REPLACED}"
        self._database.delete(old)
        self._database.rename(name, old)
        with self._writing() as found:
            found.modify(name=name)
        self._database.delete(old)
        self.name = name

    def drop(self) -> None:
        """Delete the whole collection, and what a reindex that was interrupted left of an older one."""
        self._database.delete(self.name)
        self._database.delete(f"{self.name}{REPLACED}")
        self._create = True

    @property
    def revision(self) -> str:
        """Another text after each change of the collection: for who keeps what was read of it."""
        with self._writing() as found:
            return "/".join(revision(found))

    def touch(self, every: float = 0.0) -> None:
        """Tell other processes that the collection has changed, at most once in so many seconds."""
        if time.monotonic() - self._touched >= every:
            self._touched = time.monotonic()
            # What this process wrote itself it has in memory: nobody here may take it for another's.
            with self._database.lock, self._reading() as found:
                if found is not None:
                    found.modify(metadata={**(found.metadata or {}), "written": time.time_ns()})
                    self._database.note(self.name)

    def count(self) -> int:
        """Return the number of chunks."""
        with self._reading() as found:
            return found.count() if found is not None else 0

    def nearest(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return the n chunks nearest to a vector, shape (dim,), best first; the score is the cosine similarity.

        `only` names documents, or folders ending in "/", to look in. Of a document that is being replaced at this moment,
        only chunks of its new version.
        """
        where = self._where(only)
        found, replaced = self._query(vector, n, where)
        if replaced:
            found = self._query(vector, n + 2 * replaced, where)[0][:n]
        if not found and not only:
            raise self._empty()
        return _CANDIDATES.validate_python(
            [
                {**fields, "retrieval": {"rank": rank, "score": 1.0 - distance}}
                for rank, (fields, distance) in enumerate(found, 1)
            ]
        )

    def _where(self, only: Sequence[str]) -> Any:
        """Return Chroma's filter for what names mean (a document, a folder/, language:de); RagError if one means nothing."""
        languages, documents = meant(self.name, only, self.documents)
        if len(documents) > _MOST_NAMED:
            raise RagError(
                msg("the filter names {n:,} documents, more than {most:,}", n=len(documents), most=_MOST_NAMED),
                msg("choose smaller folders"),
            )
        values = {"language": languages, "document": documents}
        ways: list[Any] = [{field: {"$in": sorted(named)}} for field, named in values.items() if named]
        return {"$or": ways} if len(ways) > 1 else ways[0] if ways else None

    def _query(self, vector: Vectors, n: int, where: Any) -> tuple[list[tuple[dict[str, Any], float]], int]:
        """Return the nearest chunks (fields, distance), and how many were left out because a newer version is there."""
        for reopen in (False, True):
            # Opened again where the index in memory names what another process has deleted.
            with self._reading(reopen=reopen) as collection:
                if collection is None:
                    return [], 0
                check_dimension(self.name, self.dimension, len(vector))
                found: Any = collection.query(
                    query_embeddings=vector[np.newaxis],
                    n_results=n,
                    where=where,
                    include=["documents", "metadatas", "distances"],
                )
            if None not in found["metadatas"][0]:
                break
        else:
            raise RagError(msg("collection {collection} is being changed", collection=self.name), msg("try again"))
        rows = [self._row(metadata) for metadata in found["metadatas"][0]]
        current = [
            (chunk_fields(identity, text, row), distance)
            for identity, text, row, distance, is_newest in zip(
                found["ids"][0], found["documents"][0], rows, found["distances"][0], newest(rows), strict=True
            )
            if is_newest
        ]
        return current, len(rows) - len(current)

    def documents(self) -> dict[str, StoredDocument]:
        """Return what is stored, by document, in order of name."""
        with self._reading() as collection:
            if collection is None:
                return {}
            # The first chunk speaks for the rest, as long as there are no more and no fewer than the first ones say.
            rows = [row for row in self._rows(collection, {"first": True}) if row.chunk["position"] == 0]
            counts = {row.metadata["document"]: row.version["n_chunks"] for row in rows}
            if len(counts) != len(rows) or sum(counts.values()) != collection.count():
                rows = list(self._rows(collection, None))
                counts = Counter(row.metadata["document"] for row in rows)
        return {d.document: d for d in documents_of(rows, counts)}

    def document(self, name: str) -> StoredDocument | None:
        """Return one stored document, or None."""
        with self._reading() as collection:
            rows = list(self._rows(collection, {"document": name})) if collection is not None else []
        return next(documents_of(rows, {name: len(rows)}), None)

    def _rows(self, collection: Any, where: Any) -> Iterator[Row]:
        """Yield the row of every chunk, or of those that a filter chooses."""
        ids = collection.get(where=where, include=[])["ids"]
        # Chroma takes much memory for what it gives at once.
        for start in range(0, len(ids), _PAGE):
            for metadata in collection.get(ids=ids[start : start + _PAGE], include=["metadatas"])["metadatas"] or []:
                yield self._row(metadata)

    def _row(self, metadata: Any) -> Row:
        try:
            return row_of(metadata)
        except (KeyError, TypeError, ValueError):
            raise RagError(
                msg(
                    "collection {collection} in {place} was made by another version or program",
                    collection=self.name,
                    place=self.place,
                ),
                msg("choose a different name (RAG_COLLECTION), or `rag-app reset` it and ingest again"),
            ) from None

    def chunks_of(self, document: str) -> list[tuple[Chunk, Version, Vectors]]:
        """Return a document's chunks in order, each with its version and its vector, shape (dim,)."""
        with self._reading() as collection:
            if collection is None:
                return []
            found: Any = collection.get(where={"document": document}, include=["documents", "metadatas", "embeddings"])
        chunks = []
        if found["ids"]:
            for identity, text, metadata, vector in zip(
                found["ids"], found["documents"], found["metadatas"], found["embeddings"], strict=True
            ):
                row = self._row(metadata)
                chunk = Chunk(**chunk_fields(identity, text, row))
                chunks.append((chunk, Version(**row.version), np.asarray(vector, dtype=np.float32)))
        return sorted(chunks, key=lambda row: row[0].position)

    def put(self, chunks: Sequence[tuple[Chunk, Version]], vectors: Vectors) -> None:
        """Store chunks with their vectors, shape (len(chunks), dim); an id that is there is replaced.

        As many as Chroma takes in one call (`most_at_once`) are seen by a question all at once or not at all.
        """
        with self._writing():
            check_dimension(self.name, self.dimension, vectors.shape[1])
        self._in_parts(
            len(chunks),
            lambda collection, part: collection.upsert(
                ids=[chunk.id for chunk, _ in chunks[part]],
                embeddings=vectors[part],
                documents=[chunk.text for chunk, _ in chunks[part]],
                metadatas=[metadata_of(chunk, version) for chunk, version in chunks[part]],
            ),
        )
        self.touch(every=2.0)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks by id."""
        self._in_parts(len(ids), lambda collection, part: collection.delete(ids=list(ids[part])))

    def forget(self, document: str) -> int:
        """Remove a document; return how many chunks it had."""
        ids = [chunk.id for chunk, _, _ in self.chunks_of(document)]
        self.delete(ids)
        return len(ids)

    @property
    def most_at_once(self) -> int:
        """How many records Chroma takes in one call (5,461 embedded)."""
        return self._database.most_at_once

    def _in_parts(self, n: int, write: Callable[[Any, slice], object]) -> None:
        size = self.most_at_once
        for start in range(0, n, size):
            with self._writing() as collection:
                write(collection, slice(start, start + size))


def collections(path: Path, url: str) -> list[str]:
    """Return the names of the collections that there are, without those that a reindex is making or has replaced."""
    if not url and not is_database(path):
        return []
    with closing(Database.shared(path, url)) as database:
        names = {name.removesuffix(REPLACED) for name in database.names()}
    return sorted(name for name in names if not name.endswith(REINDEX))
