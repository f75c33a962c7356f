"""What the rest of the program needs of a store; opening.py chooses which, tests/test_store.py is what any must pass."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

from rag_app.endpoints.embeddings import Vectors
from rag_app.store.stored import StoredDocument, Version
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

    @property
    def most_at_once(self) -> int:
        """How many chunks one `put` stores so that a question sees all or none of them."""
        ...

    @property
    def lock_file(self) -> Path:
        """The file whose lock whoever changes the collection holds."""
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
        """Take the name of another collection, which is deleted; interrupted midway, `repair` completes it."""
        ...

    def repair(self) -> None:
        """Complete an interrupted `replace`."""
        ...

    def drop(self) -> None:
        """Delete the collection."""
        ...

    def touch(self, every: float = 0.0) -> None:
        """Make the revision another, and be seen by other processes; at most once in so many seconds."""
        ...

    def count(self) -> int:
        """Return the number of chunks."""
        ...

    def nearest(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return the n chunks nearest to a vector, shape (dim,), best first; the score is the cosine similarity."""
        ...

    def documents(self) -> dict[str, StoredDocument]:
        """Return what is stored, by document, in order of name."""
        ...

    def document(self, name: str) -> StoredDocument | None:
        """Return one stored document, or None."""
        ...

    def chunks_of(self, document: str) -> list[tuple[Chunk, Version, Vectors]]:
        """Return a document's chunks in order, each with its version and its vector, shape (dim,)."""
        ...

    def put(self, chunks: Sequence[tuple[Chunk, Version]], vectors: Vectors) -> None:
        """Store chunks with their vectors, shape (len(chunks), dim); an id that is there is replaced."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks by id."""
        ...

    def forget(self, document: str) -> int:
        """Remove a document; return how many chunks it had."""
        ...

    def close(self) -> None:
        """Let go of the database: its files or connections."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
