"""Ingest by batches: nothing is asked twice or lost, however a batch or a run ends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest import bulk as bulk_module
from ingest import sync
from ingest.bulk import Bulk
from ingest.planning import look_through
from rag_app.endpoints.embeddings import Embeddings
from rag_app.endpoints.failures import EndpointError
from rag_app.endpoints.opening import open_embeddings
from rag_app.errors import RagError
from rag_app.settings import Settings, load_settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from tests.batch_server import BatchServer, serve_batches
from tests.helpers import run
from tests.wire import vector


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with serve_batches() as server:
        yield server


@pytest.fixture
def batched(settings: Settings, server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("RAG_EMBEDDING_URL", server.url)
    monkeypatch.setenv("RAG_EMBEDDING_BATCH_SIZE", "2")
    return load_settings()


@pytest.fixture
def client(batched: Settings, keep: Any) -> Embeddings:
    client: Embeddings = keep(open_embeddings(batched))
    return client


@pytest.fixture
def bulk(client: Embeddings, tmp_path: Path, keep: Any) -> Callable[..., Bulk]:
    return lambda **options: keep(Bulk(client, tmp_path / "batches", "c", **{"sleep": lambda seconds: None, **options}))


def vectors_of(bulk: Bulk, texts: list[str]) -> list[list[float]]:
    return [[round(float(x), 4) for x in row] for batch in bulk.passages(texts) for row in batch.vectors]


def wanted(texts: list[str]) -> list[list[float]]:
    return [[round(x, 4) for x in vector(text)] for text in texts]


TEXTS = [f"text number {i} of five" for i in range(5)]


def test_texts_are_embedded_by_one_batch_and_given_in_their_order(bulk: Any, server: BatchServer) -> None:
    told: list[str] = []
    one = bulk(told=told.append)
    one.prepare(lambda: TEXTS)
    assert vectors_of(one, TEXTS[::-1]) == wanted(TEXTS[::-1])
    assert (len(server.batches), server.live, one.n_requests) == (1, 0, 3)
    assert told == [
        "sending a batch of requests",
        "batch batch_0 (in_progress): 0 of 3 requests done",
        "batch batch_0 (completed): 3 of 3 requests done",
    ]


def test_a_run_that_was_ended_while_it_waited_goes_on_with_the_same_batch(bulk: Any, server: BatchServer) -> None:
    def end(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bulk(sleep=end).prepare(lambda: TEXTS)
    again = bulk()
    again.prepare(lambda: TEXTS)
    assert vectors_of(again, TEXTS) == wanted(TEXTS)
    assert (len(server.batches), server.live) == (1, 0)


def test_a_run_that_was_killed_before_it_noted_its_batch_finds_it_again(
    bulk: Any, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*args: Any) -> None:
        submit(*args)
        raise KeyboardInterrupt

    submit = bulk_module.Batches.submit
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(bulk_module.Batches, "submit", kill)
        bulk().prepare(lambda: TEXTS)
    again = bulk()
    again.prepare(lambda: TEXTS)
    assert vectors_of(again, TEXTS) == wanted(TEXTS) and len(server.batches) == 1


def test_what_a_batch_could_not_answer_is_asked_of_the_endpoint(bulk: Any, server: BatchServer) -> None:
    server.refuses = {TEXTS[0]}
    one = bulk()
    one.prepare(lambda: TEXTS)
    assert vectors_of(one, TEXTS) == wanted(TEXTS) and (len(server.batches), server.live) == (1, 1)


def test_of_a_batch_that_expired_the_rest_is_asked_for_again(
    bulk: Any, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_module, "FEW", 0)
    server.ends, server.skips = "expired", 2
    ended = server.end

    def end(name: str, batch: Any) -> None:
        ended(name, batch)
        server.ends, server.skips = "completed", 0

    server.end = end  # type: ignore[method-assign]
    one = bulk()
    one.prepare(lambda: TEXTS)
    assert vectors_of(one, TEXTS) == wanted(TEXTS)
    assert [len(batch["rows"]) for batch in server.batches.values()] == [3, 2] and server.live == 0


def test_a_batch_that_is_refused_is_an_error_and_begun_anew_by_the_next_run(bulk: Any, server: BatchServer) -> None:
    server.ends = "failed"
    with pytest.raises(EndpointError, match=r"batch batch_0 was refused \(Enqueued token limit reached\).*without --batch"):
        bulk().prepare(lambda: TEXTS)
    server.ends = "completed"
    again = bulk()
    again.prepare(lambda: TEXTS)
    assert vectors_of(again, TEXTS) == wanted(TEXTS) and (len(server.batches), server.live) == (2, 0)


def test_a_server_that_is_down_for_a_while_is_asked_again_and_one_that_refuses_is_not(bulk: Any, server: BatchServer) -> None:
    told: list[str] = []
    server.down = [503] * 12
    one = bulk(told=told.append)
    one.prepare(lambda: TEXTS)
    assert vectors_of(one, TEXTS) == wanted(TEXTS)
    assert any("503" in line and line.endswith("asking again") for line in told)
    server.down = [401]
    with pytest.raises(EndpointError, match="401"):
        bulk().prepare(lambda: ["another", *TEXTS, *[f"n{i}" for i in range(bulk_module.FEW)]])


def test_after_a_batch_a_few_new_texts_do_not_wait_for_another(bulk: Any, server: BatchServer) -> None:
    with pytest.raises(KeyboardInterrupt):
        bulk(sleep=_end).prepare(lambda: TEXTS)
    again = bulk()
    again.prepare(lambda: [*TEXTS, "new"])
    assert vectors_of(again, [*TEXTS, "new"]) == wanted([*TEXTS, "new"]) and (len(server.batches), server.live) == (1, 1)


def test_a_download_that_breaks_off_is_asked_for_again(bulk: Any, server: BatchServer) -> None:
    told: list[str] = []
    server.cut = 2
    one = bulk(told=told.append)
    one.prepare(lambda: TEXTS)
    assert vectors_of(one, TEXTS) == wanted(TEXTS) and (len(server.batches), server.live) == (1, 0)
    assert any(line.endswith("asking again") for line in told)


def test_a_batch_that_the_server_has_no_more_is_begun_anew_by_the_next_run(bulk: Any, server: BatchServer) -> None:
    server.down = [404]
    with pytest.raises(EndpointError, match="no such address"):
        bulk().prepare(lambda: TEXTS)
    again = bulk()
    again.prepare(lambda: TEXTS)
    assert vectors_of(again, TEXTS) == wanted(TEXTS) and len(server.batches) == 2


def test_a_begin_whose_answer_was_lost_is_not_begun_again(bulk: Any, server: BatchServer) -> None:
    server.lost = 1
    one = bulk()
    one.prepare(lambda: TEXTS)
    assert vectors_of(one, TEXTS) == wanted(TEXTS) and len(server.batches) == 1


def test_vectors_of_another_length_than_the_endpoint_gives_now_are_named(bulk: Any, server: BatchServer) -> None:
    server.refuses, server.length = {TEXTS[0]}, 8
    one = bulk()
    one.prepare(lambda: TEXTS)
    with pytest.raises(RagError, match="are not as long as those of the endpoint now: delete that folder"):
        vectors_of(one, TEXTS)


def test_what_was_not_stored_is_kept_for_the_next_run(bulk: Any, server: BatchServer) -> None:
    one = bulk()
    one.prepare(lambda: TEXTS)
    vectors_of(one, TEXTS[:2])
    one.done()
    again = bulk()
    again.prepare(lambda: TEXTS[2:])
    assert vectors_of(again, TEXTS[2:]) == wanted(TEXTS[2:]) and (len(server.batches), server.live) == (1, 0)
    again.done()
    assert not again.folder.exists()


def _end(seconds: float) -> None:
    raise KeyboardInterrupt


def test_batches_have_so_many_inputs_and_bytes_at_most(bulk: Any, server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "MOST_INPUTS", 4)
    one = bulk()
    one.prepare(lambda: TEXTS)
    monkeypatch.setattr(bulk_module, "MOST_BYTES", 100)
    monkeypatch.setattr(bulk_module, "FEW", 0)
    more = [f"more {i}" for i in range(4)]
    one.prepare(lambda: more)
    assert [len(batch["rows"]) for batch in server.batches.values()] == [2, 1, 1, 1]
    assert vectors_of(one, TEXTS + more) == wanted(TEXTS + more) and server.live == 0


def test_an_address_without_batches_is_an_error(batched: Settings, keep: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("RAG_EMBEDDING_URL", "http://127.0.0.1:1/api/embed")
    with pytest.raises(RagError, match=r"has no batch interface: run the command without --batch"):
        Bulk(keep(open_embeddings(load_settings())), tmp_path / "batches", "c")


@pytest.fixture
def stored(batched: Settings, keep: Any) -> Callable[[], Store]:
    return lambda: keep(open_store(batched, create=True))


def test_an_ingest_by_batch_stores_what_one_without_does_and_keeps_nothing(
    batched: Settings, corpus: Path, server: BatchServer, stored: Callable[[], Store]
) -> None:
    result = run("ingest", "docs", "--batch")
    assert result.exit_code == 0, result.output
    assert "3 documents added" in result.stdout and "batch batch_0 (completed)" in result.stderr
    assert (len(server.batches), server.live) == (1, 0)
    assert not list(batched.batch_path.iterdir())
    by_batch = {name: [v.tolist() for _, v in stored().chunks_of(name)] for name in stored().documents()}
    assert run("reset", "--yes").exit_code == 0
    assert run("ingest", "docs").exit_code == 0 and server.live > 0
    assert {name: [v.tolist() for _, v in stored().chunks_of(name)] for name in stored().documents()} == by_batch
    # A second run has nothing to embed, and makes no batch.
    assert run("ingest", "docs", "--batch").exit_code == 0 and len(server.batches) == 1
    assert run("reindex", "--batch").exit_code == 0 and len(server.batches) == 2


def test_a_file_that_changes_while_the_batch_is_under_way_is_stored_as_it_is_then(
    batched: Settings, corpus: Path, server: BatchServer, client: Embeddings, stored: Callable[[], Store], bulk: Any
) -> None:
    def change(seconds: float) -> None:
        (corpus / "new.md").write_text("# New\n\nA new line.")

    with stored() as store:
        first = look_through([corpus], store)
        report = sync.ingest(first, store, bulk(sleep=change), *sync.cutting_and_limits(batched))
        assert report.documents.added == 3
        again = sync.ingest(look_through([corpus], store), store, bulk(), *sync.cutting_and_limits(batched))
        assert again.documents.added == 1 and len(store.documents()) == 4
