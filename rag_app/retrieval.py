"""Retrieval: what finds the candidates of a question, and what goes to the chat model beside a passage."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.lexical.kept import FORMAT, LexicalIndex
from rag_app.settings import Settings
from rag_app.store.protocol import Store
from rag_app.types import Candidate, FirstStage, Ranking, Score, joined_text
from rag_app.words import msg

# How many of the best of each ranking are fused, at least.
POOL = 100
# How often is looked again while what was found is being replaced.
_LOOKS = 8


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

    def close(self) -> None: ...


def retrievers(store: Store, settings: Settings) -> dict[FirstStage, "Retriever"]:
    """Return the ways to find candidates that the settings allow, the one to use first."""
    dense = VectorRetriever(store)
    if not settings.lexical:
        return {"dense": dense}
    index = LexicalIndex(store, settings.lexical_path)
    return {
        "hybrid": HybridRetriever(store, index, settings.dense_weight),
        "dense": dense,
        "lexical": LexicalRetriever(store, index),
    }


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

    def close(self) -> None:
        """Nothing is held: whoever opened the store closes it."""


class LexicalRetriever:
    """Finds the chunks that share words with the question; the score is BM25."""

    score = Score(name=msg("BM25"), format=".1f")

    def __init__(self, store: Store, index: LexicalIndex) -> None:
        self.store, self.index = store, index

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        return ("words", FORMAT, self.store.place, self.store.name, self.store.revision)

    def retrieve(self, question: str, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return the n best chunks by BM25; fewer where fewer share a word with the question."""

        def order(gone: set[str]) -> list[_Found]:
            found = [(row, score) for row, score in self.index.search(question, n + len(gone), only) if row not in gone]
            return [_Found(row, score) for row, score in found[:n]]

        return _read(self.store, order)

    def close(self) -> None:
        """Let go of the index."""
        self.index.close()


class HybridRetriever:
    """Finds the chunks that are nearest by vector or share words with the question, in one order.

    The score is the convex combination of both scores, each scaled to 0..1 over the question's best (min-max), as measured by
    Bruch, Gai & Ingber 2022; `weight` is that of the vectors. What one of the rankings lacks has 0 there.
    """

    score = Score(name=msg("fused score"))

    def __init__(self, store: Store, index: LexicalIndex, weight: float) -> None:
        self.store, self.index, self.weight = store, index, weight

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        return ("hybrid", FORMAT, self.weight, POOL, self.store.place, self.store.name, self.store.revision)

    def retrieve(self, question: str, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        """Return the n best chunks of both rankings, each with its place in either."""

        def order(gone: set[str]) -> list[_Found]:
            pool = max(n, POOL)
            lexical = [(row, score) for row, score in self.index.search(question, pool, only) if row not in gone]
            dense = self.store.near(vector, pool, only)
            return fused(dense, lexical, self.weight)[:n]

        return _read(self.store, order)

    def close(self) -> None:
        """Let go of the index."""
        self.index.close()


class _Found(NamedTuple):
    """A row that was found, its score, and its place in the rankings that it is in."""

    row: str
    score: float
    dense: Ranking | None = None
    lexical: Ranking | None = None


def fused(dense: Sequence[tuple[str, float]], lexical: Sequence[tuple[str, float]], weight: float) -> list[_Found]:
    """Return the rows of two rankings by the convex combination of their scores, best first; `weight` is that of the first."""
    places = [{row: Ranking(rank=i, score=score) for i, (row, score) in enumerate(r, 1)} for r in (dense, lexical)]
    all_scaled = [scaled(ranking) for ranking in (dense, lexical)]
    return sorted(
        (
            _Found(
                row,
                weight * all_scaled[0].get(row, 0.0) + (1 - weight) * all_scaled[1].get(row, 0.0),
                *(p.get(row) for p in places),
            )
            for row in dict.fromkeys([*all_scaled[0], *all_scaled[1]])
        ),
        key=lambda found: -found.score,
    )


def scaled(ranking: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return the scores of a ranking, best first, as parts of the way from its lowest to its highest."""
    if not ranking:
        return {}
    highest, lowest = ranking[0][1], ranking[-1][1]
    return {row: (score - lowest) / (highest - lowest) if highest > lowest else 1.0 for row, score in ranking}


def _read(store: Store, order: Callable[[set[str]], list[_Found]]) -> list[Candidate]:
    """Return rows as candidates; `order` finds them, without those that are gone from the store meanwhile."""
    gone: set[str] = set()
    for _ in range(_LOOKS):
        found = order(gone)
        chunks = store.chunks([one.row for one in found])
        if missing := {one.row for one in found} - chunks.keys():
            gone |= missing
            continue
        return [
            Candidate.model_construct(
                **dict(chunks[one.row]), retrieval=Ranking(rank=rank, score=one.score), dense=one.dense, lexical=one.lexical
            )
            for rank, one in enumerate(found, 1)
        ]
    raise RagError(msg("collection {collection} is being changed", collection=store.name), msg("try again"))


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
