"""Retrieval: candidates by vectors and by words, fused, each with its place in both rankings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError, SettingsError
from rag_app.lexical.kept import LexicalIndex
from rag_app.pipeline import Pipeline
from rag_app.retrieval import HybridRetriever, LexicalRetriever, fused, retrievers
from rag_app.settings import Settings, load_settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.store.stored import Near, Version, Written
from rag_app.types import Candidate
from tests.helpers import ingest_into
from tests.test_lexical import chunk


def test_scores_are_scaled_between_the_lowest_and_the_highest_and_weighed() -> None:
    found = fused([("a", 0.9), ("b", 0.7), ("c", 0.5)], [("c", 12.0), ("d", 6.0), ("a", 2.0)], 0.7)
    assert [(f.row, round(f.score, 3)) for f in found] == [("a", 0.7), ("b", 0.35), ("c", 0.3), ("d", 0.12)]
    places = {f.row: (f.dense and f.dense.rank, f.lexical and f.lexical.rank) for f in found}
    assert places == {"a": (1, 3), "b": (2, None), "c": (3, 1), "d": (None, 2)}
    assert [f.dense.score for f in found if f.dense] == [0.9, 0.7, 0.5]


@pytest.mark.parametrize(
    ("dense", "lexical", "weight", "wanted"),
    [
        ([], [], 0.7, []),
        ([("a", 0.2)], [], 0.7, [("a", 0.7)]),
        ([], [("a", 3.0)], 0.7, [("a", 0.3)]),
        # Without a difference there is no lowest: all are the best.
        ([("a", 0.2), ("b", 0.2)], [("b", 1.0)], 0.7, [("b", 1.0), ("a", 0.7)]),
        ([("a", 0.9), ("b", 0.1)], [("b", 9.0), ("a", 1.0)], 1.0, [("a", 1.0), ("b", 0.0)]),
        ([("a", 0.9), ("b", 0.1)], [("b", 9.0), ("a", 1.0)], 0.0, [("b", 1.0), ("a", 0.0)]),
    ],
)
def test_rankings_of_any_length_are_fused(dense: Any, lexical: Any, weight: float, wanted: Any) -> None:
    assert [(f.row, round(f.score, 6)) for f in fused(dense, lexical, weight)] == wanted


@pytest.fixture
def store(tmp_path: Path, keep: Any) -> Store:
    """Three chunks: one near to the question's vector, one with its words, one with both a little."""
    opened: Store = keep(open_store(load_settings(chroma_path=tmp_path / "chroma"), create=True))
    opened.create({"embedding_model": "emb", "passage_prefix": ""}, 2)
    for name, text, angle in (("near", "nothing said", 0), ("words", "red fox jumps", 80), ("both", "a red dog", 20)):
        vectors = np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))]], dtype=np.float32)
        opened.put([Written(f"{name}.md", Version("/r", name, 1, 1.0), [chunk(f"{name}.md", 0, text)], vectors)])
    return opened


VECTOR: Vectors = np.array([1.0, 0.0], dtype=np.float32)


def places(candidates: Sequence[Candidate]) -> list[tuple[str, int | None, int | None]]:
    return [(c.document[:-3], c.dense and c.dense.rank, c.lexical and c.lexical.rank) for c in candidates]


def hybrid(store: Store, tmp_path: Path, keep: Any, weight: float = 0.7) -> HybridRetriever:
    retriever: HybridRetriever = keep(HybridRetriever(store, LexicalIndex(store, tmp_path / "lexical"), weight))
    return retriever


def test_a_hybrid_candidate_has_its_place_in_both_rankings(store: Store, tmp_path: Path, keep: Any) -> None:
    found = hybrid(store, tmp_path, keep).retrieve("red fox", VECTOR, 3)
    assert places(found) == [("near", 1, None), ("both", 2, 2), ("words", 3, 1)]
    assert [c.retrieval.rank for c in found] == [1, 2, 3] and found[0].retrieval.score == pytest.approx(0.7)
    assert places(hybrid(store, tmp_path, keep, 0.1).retrieve("red fox", VECTOR, 1)) == [("words", 3, 1)]
    assert Candidate.model_validate_json(found[1].model_dump_json()) == found[1]


