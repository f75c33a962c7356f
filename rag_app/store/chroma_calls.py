"""Calls of Chroma in parts and pages, as many records at once as it takes, and its rows as what they mean."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
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
        self, opened: Opened, where: Any, most: int | None = None, sought: rows.Sought | None = None
    ) -> list[StoredDocument]:
        """Return the documents that a filter means, of these those with the words that are sought; all without either."""
        found = (
            self.read_as(rows.document_of, row)
            for page in self.pages(opened.documents, where, ["metadatas"], most)
            for row in page["metadatas"]
            if row["kind"] == rows.DOCUMENT
        )
        return list(islice((one for one in found if sought is None or sought.found_in(one)), most))

    def there(self, collection: Any, ids: Sequence[str]) -> set[str]:
        """Return which of these ids there are."""
        return set(self.by_id(collection, ids)["ids"])

    def by_id(self, collection: Any, ids: Sequence[str], include: Sequence[str] = ()) -> dict[str, list[Any]]:
        """Return what there is of these ids, in columns: ids, and what is to be included."""

        def get(part: slice) -> Any:
            return collection.get(ids=list(ids[part]), limit=len(ids[part]), include=list(include))

        return columns(self.in_parts(len(ids), lambda: self.database.limits.read, get), include)

    def pages(self, collection: Any, where: Any, include: Sequence[str], at_once: int | None = None) -> Iterator[Any]:
        """Yield what a filter means, or all, in pages: Chroma takes much memory for what it gives at once.

        A page is fetched when it is asked for, and has at most so many rows.
        """
        offset = 0
        while True:

            def get(offset: int = offset) -> tuple[int, Any]:
                limit = min(self.database.limits.read, at_once or self.database.limits.read)
                return limit, collection.get(where=where, limit=limit, offset=offset, include=list(include))

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
