"""Retrieval: what finds the candidates of a question, and what goes to the chat model beside a passage."""

from collections.abc import Sequence
from typing import Any, Protocol

from rag_app.endpoints.embeddings import Vectors
from rag_app.store.protocol import Store
from rag_app.types import Candidate, Score, joined_text
from rag_app.words import msg


class Retriever(Protocol):
    """Finds candidates. `fingerprint` is what they depend on beside the arguments: whoever keeps them keeps it with them."""

    @property
    def score(self) -> Score:
        """What the scores of its candidates are, as every surface shows them."""
        ...

    @property
    def fingerprint(self) -> tuple[Any, ...]: ...

    def retrieve(self, question: str, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return at most n candidates, best first, ranked from 1; `only` names documents, or folders ending in "/"."""
        ...


class VectorRetriever:
    """Finds the chunks whose vectors are nearest to the question's; the score is the cosine similarity."""

    score = Score(name=msg("cosine"))

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        return ("vectors", self.store.place, self.store.name, self.store.revision)

    def retrieve(self, question: str, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return the n nearest chunks, nearest first."""
        return self.store.nearest(vector, n, only)


def with_neighbours(store: Store, candidates: Sequence[Candidate], n: int) -> tuple[Candidate, ...]:
    """Return the candidates, the passages among them with n neighbours before and after that are no passages themselves."""
    chosen = {c.id for c in candidates if (c.passage or c.passage_without_rerank) and not c.image}
    passages = {c.id for c in candidates if c.passage}
    stored = {name: store.chunks_of(name) for name in {c.document for c in candidates if c.id in chosen}}

    def context(c: Candidate) -> str:
        # The document may have been replaced since it was searched: then its chunks are no longer those around this one.
        if all(chunk.id != c.id for chunk, _ in stored[c.document]):
            return ""
        near = [
            chunk
            for chunk, _ in stored[c.document]
            if abs(chunk.position - c.position) <= n and not chunk.image and chunk.id not in passages
        ]
        return joined_text([c, *(chunk for chunk in near if chunk.id != c.id)]) if near else ""

    return tuple(c.model_copy(update={"context": context(c)}) if c.id in chosen else c for c in candidates)
