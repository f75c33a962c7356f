"""Changes of a collection in Chroma: documents stored whole in place of older versions, and taken out whole."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from rag_app.store import chroma_rows as rows
from rag_app.store.chroma_calls import Calls
from rag_app.store.chroma_client import Opened
from rag_app.store.stored import Written

# Seconds that a question may take to look at chunks, and at which of them are seen.
_LONGEST_LOOK = 600.0


class Change:
    """A writer's way through a collection, from the first row of a document to the last."""

    def __init__(self, calls: Calls, opened: Opened) -> None:
        self.calls, self.opened = calls, opened

    def put(self, documents: Sequence[Written]) -> int:
        """Store documents; return how many chunks of theirs are no longer there."""
        names = [written.document for written in documents]
        deleted = 0
        if documents:
            tag = rows.new_tag()
            before = {row["document"]: row for row in self.calls.document_rows(self.opened, names)}
            # Chroma merges what is given into a row that is there.
            begun = [
                {"unfinished": True} if w.document in before else rows.document_row(w, "", unfinished=True) for w in documents
            ]
            self._put_rows(names, begun)
            self._put_chunks(documents, tag)
            self._put_facets(documents)
            ended = []
            for w in documents:
                row = before.get(w.document, {})
                changed = rows.document_row(w, tag, unfinished=w.document in before)
                ended.append(rows.without_fields(row) | changed | rows.searched_row(w, row))
            self._say_whole(tag)
            self._put_rows(names, ended)
            if before:
                stale = self._delete_chunks(list(before), tag)
                kept = {rows.without_tag(row) for w in documents for row in rows.chunk_rows(w.chunks, tag).ids}
                deleted = sum(rows.without_tag(row) not in kept for row in stale)
                self._put_rows(list(before), [{"unfinished": False}] * len(before))
                self._drop_empty(before.values())
        return deleted

    def _say_whole(self, tag: str) -> None:
        """Say that all chunks of a version are there from now on: a question that began before may have found a part."""
        database, now = self.calls.database, time.monotonic()
        if not database.where.url:
            lately = {known: since for known, since in database.whole.items() if since > now - _LONGEST_LOOK}
            database.whole = lately | {tag: now}

    def forget(self, documents: Sequence[str]) -> int:
        """Take documents out; return how many chunks they had."""
        found = self.calls.document_rows(self.opened, documents)
        there = [row["document"] for row in found]
        if not there:
            return 0
        # From here on nobody sees them.
        self._put_rows(there, [{"tag": "", "unfinished": True}] * len(there))
        n = len(self._delete_chunks(there))
        self._delete(self.opened.documents, [rows.row_id(rows.DOCUMENT, name) for name in there])
        self._drop_empty(found)
        return n

    def _drop_empty(self, before: Iterable[Any]) -> None:
        """Delete the rows of folders, languages and values that these documents were the last of."""
        were = [self.calls.read_as(rows.document_of, row) for row in before]
        facets = sorted({facet for d in were for facet in rows.facets_of(d.document, d.language, d.fields)})
        empty = [f for f in facets if not self.calls.documents_where(self.opened, rows.facet_where(*f), 1)]
        self._delete(self.opened.documents, [rows.row_id(*facet) for facet in empty])

    def _delete_chunks(self, documents: Sequence[str], but: str = "") -> list[str]:
        """Delete the chunks of documents in all versions but one; return the ids of their rows."""
        where = {"document": {"$in": list(documents)}} if len(documents) > 1 else {"document": documents[0]}
        stale = [
            row for page in self.calls.pages(self.opened.chunks, where, []) for row in page["ids"] if rows.tag_of(row) != but
        ]
        self._delete(self.opened.chunks, stale)
        return stale

    def _put_chunks(self, documents: Sequence[Written], tag: str) -> None:
        chunks = [chunk for written in documents for chunk in written.chunks]
        vectors = np.concatenate([written.vectors for written in documents])

        def put(part: slice) -> None:
            made = rows.chunk_rows(chunks[part], tag)
            self.opened.chunks.upsert(
                ids=made.ids, embeddings=vectors[part], documents=made.documents, metadatas=cast("Any", made.metadatas)
            )

        self.calls.in_parts(len(chunks), self.calls.database.most_written, put)

    def _put_rows(
        self,
        names: Sequence[str],
        metadatas: Sequence[dict[str, Any]],
        kinds: Sequence[str] | None = None,
    ) -> None:
        """Write rows of documents, or of other kinds; what is not given of a row that is there stays as it is."""
        ids = [rows.row_id(kind, name) for kind, name in zip(kinds or [rows.DOCUMENT] * len(names), names, strict=True)]

        def put(part: slice) -> None:
            self.opened.documents.upsert(
                ids=ids[part],
                embeddings=np.stack([rows.place_of(one) for one in ids[part]]),
                metadatas=cast("Any", list(metadatas[part])),
            )

        self.calls.in_parts(len(ids), self.calls.database.most_written, put)

    def _put_facets(self, documents: Sequence[Written]) -> None:
        """Write the rows of folders, languages and values that these documents are the first of."""
        firsts = [w.chunks[0] for w in documents]
        wanted = sorted({facet for one in firsts for facet in rows.facets_of(one.document, one.language, one.fields)})
        there = self.calls.there(self.opened.documents, [rows.row_id(*facet) for facet in wanted])
        new = [facet for facet in wanted if rows.row_id(*facet) not in there]
        self._put_rows(
            [name for _, name in new],
            [rows.facet_row(*facet) for facet in new],
            [kind for kind, _ in new],
        )

    def _delete(self, collection: Any, ids: Sequence[str]) -> None:
        self.calls.in_parts(len(ids), self.calls.database.most_written, lambda part: collection.delete(ids=list(ids[part])))
