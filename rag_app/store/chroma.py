"""The store in Chroma: a collection of chunks with their vectors, which is also told the recipe they were made by."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import wraps
from itertools import islice
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np

from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.settings import Settings
from rag_app.store import chroma_rows as rows
from rag_app.store.chroma_calls import LOOKS, Calls
from rag_app.store.chroma_client import CLEAN, DOCUMENTS, Database, Opened, revision
from rag_app.store.chroma_errors import NoVectorsError
from rag_app.store.chroma_search import Search
from rag_app.store.chroma_write import Change
from rag_app.store.lease import lease
from rag_app.store.locks import file_lock
from rag_app.store.recipe import check_dimension, check_recipe
from rag_app.store.stored import (
    REINDEX,
    REPLACED,
    Changes,
    EmptyCollectionError,
    Listing,
    Near,
    StoredDocument,
    Where,
    Written,
    is_database,
)
from rag_app.types import WHERE, Candidate, Chunk

T = TypeVar("T")
P = ParamSpec("P")
_NOT_RECIPE = ("dimension", "written", CLEAN, DOCUMENTS)
# Chosen by benchmarks/recall.py, beside.py and million.py. Embedded, a write reads all that the index on disk lacks, for which
# questions wait; of a large index, it takes seconds to write on disk who owns which vector, and more must be looked at.
HNSW: Any = {"space": "cosine", "ef_search": 200, "sync_threshold": 3000}
SMALL: Any = {**HNSW, "sync_threshold": 1000}
GROWN: dict[int, Any] = {500_000: {"ef_search": 300, "sync_threshold": 8000}, 100_000: {"sync_threshold": 3000}}
# Values of a field that are listed and counted.
MOST_VALUES = 100
# Of a filter of Chroma Cloud.
_CONDITIONS = 8


def _writes(method: Callable[P, T]) -> Callable[P, T]:
    """Have a method of the store write alone: what copies the files waits for its end."""

    @wraps(method)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        store: Any = args[0]
        with store._database.write():
            return method(*args, **kwargs)

    return alone


class ChromaStore:
    """One collection of one Chroma, embedded (a folder) or a server (a URL)."""

    def __init__(self, where: Where, collection: str, *, create: bool = False) -> None:
        """Open the collection. RagError if Chroma or the collection is not there; `create` makes what is missing."""
        self.where = where
        self.place = where.place
        self.name = collection
        self._create = create
        self._closed = False
        if not where.url and not create and not is_database(where.path):
            raise self._empty()
        self._database = Database.shared(where)
        self._calls = Calls(self._database, collection)
        try:
            if not create:
                self.check()
        except RagError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of Chroma: the last store of a place in this process to do so closes its files."""
        if not self._closed:
            self._closed = True
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def check(self) -> None:
        """EmptyCollectionError if there is no such collection."""
        if not self._database.there(self.name) and not self._database.there(f"{self.name}{REPLACED}"):
            raise self._empty()

    def _empty(self) -> EmptyCollectionError:
        return EmptyCollectionError.of(self.name, self.place)

    def _read(self) -> Opened | None:
        """Return the collection as it is now; None where it is yet to be made."""
        found = self._database.collection(self.name)
        if found is None and not self._create:
            raise self._empty()
        if found is not None:
            self._database.ready(found.documents)
        return found

    def _there(self) -> Opened:
        """Return the collection as it is now. EmptyCollectionError where it is yet to be made."""
        found = self._read()
        if found is None:
            raise self._empty()
        return found

    def sibling(self, name: str) -> Self:
        """Return another collection of the same database, which is made when something is stored in it."""
        return type(self)(self.where, name, create=True)

    def lock(self, part: str = "") -> AbstractContextManager[None]:
        """Hold the lock that whoever changes the collection holds: files beside an embedded Chroma, a lease on a server."""
        if self.where.url:
            return lease(self._database, self.name, part)
        return file_lock(self.where.path.resolve(), self.name, part)

    @property
    def _recorded(self) -> dict[str, Any]:
        found = self._read()
        return dict(found.chunks.metadata or {}) if found else {}

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
        if recorded := self.recipe:
            check_recipe(self.name, recorded, recipe)

    @_writes
    def create(self, recipe: dict[str, str], dimension: int) -> Self:
        """Make the collection, cosine, with its recipe, if it is not there."""
        if self._database.collection(self.name) is None:
            # Another ingest may have made it a moment ago: then that one's recipe stands, and is checked below.
            metadata = {**recipe, "dimension": dimension, CLEAN: not self.where.url}
            self._database.create(self.name, metadata, {"hnsw": HNSW if self.where.url else SMALL})
            self.require(recipe)
        check_dimension(self.name, self.dimension, dimension)
        return self

    @_writes
    def recover(self) -> None:
        """Give a collection its name back that a reindex was interrupted in; for who changes it, and holds its lock."""
        if not self._database.there(self.name):
            self._database.rename(f"{self.name}{REPLACED}", self.name)

    @_writes
    def replace(self, name: str) -> None:
        """Take the name of another collection, which is deleted; interrupted midway, `recover` completes it.

        It may be asked for twice, by who does not know whether it was done.
        """
        old = f"{name}{REPLACED}"
        if self._database.there(self.name) or not self._database.there(name):
            self._there()
            self._database.delete(old)
            self._database.rename(name, old)
            self._database.rename(self.name, name)
        self._database.delete(old)
        self.name = name

    @_writes
    def drop(self) -> None:
        """Delete the whole collection, and what a reindex that was interrupted left of an older one."""
        self._database.delete(self.name)
        self._database.delete(f"{self.name}{REPLACED}")

    @property
    def revision(self) -> str:
        """Another text after each change of the collection: for who keeps what was read of it."""
        return revision(self._there().chunks)

    @contextmanager
    def _changing(self, opened: Opened) -> Iterator[None]:
        """Change documents. Until the end the collection is not clean: there may be chunks of versions that nobody sees."""
        was_clean = bool((opened.chunks.metadata or {}).get(CLEAN))
        if was_clean:
            self._mark(opened, clean=False)
        yield
        # What an earlier run left unfinished stays so until it is stored again or forgotten.
        # On a server others may write side by side.
        clean = not self.where.url and (was_clean or not self._calls.documents_where(opened, {"unfinished": True}, 1))
        self._mark(opened, clean=clean)
        if not self.where.url:
            self._grow(opened)

    def _mark(self, opened: Opened, *, clean: bool) -> None:
        metadata = {**(opened.chunks.metadata or {}), "written": time.time_ns(), CLEAN: clean}
        self._database.call(lambda: opened.chunks.modify(metadata=metadata))

    def _grow(self, opened: Opened) -> None:
        """Have an index that is no longer small be written to disk less often, once it has been opened anew."""
        index: Any = opened.chunks.configuration_json.get("hnsw") or {}
        n = self._database.call(opened.chunks.count)
        wanted: Any = next((wanted for least, wanted in GROWN.items() if n >= least), {})
        if any(index.get(name, value) < value for name, value in wanted.items()):
            with warnings.catch_warnings():
                # Chroma warns of a collection without an embedding function, as all of ours are.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._database.call(lambda: opened.chunks.modify(configuration={"hnsw": wanted}))
            self._database.to_reopen = True

    def count(self) -> int:
        """Return the number of chunks."""
        found = self._read()
        return self._database.call(self._database.ready(found.chunks).count) if found is not None else 0

    def nearest(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return the n chunks nearest to a vector, shape (dim,), best first; the score is the cosine similarity.

        `only` names documents, or folders ending in "/", to look in. Each document is seen in one version, wholly.
        """
        search = self._search(vector, there=not only)
        found = search.nearest(vector, n, only) if search else []
        if not found and not only:
            raise self._empty()
        return found

    def near(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Near]:
        """Return what `nearest` finds as rows without their texts."""
        search = self._search(vector, there=not only)
        found = search.near(vector, n, only) if search else []
        if not found and not only:
            raise self._empty()
        return found

    def chunks(self, found: Sequence[str]) -> dict[str, Chunk]:
        """Return the chunks of rows that are seen: each document in one version."""
        search = self._search()
        return search.chunks(found) if search and found else {}

    def rows_of(self, documents: Sequence[str]) -> dict[str, Chunk]:
        """Return the chunks of documents that are seen, by row."""
        search = self._search()
        return search.rows_of(documents) if search and documents else {}

    def _search(self, vector: Vectors | None = None, *, there: bool = False) -> Search | None:
        """Return what asks the collection; None where it is yet to be made, if it need not be there."""
        # Before the collection: what it says of itself is true as long as nobody has written since.
        state = self._database.state
        opened = self._there() if there else self._read()
        if opened is None:
            return None
        if vector is not None:
            check_dimension(self.name, (opened.chunks.metadata or {}).get("dimension"), len(vector))
        self._database.ready(opened.chunks)
        return Search(self._calls, opened, self.name, state)

    def changes(self, since: int = 0) -> Changes:
        """Return the documents that were stored at this time or after, in nanoseconds; 0 = all that there are."""
        opened = self._read()
        if opened is None:
            return Changes({}, 0, 0)
        where = {rows.CHANGED: {"$gte": since}} if since else {"kind": rows.DOCUMENT}
        found = [row for page in self._calls.pages(opened.documents, where, ["metadatas"]) for row in page["metadatas"]]
        return Changes(
            {row["document"]: row["tag"] for row in found if row["tag"]},
            self._n_documents(opened) - sum(len(p["ids"]) for p in self._calls.pages(opened.documents, {"tag": ""}, [])),
            max((row[rows.CHANGED] for row in found), default=since),
        )

    def _n_documents(self, opened: Opened) -> int:
        """Return how many documents there are: rows that are none of a folder, a language or a value."""
        others = self._calls.pages(opened.documents, {"kind": {"$in": rows.FACETS}}, [])
        return int(self._database.call(opened.documents.count)) - sum(len(page["ids"]) for page in others)

    def documents(self, names: Sequence[str] | None = None) -> dict[str, StoredDocument]:
        """Return what is stored, by document, in order of name; or of these names, what is."""
        opened = self._read()
        if opened is None:
            return {}
        found = self._calls.documents_where(opened, None) if names is None else self._calls.documents_by_name(opened, names)
        return {d.document: d for d in sorted(found, key=lambda d: d.document)}

    def listing(self, folder: str = "", words: Sequence[str] = (), most: int = 1000) -> Listing:
        """Return what there is to choose from: see Listing."""
        opened = self._read()
        if opened is None:
            return Listing((), (), (), 0, 0, whole=True)
        pages = self._calls.pages

        def names(where: Any) -> list[str]:
            found = (
                row["document"] for page in pages(opened.documents, where, ["metadatas"], most) for row in page["metadatas"]
            )
            return list(islice(found, most))

        languages = names({"kind": rows.LANGUAGE})
        n_documents = self._n_documents(opened)
        few = n_documents <= most
        inside = [{rows.folder_key(folder): folder}] if folder else []
        if words:
            sought = rows.Sought(words)
            where = [{"kind": rows.DOCUMENT}, *inside, *sought.where(_CONDITIONS - 2)]
            found = self._calls.documents_where(opened, _all(where), most, sought)
        elif few:
            found = self._calls.documents_where(opened, _all([{"kind": rows.DOCUMENT}, *inside]), most)
        else:
            found = self._calls.documents_where(opened, _all([{"kind": rows.DOCUMENT}, {"folder": folder}]), most)
        return Listing(
            documents=tuple(sorted(found, key=lambda d: d.document)),
            folders=tuple(sorted(names(_all([{"kind": rows.FOLDER}, *([] if few else [{"folder": folder}])])))),
            languages=tuple(sorted(languages)),
            n_documents=n_documents,
            n_chunks=self.count(),
            whole=few and not folder and not words,
            fields={} if folder or words else self._counted(opened),
        )

    def _counted(self, opened: Opened) -> dict[str, dict[str, int]]:
        """Return how many documents have each value, by field; of a field with more values than can be picked from, none."""
        found = self._calls.pages(opened.documents, {"kind": rows.FIELD}, ["metadatas"])
        values = sorted(row["document"] for page in found for row in page["metadatas"])
        counts: dict[str, dict[str, int]] = {name: {} for name in map(_field_of, values)}
        n_values = Counter(map(_field_of, values))
        for value in values:
            if n_values[_field_of(value)] > MOST_VALUES:
                continue
            having = self._calls.pages(
                opened.documents, _all([{"kind": rows.DOCUMENT}, rows.facet_where(rows.FIELD, value)]), []
            )
            name, _, shown = value.removeprefix(WHERE).partition("=")
            counts.setdefault(name, {})[shown] = sum(len(page["ids"]) for page in having)
        return counts

    def document(self, name: str) -> StoredDocument | None:
        """Return one stored document, or None."""
        return self.documents([name]).get(name)

    def chunks_of(self, document: str, *, unfinished: bool = False) -> list[tuple[Chunk, Vectors]]:
        """Return a document's chunks in order, each with its vector, shape (dim,).

        `unfinished` gives those of all versions instead, also of one that a run which broke off did not complete.
        """
        opened = self._read()
        if opened is None:
            return []
        try:
            return self._chunks_of(opened, document, unfinished=unfinished)
        except NoVectorsError:
            # Of what was not completed nothing can be used again.
            if unfinished:
                return []
            raise

    def _chunks_of(self, opened: Opened, document: str, *, unfinished: bool) -> list[tuple[Chunk, Vectors]]:
        self._database.ready(opened.chunks)
        chunks: list[tuple[Chunk, Vectors]] = []
        for _ in range(LOOKS):
            (row,) = self._calls.document_rows(opened, [document]) or [None]
            if row is None:
                return []
            chunks = [
                (Chunk(**self._calls.read_as(rows.chunk_of, row_id, text, metadata)), np.asarray(vector, dtype=np.float32))
                for page in self._calls.pages(opened.chunks, {"document": document}, ["documents", "metadatas", "embeddings"])
                for row_id, text, metadata, vector in zip(
                    page["ids"], page["documents"], page["metadatas"], page["embeddings"], strict=True
                )
                if unfinished or rows.tag_of(row_id) == row["tag"]
            ]
            if unfinished or len(chunks) == self._calls.read_as(rows.document_of, row).chunks or not row["tag"]:
                break
        return sorted(chunks, key=lambda found: found[0].position)

    @_writes
    def put(self, documents: Sequence[Written], gone: Sequence[str] = ()) -> int:
        """Store documents, each in place of what is stored under its name, and take away those that are gone.

        A question sees each in its old version or the new one. Return how many chunks are no longer there. Interrupted,
        it leaves documents that are not `whole`: stored again, or forgotten, they are.
        """
        opened = self._there()
        self._database.ready(opened.chunks)
        for written in documents:
            check_dimension(self.name, (opened.chunks.metadata or {}).get("dimension"), written.vectors.shape[1])
        with self._changing(opened):
            change = Change(self._calls, opened)
            return change.put(documents) + change.forget(gone)

    @_writes
    def forget(self, documents: Sequence[str]) -> dict[str, int]:
        """Remove documents; return how many chunks each had."""
        opened = self._read()
        if opened is None:
            return dict.fromkeys(documents, 0)
        self._database.ready(opened.chunks)
        with self._changing(opened):
            change = Change(self._calls, opened)
            return {document: change.forget([document]) for document in documents}

    @_writes
    def wipe(self) -> None:
        """Take the text of what was deleted out of an embedded Chroma's file; a server's files are its own."""
        if not self.where.url:
            self._database.wipe()


def _field_of(value: str) -> str:
    """Return the field of a value as a filter names it."""
    return value.removeprefix(WHERE).partition("=")[0]


def _all(conditions: Sequence[dict[str, Any]]) -> Any:
    """Return Chroma's filter for what meets all conditions."""
    return {"$and": list(conditions)} if len(conditions) > 1 else conditions[0]


def where(settings: Settings) -> Where:
    """Return the Chroma that the settings mean."""
    return Where(
        settings.chroma_path, settings.chroma_url, settings.chroma_api_key, settings.chroma_tenant, settings.chroma_database
    )


def collections(where: Where) -> list[str]:
    """Return the names of the collections that there are, without those that a reindex is making or has replaced."""
    if not where.url and not is_database(where.path):
        return []
    with closing(Database.shared(where)) as database:
        names = {name.removesuffix(REPLACED) for name in database.names()}
    return sorted(name for name in names if not name.endswith(REINDEX))
