"""Calls of Chroma in parts and pages, as many records at once as it takes, and its rows as what they mean."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rag_app.store import chroma_rows as rows
from rag_app.store.chroma_client import Database, Opened
from rag_app.store.chroma_errors import foreign
from rag_app.store.stored import StoredDocument

T = TypeVar("T")
# How often is looked again while what was found is being replaced.
LOOKS = 8


class Calls:
    """What the store asks of Chroma."""

    def __init__(self, database: Database, name: str) -> None:
        self.database, self.name = database, name

    def document_rows(self, opened: Opened, names: Sequence[str]) -> list[Any]:
        """Return the metadata of documents' rows, as far as there are such."""
        ids = [rows.row_id(rows.DOCUMENT, name) for name in names]
        return self.by_id(opened.documents, ids, ["metadatas"])["metadatas"]

    def documents_by_name(self, opened: Opened, names: Sequence[str]) -> list[StoredDocument]:
        """Return the documents of these names that there are."""
        return [self.read_as(rows.document_of, row) for row in self.document_rows(opened, names)]

    def documents_where(
        self, opened: Opened, where: Any, most: int | None = None, containing: Sequence[str] = ()
    ) -> list[StoredDocument]:
        """Return the documents that a filter means, whose rows contain all words; all without either."""
        return [
            self.read_as(rows.document_of, row)
            for page in self.pages(opened.documents, where, ["metadatas"], most, containing)
            for row in page["metadatas"]
            if row["kind"] == rows.DOCUMENT
        ]

    def there(self, collection: Any, ids: Sequence[str]) -> set[str]:
        """Return which of these ids there are."""
        return set(self.by_id(collection, ids)["ids"])

    def by_id(self, collection: Any, ids: Sequence[str], include: Sequence[str] = ()) -> dict[str, list[Any]]:
        """Return what there is of these ids, in columns: ids, and what is to be included."""

        def get(part: slice) -> Any:
            return collection.get(ids=list(ids[part]), limit=len(ids[part]), include=list(include))

        return columns(self.in_parts(len(ids), lambda: self.database.limits.read, get), include)

    def pages(
        self, collection: Any, where: Any, include: Sequence[str], most: int | None = None, containing: Sequence[str] = ()
    ) -> Iterator[Any]:
        """Yield what a filter means, or all, in pages: Chroma takes much memory for what it gives at once."""
        # Chroma Cloud takes eight conditions of 130 characters.
        words: list[Any] = [{"$contains": word[:120].lower()} for word in containing[:8]]
        text = {"$and": words} if len(words) > 1 else words[0] if words else None
        offset = 0
        while most is None or offset < most:

            def get(offset: int = offset) -> tuple[int, Any]:
                limit = self.database.limits.read if most is None else min(self.database.limits.read, most - offset)
                return limit, collection.get(
                    where=where, where_document=text, limit=limit, offset=offset, include=list(include)
                )

            limit, page = self.database.call(get)
            yield page
            if len(page["ids"]) < limit:
                return
            offset += limit

    def in_parts(self, n: int, size: Callable[[], int], do: Callable[[slice], T]) -> list[T]:
        """Do something with n things, as many at once as Chroma takes; return what each part gave."""
        done: list[T] = []
        start = 0
        while start < n:

            def one(start: int = start) -> tuple[int, T]:
                part = slice(start, min(start + max(size(), 1), n))
                return part.stop, do(part)

            start, result = self.database.call(one)
            done.append(result)
        return done

    def read_as(self, decode: Callable[..., Any], *row: Any) -> Any:
        """Return what a row means. RagError if something else wrote it."""
        try:
            return decode(*row)
        except (KeyError, TypeError, ValueError):
            raise foreign(self.database.where, self.name) from None


def columns(pages: Iterable[Any], include: Sequence[str]) -> dict[str, list[Any]]:
    """Return pages of rows as columns: ids, and what they include."""
    found = list(pages)
    return {name: [one for page in found for one in page[name]] for name in ("ids", *include)}
