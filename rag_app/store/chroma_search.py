"""Questions to a collection in Chroma: the nearest chunks, of which each document is seen in one version."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.store import chroma_rows as rows
from rag_app.store.chroma_calls import LOOKS, Calls, columns
from rag_app.store.chroma_client import CLEAN, Opened
from rag_app.store.stored import LANGUAGE, Filter, Near, StoredDocument
from rag_app.types import WHERE, Candidate, Chunk
from rag_app.words import msg

# Checked all at once: one by one takes half as long again.
_CANDIDATES = TypeAdapter(list[Candidate])
# A filter that means no more than so many documents and chunks is answered by comparing each: faster, and exact.
_FEW_DOCUMENTS, _FEW_CHUNKS = 200, 4000
# What matches a filter that means more is sought among the nearest, so many times what is wanted; then Chroma filters, which
# takes a second for each 100,000 chunks that match.
_WIDER = (4, 20)
# Versions on a server of which it is kept in memory when they were first met.
_MOST_MET = 100_000
_TEXTS = ("documents", "metadatas")
# More chunks than there are.
_ALL = 1_000_000_000
# Documents that one filter may name; SQLite takes about 32,000 values.
_MOST_NAMED = 30_000


class Hit(NamedTuple):
    """A chunk that was found: its row's id, its fields, and its distance."""

    row: str
    fields: dict[str, Any]
    distance: float


