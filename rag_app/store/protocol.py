"""What the rest of the program needs of a store; opening.py chooses which, tests/test_store.py is what any must pass."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, Self

from rag_app.endpoints.embeddings import Vectors
from rag_app.store.stored import Changes, Listing, Near, StoredDocument, Written
from rag_app.types import Candidate, Chunk


class Store(Protocol):
    """One collection: chunks with their vectors, and the recipe that they were made by.

    RagError wherever the database cannot be reached or read; EmptyCollectionError where there is nothing to read yet.
    """

    place: str
    name: str

    @property
    def recipe(self) -> dict[str, str]:
        """What the collection was made by, as `create` was told; empty while there is no collection."""
        ...

    @property
    def dimension(self) -> int | None:
        """The dimension of its vectors; None while there is no collection."""
        ...

    @property
    def revision(self) -> str:
        """Another text after each change, whoever made it: for who keeps what was read."""
        ...

    def lock(self, part: str = "") -> AbstractContextManager[None]:
        """Hold the lock that whoever changes the collection holds; a part such as 3/8 beside others of as many.

        RagError, which names the holder, if somebody else has it.
        """
        ...

    def require(self, recipe: dict[str, str]) -> None:
        """RecipeError, which names what differs, unless the collection is new or was made by this recipe."""
        ...

    def create(self, recipe: dict[str, str], dimension: int) -> Self:
        """Make the collection with its recipe if it is not there."""
        ...

    def sibling(self, name: str) -> Self:
        """Return another collection of the same database, made when something is stored in it."""
        ...

    def replace(self, name: str) -> None:
        """Take the name of another collection, which is deleted; interrupted midway, `recover` completes it."""
        ...

    def recover(self) -> None:
        """Complete an interrupted `replace`."""
        ...

    def drop(self) -> None:
        """Delete the collection."""
        ...

    def count(self) -> int:
        """Return the number of chunks."""
        ...

    def nearest(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return the n chunks nearest to a vector, shape (dim,), best first; the score is the cosine similarity."""
        ...

    def near(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Near]:
        """Return what `nearest` finds as rows without their texts."""
        ...

    def chunks(self, found: Sequence[str]) -> dict[str, Chunk]:
        """Return the chunks of rows that are seen: each document in one version."""
        ...

    def rows_of(self, documents: Sequence[str]) -> dict[str, Chunk]:
        """Return the chunks of documents that are seen, by row."""
        ...

    def changes(self, since: int = 0) -> Changes:
        """Return the documents that were stored at this time or after, in nanoseconds; 0 = all that there are."""
        ...

    def documents(self, names: Sequence[str] | None = None) -> dict[str, StoredDocument]:
        """Return what is stored, by document, in order of name; or of these names, what is."""
        ...

    def listing(self, folder: str = "", words: Sequence[str] = (), most: int = 1000) -> Listing:
        """Return at most so many documents to choose from, all words of which are found in name, title and language."""
        ...

    def document(self, name: str) -> StoredDocument | None:
        """Return one stored document, or None."""
        ...

    def chunks_of(self, document: str, *, unfinished: bool = False) -> list[tuple[Chunk, Vectors]]:
        """Return a document's chunks in order, each with its vector, shape (dim,).

        `unfinished` gives those of all versions instead, also of one that a run which broke off did not complete.
        """
        ...

    def put(self, documents: Sequence[Written], gone: Sequence[str] = ()) -> int:
        """Store documents, each in place of what is stored under its name, and take away those that are gone.

        A question sees each in its old version or the new one. Return how many chunks are no longer there. Interrupted,
        it leaves documents that are not `whole`: stored again, or forgotten, they are.
        """
        ...

    def forget(self, documents: Sequence[str]) -> dict[str, int]:
        """Remove documents; return how many chunks each had."""
        ...

    def wipe(self) -> None:
        """Take the text of what was deleted out of the files, where they are this machine's."""
        ...

    def close(self) -> None:
        """Let go of the database: its files or connections."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