def test_what_words_alone_find_is_called_so(store: Store, tmp_path: Path, keep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    near = type(store).near
    monkeypatch.setattr(type(store), "near", lambda self, vector, n, only: near(self, vector, 1, only))
    found = hybrid(store, tmp_path, keep).retrieve("red fox", VECTOR, 3)
    assert places(found) == [("near", 1, None), ("words", None, 1), ("both", None, 2)]
    assert [c.words_only for c in found] == [False, True, True]


def test_words_alone_rank_by_bm25(store: Store, tmp_path: Path, keep: Any) -> None:
    found = keep(LexicalRetriever(store, LexicalIndex(store, tmp_path / "lexical"))).retrieve("red fox", VECTOR, 9)
    assert [c.document for c in found] == ["words.md", "both.md"] and found[0].retrieval.score > found[1].retrieval.score


def test_a_filter_holds_in_both_rankings(store: Store, tmp_path: Path, keep: Any) -> None:
    found = hybrid(store, tmp_path, keep).retrieve("red fox", VECTOR, 3, ["words.md", "near.md"])
    assert sorted(places(found)) == [("near", 1, None), ("words", 2, 1)]


def test_rows_that_were_replaced_meanwhile_are_not_among_the_candidates(store: Store, tmp_path: Path, keep: Any) -> None:
    retriever = hybrid(store, tmp_path, keep)
    retriever.retrieve("red fox", VECTOR, 3)
    search = retriever.index.search
    stale = search("red fox", 9)
    store.put([Written("words.md", Version("/r", "2", 1, 2.0), [chunk("words.md", 0, "a fox")], VECTOR[np.newaxis])])
    # The index is behind, and still names rows of the version before.
    retriever.index.search = lambda *_: stale  # type: ignore[method-assign]
    found = retriever.retrieve("red fox", VECTOR, 3)
    assert {c.text for c in found} == {"nothing said", "a red dog", "a fox"}


def test_a_collection_that_never_rests_is_said(store: Store, tmp_path: Path, keep: Any) -> None:
    retriever = hybrid(store, tmp_path, keep)
    retriever.store = keep(open_store(load_settings(chroma_path=tmp_path / "chroma")))
    retriever.store.near = lambda *_: [Near("gone@1", 1.0)]  # type: ignore[method-assign]
    with pytest.raises(RagError, match="is being changed"):
        retriever.retrieve("red fox", VECTOR, 3)


def test_a_question_may_ask_for_one_first_stage(settings: Settings, corpus: Path) -> None:
    ingest_into(settings, corpus)
    with Pipeline.open(settings) as pipeline:
        shown = {stage: pipeline.search("hotel night", first_stage=stage) for stage in pipeline.retrievers}
        assert list(shown) == ["hybrid", "dense", "lexical"]
        assert {stage: str(s.retrieval_score.name) for stage, s in shown.items()} == {
            "hybrid": "fused score",
            "dense": "cosine",
            "lexical": "BM25",
        }
        assert [s.is_hybrid for s in shown.values()] == [True, False, False]
        assert shown["lexical"].candidates[0].text.startswith("A hotel may cost")
        assert pipeline.search("hotel night").retrieval_score == shown["hybrid"].retrieval_score


def test_without_a_lexical_index_there_are_vectors_alone(settings: Settings, corpus: Path, tmp_path: Path) -> None:
    off = load_settings(lexical=False, lexical_path=tmp_path / "none")
    ingest_into(off, corpus)
    with Pipeline.open(off) as pipeline:
        assert list(pipeline.retrievers) == list(retrievers(pipeline.store, off)) == ["dense"]
        assert not pipeline.search("hotel").is_hybrid
        with pytest.raises(SettingsError, match="there is no lexical index"):
            pipeline.search("hotel", first_stage="lexical")
    assert not (tmp_path / "none").exists()


def test_a_weight_outside_0_to_1_is_refused() -> None:
    with pytest.raises((SettingsError, ValidationError), match="RAG_DENSE_WEIGHT"):
        load_settings(dense_weight=1.5)