class Search:
    """A question's way through a collection."""

    def __init__(self, calls: Calls, opened: Opened, name: str, state: int | None) -> None:
        """`state` is that of the database before the collection was read."""
        self.calls, self.opened, self.name = calls, opened, name
        clean = bool((opened.chunks.metadata or {}).get(CLEAN))
        self.clean_at = state if clean else None

    def nearest(self, vector: Vectors, n: int, only: Sequence[str]) -> list[Candidate]:
        """Return the n nearest chunks, best first; `only` names documents, folders and languages to look in."""
        found = self._filtered(vector, n, only) if only else self._seen(n, self._by_index(vector))
        return _CANDIDATES.validate_python(
            [{**hit.fields, "retrieval": {"rank": rank, "score": 1.0 - hit.distance}} for rank, hit in enumerate(found[:n], 1)]
        )

    def near(self, vector: Vectors, n: int, only: Sequence[str]) -> list[Near]:
        """Return the rows that `nearest` would, of a clean collection without reading their texts."""
        if not only and self.clean_at is not None and n <= self.calls.database.limits.found:
            found: Any = self.calls.database.call(
                lambda: self.opened.chunks.query(query_embeddings=vector[np.newaxis], n_results=n, include=["distances"])
            )
            if self.clean_at == self.calls.database.state:
                return [Near(row, 1.0 - distance) for row, distance in zip(found["ids"][0], found["distances"][0], strict=True)]
        hits = self._filtered(vector, n, only) if only else self._seen(n, self._by_index(vector))
        return [Near(hit.row, 1.0 - hit.distance) for hit in hits[:n]]

    def chunks(self, found: Sequence[str]) -> dict[str, Chunk]:
        """Return the chunks of rows that are seen: each document in one version."""

        def find(_: int) -> list[Hit]:
            return self._rows(self.calls.by_id(self.opened.chunks, found, _TEXTS))

        return {hit.row: Chunk(**hit.fields) for hit in self._seen(len(found), find)}

    def rows_of(self, documents: Sequence[str]) -> dict[str, Chunk]:
        """Return the chunks of documents that are seen, by row."""
        where = {"document": {"$in": list(documents)}} if len(documents) > 1 else {"document": documents[0]}

        def find(_: int) -> list[Hit]:
            return self._rows(columns(self.calls.pages(self.opened.chunks, where, _TEXTS), _TEXTS))

        return {hit.row: Chunk(**hit.fields) for hit in self._seen(_ALL, find)}

    def _filtered(self, vector: Vectors, n: int, only: Sequence[str]) -> list[Hit]:
        """Return the nearest chunks of what names mean; RagError if one means nothing."""
        wanted = Filter.of(only)
        if len(wanted.documents) > _MOST_NAMED:
            raise RagError(
                msg("the filter names {n:,} documents, more than {most:,}", n=len(wanted.documents), most=_MOST_NAMED),
                msg("choose smaller folders"),
            )
        where = _where(wanted)
        if wanted.names_documents:
            documents = self.calls.documents_by_name(self.opened, sorted(wanted.documents))
            if gone := wanted.documents - {d.document for d in documents}:
                raise _gone(self.name, sorted(gone))
            return self._among(vector, n, where, documents)
        for times in _WIDER:
            looked = self._seen(n * times, self._by_index(vector))
            hits = [
                hit
                for hit in looked
                if wanted.means(hit.fields["document"], hit.fields["language"], hit.fields.get("fields", {}))
            ]
            if len(hits) >= n:
                return hits
            if len(looked) < n * times:
                break
        self._check_there(only)
        return self._among(vector, n, where, self.calls.documents_where(self.opened, where, _FEW_DOCUMENTS + 1))

    def _among(self, vector: Vectors, n: int, where: Any, documents: Sequence[StoredDocument]) -> list[Hit]:
        """Return the nearest of the chunks that a filter means; of few documents each is compared."""
        few = len(documents) <= _FEW_DOCUMENTS and sum(document.chunks for document in documents) <= _FEW_CHUNKS
        find = self._one_by_one(vector, where) if few else self._by_index(vector, where)
        return self._seen(n, find)

    def _check_there(self, only: Sequence[str]) -> None:
        """RagError for names of a filter that mean no document."""
        gone = [name for name in only if not self.calls.documents_where(self.opened, _where(Filter.of([name])), 1)]
        if values := [name.removeprefix(WHERE) for name in gone if name.startswith(WHERE)]:
            raise RagError(
                msg("no document in collection {collection} has {values}", collection=self.name, values=", ".join(values)),
                msg("run `rag-app documents` to see what they have, or declare the field in RAG_METADATA and ingest again"),
            )
        if gone := [name for name in gone if not name.startswith(LANGUAGE)]:
            raise _gone(self.name, gone)

    def _by_index(self, vector: Vectors, where: Any = None) -> Callable[[int], list[Hit] | None]:
        """Return a function of how many to find: the nearest by the index, or None where one was deleted meanwhile."""

        def find(n: int) -> list[Hit] | None:
            found: Any = self.calls.database.call(
                lambda: self.opened.chunks.query(
                    query_embeddings=vector[np.newaxis],
                    n_results=min(n, self.calls.database.limits.found),
                    where=where,
                    include=["documents", "metadatas", "distances"],
                )
            )
            if None in found["metadatas"][0]:
                return None
            return self._hits(*(found[field][0] for field in ("ids", *_TEXTS, "distances")))

        return find

    def _one_by_one(self, vector: Vectors, where: Any) -> Callable[[int], list[Hit]]:
        """Return a function of how many to find: the nearest of all that a filter means, each compared."""

        def find(n: int) -> list[Hit]:
            got = columns(self.calls.pages(self.opened.chunks, where, [*_TEXTS, "embeddings"]), [*_TEXTS, "embeddings"])
            if not got["ids"]:
                return []
            vectors = np.stack([np.asarray(one, dtype=np.float32) for one in got.pop("embeddings")])
            unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            distances = 1.0 - unit @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
            order = np.argsort(distances, kind="stable")[:n]
            return self._hits(*([column[i] for i in order] for column in got.values()), distances[order].tolist())

        return find

    def _seen(self, n: int, find: Callable[[int], list[Hit] | None]) -> list[Hit]:
        """Return the n nearest chunks of the versions that are seen.

        In a clean collection those are all, if nobody else writes. Else, which version it is, is read after the chunks: a
        version is taken only if it was known before the chunks were read, for then all of them were there. What is new is
        looked at once more.
        """
        left_out = 0
        for _ in range(LOOKS):
            wanted = n + 2 * left_out
            state, kept = self.calls.database.state, self.calls.database.tags
            began = time.monotonic()
            hits = find(wanted)
            if hits is None:
                continue
            if self.clean_at is not None and self.clean_at == self.calls.database.state:
                return hits[:n]
            names = sorted({hit.fields["document"] for hit in hits})
            tags = self._tags(names) if state is None else self._kept_tags(names, kept.setdefault(self.opened.chunks.id, {}))
            if state is not None and state != self.calls.database.state:
                # Somebody has begun to write.
                continue
            current = [hit for hit in hits if rows.tag_of(hit.row) == tags.get(hit.fields["document"])]
            left_out = len(hits) - len(current)
            known = state is not None or self._known_before(began, tags)
            if known and (not left_out or len(current) >= n or len(hits) < wanted):
                return current[:n]
        raise RagError(msg("collection {collection} is being changed", collection=self.name), msg("try again"))

    def _known_before(self, began: float, tags: dict[str, str]) -> bool:
        """Whether all versions were there at a time of `time.monotonic()`.

        Of an embedded Chroma, all of which this process writes, whoever wrote one lately said when. Of a server, one was there
        from when it was first met.
        """
        database = self.calls.database
        if not database.where.url:
            return all(database.whole.get(tag, 0.0) <= began for tag in tags.values())
        if len(database.first_met) > _MOST_MET:
            database.first_met.clear()
        now = time.monotonic()
        # Each is met now, also where an earlier one is new.
        return max((database.first_met.setdefault(version, now) for version in tags.items()), default=0.0) <= began

    def _tags(self, names: Sequence[str]) -> dict[str, str]:
        return {row["document"]: row["tag"] for row in self.calls.document_rows(self.opened, names)}

    def _kept_tags(self, names: Sequence[str], kept: dict[str, str]) -> dict[str, str]:
        """Return which versions are seen, of which those that were read before are kept while nobody writes."""
        kept.update(self._tags([name for name in names if name not in kept]))
        return {name: kept[name] for name in names if name in kept}

    def _rows(self, found: dict[str, list[Any]]) -> list[Hit]:
        return self._hits(*(found[field] for field in ("ids", *_TEXTS)), [0.0] * len(found["ids"]))

    def _hits(self, *fields: Sequence[Any]) -> list[Hit]:
        """Return hits of their columns: row ids, texts, metadata, and distances."""
        return [
            Hit(row, self.calls.read_as(rows.chunk_of, row, text, metadata), distance)
            for row, text, metadata, distance in zip(*fields, strict=True)
        ]


def _where(wanted: Filter) -> Any:
    """Return Chroma's filter for what names mean. A condition names a list where it can, for Chroma Cloud takes eight.

    Values of fields are conditions each: of what are lists themselves, Chroma asks one value at a time.
    """
    places: dict[str, list[str]] = {"document": sorted(wanted.documents)}
    for folder in sorted(wanted.folders):
        places.setdefault(rows.folder_key(folder), []).append(folder)
    groups: list[list[Any]] = [
        [{key: {"$in": values}} for key, values in places.items() if values],
        [{"language": {"$in": sorted(wanted.languages)}}] if wanted.languages else [],
        *([{rows.field_key(name): {"$contains": value}} for value in sorted(values)] for name, values in wanted.fields.items()),
    ]
    return _joined("$and", [_joined("$or", group) for group in groups if group])


def _joined(how: str, conditions: list[Any]) -> Any:
    return {how: conditions} if len(conditions) > 1 else conditions[0]


def _gone(collection: str, names: Sequence[str]) -> RagError:
    return RagError(
        msg("no longer in collection {collection}: {names}", collection=collection, names=", ".join(names)),
        msg("remove it from the filter"),
    )
