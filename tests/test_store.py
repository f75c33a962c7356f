"""The contract of a store: what any must do that `opening` opens; today Chroma, embedded and as a server."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_app.errors import RagError
from rag_app.settings import load_settings
from rag_app.store import chroma
from rag_app.store.chroma import ChromaStore
from rag_app.store.chroma_client import Database
from rag_app.store.chroma_search import Search
from rag_app.store.chroma_write import Change
from rag_app.store.kept import KeptStore, identity
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.store.recipe import RecipeError
from rag_app.store.stored import DATABASE, REINDEX, EmptyCollectionError, Version, Where, Written
from rag_app.types import Chunk, FieldValue
from rag_app.words import msg
from tests.quotas import Quotas, cloud

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


@pytest.fixture(params=["embedded", "server", "cloud", "small cloud"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, keep: Any) -> Iterator[Open]:
    """Return a function that opens the collection of this test; `create` makes it where it is missing.

    The cloud has a key, a tenant, a database and a path, and takes and gives so much at once; the small one, very little.
    """
    place: dict[str, Any] = {"chroma_path": tmp_path / "chroma"}
    with ExitStack() as stack:
        if request.param != "embedded":
            place["chroma_url"] = request.getfixturevalue("chroma_server")
        if "cloud" in request.param:
            quotas = Quotas(records=3, limit=2, results=40) if "small" in request.param else Quotas()
            proxy = stack.enter_context(cloud(place["chroma_url"], quotas, prefix="/chroma"))
            place |= {"chroma_url": proxy.url, "chroma_api_key": proxy.token}
            place |= {"chroma_tenant": proxy.tenant, "chroma_database": proxy.database}
        name = f"contract-{request.node.name[-40:].strip('_[]').replace('[', '-').replace(' ', '-')}"
        yield _opening(place, name, keep)


def _opening(place: dict[str, Any], name: str, keep: Any) -> Open:
    return lambda create=True, collection=name: keep(open_store(load_settings(**place, collection=collection), create=create))


@pytest.fixture
def store(opened: Open) -> Store:
    """Two documents: a of two chunks at 0 and 10 degrees, b/c of one, German, at 60."""
    filled = opened().create(RECIPE, 2)
    filled.put([Written("a", Version("/r", "h1", 2, 1.0), [chunk("a"), chunk("a", 1)], vectors(0, 10))])
    filled.put([one("b/c", 60, language="de")])
    return filled


def one(
    document: str,
    angle: float,
    *,
    digest: str = "h2",
    when: float = 1.0,
    language: str = "en",
    **fields: tuple[FieldValue, ...],
) -> Written:
    """A document of one chunk."""
    only = chunk(document, 0, language).model_copy(update={"fields": fields})
    return Written(document, Version("/r", digest, 1, when), [only], vectors(angle))


def test_every_field_of_a_chunk_comes_back(opened: Open) -> None:
    whole = chunk("a").model_copy(
        update={"page": 3, "image": "https://example.com/a.png", "ocr": True, "fields": {"year": (1, "b")}}
    )
    # Whoever adds a field says here what it is when it is not its default.
    assert [name for name, field in Chunk.model_fields.items() if getattr(whole, name) == field.default] == []
    opened().create(RECIPE, 2).put([Written("a", Version("/r", "h1", 1, 1.0), [whole], vectors(0))])
    assert [found for found, _ in opened().chunks_of("a")] == [whole]
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


@pytest.mark.parametrize(
    ("only", "found"),
    [
        (["where:year=2026"], "qr"),
        (["where:year=2026", "where:year=2025"], "pqr"),
        (["where:year=2026", "where:country=fr"], "r"),
        (["where:country=at", "language:de"], "q"),
        (["where:country=fr", "language:de"], ""),
        (["f/", "where:year=2026"], "r"),
        (["f/", "q", "where:year=2026", "where:year=2025", "language:en"], "r"),
        (["where:kind=a=b, c"], "p"),
    ],
    ids=[
        "one",
        "any of two",
        "both of two",
        "beside a language",
        "nothing",
        "in a folder",
        "more than a filter holds",
        "signs",
    ],
)
def test_of_one_field_any_value_will_do_and_of_several_fields_all_must_hold(store: Store, only: list[str], found: str) -> None:
    store.put(
        [
            one("p", 20, country=("de", "at"), year=(2025,), kind=("a=b, c",)),
            one("q", 30, language="de", country=("de", "at"), year=(2026,)),
            one("f/r", 40, country=("fr",), year=(2026,)),
        ]
    )
    assert "".join(c.document[-1] for c in store.nearest(vectors(0)[0], 9, only)) == found
    assert len(store.near(vectors(0)[0], 9, only)) == len(found)


def test_the_values_of_fields_are_counted_as_long_as_a_document_has_them(store: Store) -> None:
    store.put([one("x", 20, year=(2025, 2026), kind=("a",)), one("y", 30, year=(2026,))])
    assert store.listing().fields == {"kind": {"a": 1}, "year": {"2025": 1, "2026": 2}}
    assert store.documents()["x"].fields == {"year": (2025, 2026), "kind": ("a",)}
    assert store.nearest(vectors(20)[0], 1)[0].fields == {"year": (2025, 2026), "kind": ("a",)}
    # Chroma merges what is written into a row that is there.
    store.put([one("x", 20, year=(2026,))])
    assert store.listing().fields == {"year": {"2026": 2}} and store.documents()["x"].fields == {"year": (2026,)}
    with pytest.raises(RagError, match=r"no document in collection .* has year=2025: run `rag-app documents`"):
        store.nearest(vectors(0)[0], 3, ["where:year=2025"])
    store.forget(["y"])
    assert store.listing().fields == {"year": {"2026": 1}} and store.listing().n_documents == 3


@pytest.mark.parametrize("only", ["b/c", "b/", "language:de"], ids=["document", "folder", "language"])
def test_a_search_can_be_limited(store: Store, only: str) -> None:
    assert [c.id for c in store.nearest(vectors(0)[0], 3, [only])] == ["b/c 0"]


def test_a_filter_that_means_nothing_is_an_error(store: Store) -> None:
    with pytest.raises(RagError, match=r"gone\.md"):
        store.nearest(vectors(0)[0], 3, ["gone.md"])


def test_chunks_come_back_as_they_were_put_with_their_vectors(store: Store) -> None:
    rows = store.chunks_of("a")
    assert [c for c, _ in rows] == [chunk("a", n) for n in (0, 1)] and store.chunks_of("gone") == []
    assert np.allclose([vector for _, vector in rows], vectors(0, 10), atol=1e-6)


def test_documents_are_told_with_their_counts_and_versions(store: Store) -> None:
    assert {name: (d.chunks, d.language, d.whole, d.version.document_hash) for name, d in store.documents().items()} == {
        "a": (2, "en", True, "h1"),
        "b/c": (1, "de", True, "h2"),
    }
    assert store.document("a") == store.documents()["a"] and store.document("gone") is None


def test_a_document_that_is_put_again_is_replaced_and_others_go_with_it(store: Store) -> None:
    # One chunk is the same, one is gone.
    assert store.put([one("a", 90, digest="h3", when=2.0)]) == 1
    ((found, vector),) = store.chunks_of("a")
    assert np.allclose(vector, vectors(90)[0], atol=1e-6) and found == chunk("a")
    assert (store.count(), store.documents()["a"].version.document_hash) == (2, "h3")
    assert store.put([one("moved", 60)], ["b/c"]) == 1
    assert (list(store.documents()), store.count()) == (["a", "moved"], 2)
    assert store.put([], ["a"]) == 1
    assert [c.document for c in store.nearest(vectors(0)[0], 3)] == ["moved"]


@pytest.mark.parametrize("step", range(1, 17))
def test_a_write_that_breaks_off_is_never_half_seen_and_is_completed_by_the_next(
    store: Store, opened: Open, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    old = [(c.id, c.document) for c in store.nearest(vectors(0)[0], 9)]
    new = [Written("a", Version("/r", "new", 2, 9.0), [chunk("a", 7), chunk("a", 8)], vectors(20, 21)), one("fresh", 30)]
    call, calls = Database.call, []

    def breaks(database: Database, do: Any) -> Any:
        calls.append(do)
        if len(calls) > step:
            raise RagError(msg("killed"))
        return call(database, do)

    with monkeypatch.context() as patched:
        patched.setattr(Database, "call", breaks)
        with suppress(RagError):
            store.put(new, ["b/c"])
    seen = [(c.id, c.document) for c in opened().nearest(vectors(0)[0], 9)]
    by_document = {name: [i for i, d in seen if d == name] for name in ("a", "b/c", "fresh")}
    assert by_document["a"] in (["a 0", "a 1"], ["a 7", "a 8"])
    assert by_document["b/c"] in (["b/c 0"], []) and by_document["fresh"] in (["fresh 0"], [])
    assert [c.id for c in opened().nearest(vectors(0)[0], 9, ["a"])] == by_document["a"]
    assert [c.id for c, _ in opened().chunks_of("a")] == by_document["a"]
    if seen == old:
        assert all(d.whole for name, d in opened().documents().items() if name == "b/c")
    # Another write does not make whole what it leaves alone.
    opened().put([one("other", 200)])
    assert [c.id for c in opened().nearest(vectors(0)[0], 9) if c.document == "a"] == by_document["a"]
    opened().forget(["other"])
    opened().put(new, ["b/c"])
    assert {d.document: d.whole for d in opened().documents().values()} == {"a": True, "fresh": True}
    assert sorted(c.id for c in opened().nearest(vectors(0)[0], 9)) == ["a 7", "a 8", "fresh 0"]
    assert opened().count() == 3


def test_what_a_write_that_broke_off_did_not_complete_can_be_used_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # All but the row of the document, that says what is seen.
    commit, commits = Change._put_rows, []

    def breaks(self: Change, *rows: Any) -> None:
        commits.append(rows)
        if len(commits) == 2:
            raise RagError(msg("killed"))
        commit(self, *rows)

    with monkeypatch.context() as patched, pytest.raises(RagError, match="killed"):
        patched.setattr(Change, "_put_rows", breaks)
        store.put([one("fresh", 30)])
    assert store.chunks_of("fresh") == [] and not store.documents()["fresh"].whole
    ((found, vector),) = store.chunks_of("fresh", unfinished=True)
    assert found == chunk("fresh") and np.allclose(vector, vectors(30)[0], atol=1e-6)
    assert store.forget(["fresh"]) == {"fresh": 1} and store.count() == 3


def test_rows_are_found_without_their_texts_and_read_after(store: Store) -> None:
    near = store.near(vectors(2)[0], 2)
    assert [round(float(n.score), 4) for n in near] == [round(c.retrieval.score, 4) for c in store.nearest(vectors(2)[0], 2)]
    chunks = store.chunks([n.row for n in near])
    assert [chunks[n.row] for n in near] == [chunk("a"), chunk("a", 1)]
    assert store.rows_of(["a"]) == chunks and store.rows_of(["a", "b/c"]).keys() > chunks.keys()
    assert [store.chunks([n.row])[n.row].document for n in store.near(vectors(2)[0], 9, ["b/"])] == ["b/c"]
    assert store.chunks([]) == store.rows_of([]) == store.chunks(["none@abc"]) == store.rows_of(["none"]) == {}


def test_rows_of_a_version_that_was_replaced_are_gone(store: Store, opened: Open) -> None:
    before = [n.row for n in store.near(vectors(2)[0], 3)]
    opened().put([Written("a", Version("/r", "new", 1, 2.0), [chunk("a")], vectors(0))])
    assert [c.document for c in store.chunks(before).values()] == ["b/c"]
    assert list(store.rows_of(["a"]).values()) == [chunk("a")] and not set(store.rows_of(["a"])) & set(before)


def test_changes_are_told_since_a_time(store: Store, opened: Open) -> None:
    first = store.changes()
    assert (first.versions.keys(), first.n_documents) == ({"a", "b/c"}, 2)
    opened().put([one("new", 30)])
    then = store.changes(first.last + 1)
    assert (list(then.versions), then.n_documents) == (["new"], 3) and then.last > first.last
    opened().put([one("a", 5)], gone=["new"])
    later = store.changes(then.last + 1)
    assert (list(later.versions), later.n_documents) == (["a"], 2) and later.versions["a"] != first.versions["a"]
    assert store.changes().versions == {**first.versions, **later.versions}


def test_a_version_that_is_not_complete_is_no_change(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(RagError, match="killed"):
        patched.setattr(Change, "_put_chunks", lambda *_: (_ for _ in ()).throw(RagError(msg("killed"))))
        store.put([one("half", 30)])
    assert "half" not in store.changes().versions and store.changes().n_documents == 2


def test_a_document_that_is_forgotten_is_gone(store: Store, opened: Open) -> None:
    assert (store.forget(["a"]), store.forget(["a"])) == ({"a": 2}, {"a": 0})
    assert list(opened().documents()) == ["b/c"]


def test_the_revision_changes_with_each_change_and_with_nothing_else(store: Store, opened: Open) -> None:
    before = store.revision
    assert before == store.revision == opened().revision
    store.forget(["a"])
    assert before != store.revision == opened().revision


def test_another_recipe_and_another_dimension_are_refused(store: Store) -> None:
    store.require(RECIPE)
    with pytest.raises(RecipeError, match="'emb', not 'other'"):
        store.require({**RECIPE, "embedding_model": "other"})
    with pytest.raises(RagError, match="2 dimensions"):
        store.nearest(np.ones(3, dtype=np.float32), 1)
    with pytest.raises(RagError, match="2 dimensions"):
        store.put([one("d", 0)._replace(vectors=np.ones((1, 3), dtype=np.float32))])


def test_a_sibling_takes_the_place_of_a_collection(store: Store, opened: Open, keep: Any) -> None:
    name = store.name
    other = keep(store.sibling(f"{name}-x")).create(RECIPE, 2)
    other.put([one("new", 0)])
    other.replace(name)
    assert list(opened(create=False).documents()) == ["new"]
    with pytest.raises(EmptyCollectionError):
        opened(create=False, collection=f"{name}-x")


def test_a_collection_is_replaced_again_and_again_and_a_replacement_that_is_asked_for_twice_is_made_once(
    store: Store, opened: Open
) -> None:
    for name in ("first", "second"):
        with store.sibling(f"{store.name}{REINDEX}") as new:
            assert (new.recipe, new.count()) == ({}, 0)
            new.drop()
            # It was not the collection itself that was dropped.
            assert store.count() > 0
            new.create(RECIPE, 2).put([one(name, 5)])
            new.replace(store.name)
        with store.sibling(f"{store.name}{REINDEX}") as again:
            # As who lost the connection does.
            again.replace(store.name)
        assert list(opened().documents()) == [name] and store.count() == 1


def test_a_collection_that_is_dropped_is_gone(store: Store, opened: Open) -> None:
    store.drop()
    with pytest.raises(EmptyCollectionError):
        opened(create=False)


def test_what_was_closed_is_whole_when_it_is_opened_again(store: Store, opened: Open) -> None:
    store.close()
    assert opened(create=False).count() == 3


def test_what_there_is_to_choose_from_is_listed(store: Store) -> None:
    store.put([one("b/deep/Straße.md", 30), one("b/deep/other.md", 31), one("c/x.md", 32)])
    whole = store.listing()
    assert [d.document for d in whole.documents] == ["a", "b/c", "b/deep/Straße.md", "b/deep/other.md", "c/x.md"]
    assert (whole.folders, whole.languages) == (("b/", "b/deep/", "c/"), ("de", "en"))
    assert (whole.n_documents, whole.n_chunks, whole.whole) == (5, 6, True)
    assert [d.document for d in store.listing("b/").documents] == ["b/c", "b/deep/Straße.md", "b/deep/other.md"]
    for words in (["STRAßE"], ["deep", "stra"], ["md", "english", "straße"]):
        assert [d.document for d in store.listing(words=words).documents] == ["b/deep/Straße.md"]
    assert [d.document for d in store.listing(words=["german"]).documents] == ["b/c"]
    # Of more than are wanted, those in one folder.
    some = store.listing("b/", most=4)
    assert ([d.document for d in some.documents], some.folders, some.whole) == (["b/c"], ("b/deep/",), False)
    assert [d.document for d in store.listing(most=4).documents] == ["a"]
    assert list(store.documents(["a", "gone", "c/x.md"])) == ["a", "c/x.md"]


@pytest.mark.parametrize(
    ("words", "found"),
    {
        "a part of a word": (["rantie"], ["de/Herstellergarantie.md"]),
        "letters of which others have all": (["rantierg"], []),
        "the beginning of a word, of two letters": (["q3"], ["q3/report.md"]),
        "two letters within a word": (["an"], []),
        "a word of one letter": (["q"], ["q/x.md"]),
        "one letter of Chinese": (["财"], ["财务制度.md"]),
        "two of them": (["务制"], ["财务制度.md"]),
        "two that are not side by side": (["财制"], []),
        "across a point": (["report.md"], ["q3/report.md"]),
        "only signs, which nothing is found by": (["…", "report"], ["q3/report.md"]),
        "more words than Chroma takes at once": (list("abcdefghij"), ["a b c d e f g h i j.md"]),
        "all but one of them": ([*"abcdefghi", "x"], []),
        "the new name of a language": (["french"], ["q3/report.md"]),
        "the old one": (["swedish"], []),
    }.values(),
)
def test_documents_are_sought_by_parts_of_their_words(store: Store, words: list[str], found: list[str]) -> None:
    store.forget(["a", "b/c"])
    store.put([one("q3/report.md", 1, language="sv")])
    names = ["de/Herstellergarantie.md", "q/x.md", "财务制度.md", "a b c d e f g h i j.md", "long/" + "äöü" * 1200 + ".md"]
    store.put([one("q3/report.md", 2, language="fr"), *(one(name, n) for n, name in enumerate(names, 3))])
    assert [d.document for d in store.listing(words=words).documents] == found


def test_of_documents_that_are_sought_no_more_are_listed_than_asked_for(store: Store) -> None:
    # Of the first ones that have both parts, none has them side by side.
    store.put([one(f"abc {n}bcd", n) for n in range(5)])
    store.put([one(f"xabcd {n}", n + 5) for n in range(3)])
    assert [d.document for d in store.listing(words=["abcd"], most=2).documents] == ["xabcd 0", "xabcd 1"]


def test_a_folder_and_a_language_go_with_their_last_document(store: Store) -> None:
    assert store.listing().languages == ("de", "en")
    store.put([one("b/c", 60, language="fr")])
    assert store.listing().languages == ("en", "fr")
    store.forget(["b/c"])
    assert (store.listing().folders, store.listing().languages, store.listing().n_documents) == ((), ("en",), 1)


def test_what_is_longer_than_a_server_takes_comes_back_whole(store: Store) -> None:
    name = f"folder/{'ö' * 200}.md"
    long = chunk(name).model_copy(
        update={"id": "i" * 300, "text": "ä" * 30_000, "headings": ("h" * 9_000,), "title": "t" * 9_000}
    )
    store.put([Written(name, Version("/r" * 5000, "h", 1, 1.0), [long], vectors(3))])
    assert [c for c, _ in store.chunks_of(name)] == [long]
    assert store.documents()[name] == store.document(name) and store.document(name).title == long.title
    assert [c.id for c in store.nearest(vectors(3)[0], 1)] == [long.id]
    assert [c.id for c in store.nearest(vectors(3)[0], 1, ["folder/"])] == [long.id]


def test_one_at_a_time_changes_a_collection_and_parts_of_it_side_by_side(store: Store, opened: Open) -> None:
    other = opened()
    with store.lock():
        for part in ("", "1/2"):
            with (
                pytest.raises(RagError, match=r"is being changed by process \d+.*, started 20.*: wait until"),
                other.lock(part),
            ):
                pass
    with store.lock("1/2"), other.lock("2/2"):
        for part in ("", "1/2", "1/3"):
            with pytest.raises(RagError, match=r"is being changed by process"), opened().lock(part):
                pass
    with other.lock():
        assert other.count() == 3


def test_forgotten_text_is_wiped_out_beside_questions(store: Store, opened: Open) -> None:
    ended = threading.Event()

    def ask() -> int:
        n = 0
        with opened() as other:
            while not ended.is_set():
                assert len(other.documents()) >= 2
                assert len(other.nearest(vectors(0)[0], 3)) >= 3
                n += 1
        return n

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for n in range(3):
                store.put([one(f"secret{n}", 40 + n)])
                store.forget([f"secret{n}"])
                store.wipe()
        finally:
            ended.set()
    assert all(one.result() for one in asking)
    assert sorted(store.documents()) == ["a", "b/c"]


def test_an_index_that_has_grown_is_opened_anew_to_be_written_to_disk_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Any
) -> None:
    monkeypatch.setattr(chroma, "GROWN", {3: {"ef_search": 300, "sync_threshold": 3000}})
    folder = tmp_path / "chroma"
    grown = keep(KeptStore(folder, "grown", create=True)).create(RECIPE, 2)
    grown.put([one("a", 0), one("b", 1)])
    before = identity(folder)
    grown.put([one("c", 2)])
    deadline = time.monotonic() + 20
    while identity(folder) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    # Asked of the next keeper, which was started for it.
    assert grown.count() == 3 and identity(folder) not in (before, None)
    after = identity(folder)
    grown.put([one("d", 3)])
    time.sleep(0.5)
    assert grown.count() == 4 and identity(folder) == after
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        (kept,) = database.execute("SELECT schema_str FROM collections WHERE name = 'grown'").fetchone()
    assert '"sync_threshold":3000' in kept


def test_a_server_behind_tls_is_reached_once_its_authority_is_named(
    chroma_server: str, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Any
) -> None:
    with cloud(chroma_server, prefix="/base", certificate=certificate) as proxy:
        place = {"chroma_url": proxy.url, "chroma_api_key": proxy.token, "chroma_tenant": proxy.tenant}
        opened = _opening({"chroma_path": tmp_path, **place, "chroma_database": proxy.database}, "behind-tls", keep)
        with pytest.raises(RagError, match=r"https://127.* is not trusted: set SSL_CERT_FILE to the PEM file"):
            opened().create(RECIPE, 2)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        store = opened().create(RECIPE, 2)
        store.put([one("a", 0)])
        assert [c.id for c in opened().nearest(vectors(0)[0], 1)] == ["a 0"]


@pytest.mark.parametrize("step", range(4, 10))
def test_a_write_that_breaks_off_after_a_question_looked_at_the_collection_is_not_half_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Any, step: int
) -> None:
    store = keep(ChromaStore(Where(tmp_path / "chroma"), "race", create=True)).create(RECIPE, 2)
    store.put([Written("a", Version("/r", "h1", 2, 1.0), [chunk("a"), chunk("a", 1)], vectors(0, 10))])
    nearest, call, calls = Search.nearest, Database.call, []

    def breaks(database: Database, do: Any) -> Any:
        calls.append(do)
        if len(calls) > step:
            raise RagError(msg("the disk is full"))
        return call(database, do)

    def late(search: Search, *args: Any) -> Any:
        with monkeypatch.context() as patched, pytest.raises(RagError, match="the disk is full"):
            patched.setattr(Database, "call", breaks)
            store.put([Written("a", Version("/r", "new", 2, 9.0), [chunk("a", 7), chunk("a", 8)], vectors(1, 2)), one("b", 3)])
        return nearest(search, *args)

    monkeypatch.setattr(Search, "nearest", late)
    seen = [c.id for c in store.nearest(vectors(0)[0], 9) if c.document == "a"]
    assert sorted(seen) in (["a 0", "a 1"], ["a 7", "a 8"])


def test_a_commit_between_a_questions_look_at_chunks_and_that_at_versions_is_not_half_seen(
    store: Store, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Written("fresh", Version("/r", "new", 3, 9.0), [chunk("fresh", i) for i in range(3)], vectors(1, 2, 3))
    halfway, go_on = threading.Event(), threading.Event()
    put_chunks, tags = Change._put_chunks, Search._tags

    def slowly(self: Change, documents: Any, tag: str) -> None:
        put_chunks(self, [fresh._replace(chunks=fresh.chunks[:1], vectors=fresh.vectors[:1])], tag)
        halfway.set()
        assert go_on.wait(60)
        put_chunks(self, documents, tag)

    def late(self: Search, names: Any) -> Any:
        if not go_on.is_set():
            go_on.set()
            writing.result(60)
        return tags(self, names)

    monkeypatch.setattr(Change, "_put_chunks", slowly)
    monkeypatch.setattr(Search, "_tags", late)
    other = opened()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(other.put, [fresh])
        assert halfway.wait(60)
        found = store.nearest(vectors(2)[0], 9)
    assert go_on.is_set()
    assert [c.id for c in found if c.document == "fresh"] in (
        [],
        ["fresh 1", "fresh 0", "fresh 2"],
        ["fresh 1", "fresh 2", "fresh 0"],
    )


def test_a_question_does_not_wait_for_the_end_of_a_commit_that_waits_for_it(
    store: Store, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway, go_on, put_rows = threading.Event(), threading.Event(), Change._put_rows

    def slowly(self: Change, names: Any, metadatas: Any, *more: Any) -> None:
        if metadatas and metadatas[0].get("tag") and len(names) == 2:
            put_rows(self, names[:1], metadatas[:1], *(one[:1] for one in more))
            halfway.set()
            assert go_on.wait(60)
        put_rows(self, names, metadatas, *more)

    monkeypatch.setattr(Change, "_put_rows", slowly)
    other = opened()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(other.put, [one("x", 1), one("y", 2)])
        assert halfway.wait(60)
        # One of both is seen already; the writer goes on when the question has its answer.
        found = store.nearest(vectors(2)[0], 9)
        go_on.set()
        writing.result(60)
    assert {c.document for c in found} == {"a", "b/c", "x"}
