"""The contract of a store: what any must do that `opening` opens; today Chroma, embedded and as a server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_app.errors import RagError
from rag_app.settings import load_settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.store.recipe import RecipeError
from rag_app.store.stored import EmptyCollectionError, Version
from rag_app.types import Chunk

RECIPE = {"embedding_model": "emb", "passage_prefix": ""}
Open = Callable[..., Store]


def chunk(document: str, position: int = 0, language: str = "en") -> Chunk:
    name = f"{document} {position}"
    return Chunk(
        id=name,
        document=document,
        title=document,
        headings=("Part",),
        page=None,
        position=position,
        start=10 * position,
        end=10 * position + len(name),
        language=language,
        text=name,
    )


def vectors(*angles: float) -> np.ndarray:
    """Unit vectors in a plane at angles in degrees: the cosine between two is that of the difference."""
    return np.array([[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in angles], dtype=np.float32)


@pytest.fixture(params=["embedded", "server"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, keep: Any) -> Open:
    """Return a function that opens the collection of this test; `create` makes it where it is missing."""
    url = request.getfixturevalue("chroma_server") if request.param == "server" else ""
    name = f"contract-{request.node.name.partition('[')[0][-40:].strip('_')}"
    place = {"chroma_path": tmp_path / "chroma", "chroma_url": url}
    return lambda create=True, collection=name: keep(open_store(load_settings(**place, collection=collection), create=create))


@pytest.fixture
def store(opened: Open) -> Store:
    """Two documents: a of two chunks at 0 and 10 degrees, b/c of one, German, at 60."""
    filled = opened().create(RECIPE, 2)
    filled.put([(chunk("a"), Version("/r", "h1", 2, 1.0)), (chunk("a", 1), Version("/r", "h1", 2, 1.0))], vectors(0, 10))
    filled.put([(chunk("b/c", language="de"), Version("/r", "h2", 1, 1.0))], vectors(60))
    return filled


def test_every_field_of_a_chunk_comes_back(opened: Open) -> None:
    whole = chunk("a").model_copy(update={"page": 3, "image": "https://example.com/a.png", "ocr": True})
    # Whoever adds a field says here what it is when it is not its default.
    assert [name for name, field in Chunk.model_fields.items() if getattr(whole, name) == field.default] == []
    opened().create(RECIPE, 2).put([(whole, Version("/r", "h1", 1, 1.0))], vectors(0))
    assert [found for found, _, _ in opened().chunks_of("a")] == [whole]
    assert str(whole.page_label) == "page 3, read by OCR"


def test_a_collection_that_is_not_there_is_an_error_unless_it_is_to_be_made(opened: Open) -> None:
    with pytest.raises(EmptyCollectionError, match="is empty: run `rag-app ingest PATH` first"):
        opened(create=False)
    assert (opened().count(), opened().recipe, opened().dimension, opened().documents()) == (0, {}, None, {})


def test_the_nearest_come_first_with_their_cosine(store: Store) -> None:
    found = store.nearest(vectors(4)[0], 3)
    # 4 degrees from the first, 6 from the second, 56 from the third: cos 4 = 0.9976, cos 6 = 0.9945, cos 56 = 0.5592.
    assert [(c.id, c.retrieval.rank) for c in found] == [("a 0", 1), ("a 1", 2), ("b/c 0", 3)]
    assert [c.retrieval.score for c in found] == pytest.approx([0.9976, 0.9945, 0.5592], abs=1e-3)
    assert [c.id for c in store.nearest(vectors(4)[0], 1)] == ["a 0"]


@pytest.mark.parametrize("only", ["b/c", "b/", "language:de"], ids=["document", "folder", "language"])
def test_a_search_can_be_limited(store: Store, only: str) -> None:
    assert [c.id for c in store.nearest(vectors(0)[0], 3, [only])] == ["b/c 0"]


def test_a_filter_that_means_nothing_is_an_error(store: Store) -> None:
    with pytest.raises(RagError, match=r"gone\.md"):
        store.nearest(vectors(0)[0], 3, ["gone.md"])


def test_chunks_come_back_as_they_were_put_with_version_and_vector(store: Store) -> None:
    rows = store.chunks_of("a")
    assert [(c, v) for c, v, _ in rows] == [(chunk("a", n), Version("/r", "h1", 2, 1.0)) for n in (0, 1)]
    assert np.allclose([vector for _, _, vector in rows], vectors(0, 10), atol=1e-6)


def test_documents_are_told_with_their_counts_and_whether_they_are_whole(store: Store) -> None:
    assert {name: (d.chunks, d.language, d.whole) for name, d in store.documents().items()} == {
        "a": (2, "en", True),
        "b/c": (1, "de", True),
    }
    store.delete(["a 1"])
    found = store.document("a")
    assert found and (found.chunks, found.whole) == (1, False) and store.document("gone") is None


def test_an_id_that_is_put_again_is_replaced(store: Store) -> None:
    store.put([(chunk("b/c"), Version("/r", "h3", 1, 2.0))], vectors(90))
    assert store.count() == 3
    ((_, version, vector),) = store.chunks_of("b/c")
    assert version.document_hash == "h3" and np.allclose(vector, vectors(90)[0], atol=1e-6)


def test_of_a_document_that_is_being_replaced_only_the_new_version_is_found(store: Store) -> None:
    store.put([(chunk("a", 7), Version("/r", "new", 1, 9.0))], vectors(20))
    assert [c.id for c in store.nearest(vectors(0)[0], 3)] == ["a 7", "b/c 0"]


def test_a_document_that_is_forgotten_is_gone(store: Store, opened: Open) -> None:
    assert (store.forget("a"), store.forget("a")) == (2, 0)
    assert list(opened().documents()) == ["b/c"]


def test_the_revision_changes_with_each_change_and_with_nothing_else(store: Store, opened: Open) -> None:
    store.touch()
    before = store.revision
    assert before == store.revision == opened().revision
    store.delete(["a 0"])
    store.touch()
    assert before != store.revision == opened().revision


def test_another_recipe_and_another_dimension_are_refused(store: Store) -> None:
    store.require(RECIPE)
    with pytest.raises(RecipeError, match="'emb', not 'other'"):
        store.require({**RECIPE, "embedding_model": "other"})
    with pytest.raises(RagError, match="2 dimensions"):
        store.nearest(np.ones(3, dtype=np.float32), 1)
    with pytest.raises(RagError, match="2 dimensions"):
        store.put([(chunk("d"), Version("/r", "h", 1, 1.0))], np.ones((1, 3), dtype=np.float32))


def test_a_sibling_takes_the_place_of_a_collection(store: Store, opened: Open, keep: Any) -> None:
    name = store.name
    other = keep(store.sibling(f"{name}-x")).create(RECIPE, 2)
    other.put([(chunk("new"), Version("/r", "h", 1, 1.0))], vectors(0))
    other.replace(name)
    assert list(opened(create=False).documents()) == ["new"]
    with pytest.raises(EmptyCollectionError):
        opened(create=False, collection=f"{name}-x")


def test_a_collection_that_is_dropped_is_gone(store: Store, opened: Open) -> None:
    store.drop()
    with pytest.raises(EmptyCollectionError):
        opened(create=False)


def test_what_was_closed_is_whole_when_it_is_opened_again(store: Store, opened: Open) -> None:
    store.close()
    assert opened(create=False).count() == 3
