"""What each stage gave, kept on disk by content: a question that was measured once costs no endpoint call again."""

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import orjson

from rag_app.endpoints.breaker import Breaker
from rag_app.endpoints.chat import Answering, Chat
from rag_app.endpoints.embeddings import Embeddings, Vectors
from rag_app.endpoints.opening import open_chat, open_embeddings, open_reranker
from rag_app.endpoints.rerank import Reranker
from rag_app.errors import RagError
from rag_app.labels import jsonl
from rag_app.pipeline import Pipeline
from rag_app.prompt import Message, Shorter
from rag_app.retrieval import Retriever, retrievers
from rag_app.settings import Settings
from rag_app.store.opening import open_store
from rag_app.types import Answer, Candidate, Ranking, Receipt, Search, SearchMs
from rag_app.words import KEEP, msg

log = logging.getLogger(__name__)
T = TypeVar("T")
# Raise it when a stage gives another result for the same input: what was kept before is then ignored.
FORMAT = 4


class Memory:
    """One SQLite file of what stages gave, with the milliseconds that it took; intact after a kill.

    With `fresh`, what was kept before this moment is ignored.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """RagError if the file cannot be made or is not a database."""
        self.since = time.time() if fresh else 0.0
        self.path = folder / "memory.sqlite3"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # SQLite's time-out does not cover the change to WAL, which two at once are in each other's way of.
            with ExitStack() as opened, jsonl.locked(self.path):
                self._file = opened.enter_context(
                    closing(sqlite3.connect(self.path, timeout=30, check_same_thread=False, isolation_level=None))
                )
                self._file.execute("PRAGMA journal_mode=WAL")
                # What a power cut loses is requested again.
                self._file.execute("PRAGMA synchronous=NORMAL")
                self._file.execute("CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, value BLOB, ms REAL, at REAL)")
                opened.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from None
        self._lock = threading.Lock()

    def recall(self, key: bytes) -> tuple[Any, float] | None:
        """Return what was kept under a key, decoded, and the milliseconds that it took to get; None if nothing was."""
        rows = self._run("SELECT value, ms FROM kept WHERE key = ? AND at >= ?", (key, self.since))
        return (orjson.loads(rows[0][0]), rows[0][1]) if rows else None

    def keep(self, key: bytes, value: Any, ms: float) -> None:
        """Keep a value of numbers, text, arrays and records, and the milliseconds that it took to get."""
        self._run("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", (key, _packed(value), ms, time.time()))

    def keep_searches(self, run: Sequence[Any], searches: Mapping[str, Search]) -> None:
        """Keep what a run measured: searches by the ids of their questions. Runs that found the same share it."""
        keys = {}
        for question, search in searches.items():
            packed = _packed(search)
            key = hashlib.sha256(packed).digest()
            self._run("INSERT OR IGNORE INTO kept VALUES (?, ?, 0, ?)", (key, packed, time.time()))
            keys[question] = key.hex()
        self.keep(_key("run", run), keys, 0.0)

    def search_of(self, run: Sequence[Any], question: str) -> Search:
        """Return the search of a question as a run measured it, by the question's id; no endpoint or store is used.

        RagError if it is not kept, as of a run by an older version, or cannot be read.
        """
        try:
            keys, _ = self.recall(_key("run", run)) or ({}, 0.0)
            if kept := self.recall(bytes.fromhex(keys[question])) if question in keys else None:
                return Search.model_validate(kept[0])
        except (ValueError, TypeError):
            log.debug("a search that is kept cannot be read: it is of another version")
        raise RagError(
            msg("The rankings of question {id} are not kept with this run", id=question),
            msg("run the evaluation again to see them"),
        )

    def _run(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> RagError:
        return RagError(
            msg("{path} cannot be used ({reason})", path=self.path, reason=error),
            msg("free some disk space or remove it; what it held is then requested again"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; results that arrive later are not kept."""
        # SQLite must not be closed under another thread's statement.
        with self._lock:
            self._file.close()


class Stages:
    """What remembered stages share: the memory, the calls that it did not save, and this thread's times as first measured."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.n_calls = 0
        self._laps = threading.local()
        self._counting = threading.Lock()

    @property
    def laps(self) -> dict[str, float]:
        """Milliseconds by stage of the question that this thread asks."""
        laps: dict[str, float] = self._laps.__dict__
        return laps

    def kept(
        self,
        stage: str,
        of: Sequence[Any],
        ask: Callable[[], T],
        read: Callable[[Any], T],
        worth: Callable[[T], bool] = lambda found: True,
    ) -> T:
        """Return what is kept of a stage for `of`, as it is read, or what asking gives, which is kept if it is worth it."""
        key = _key(stage, of)
        try:
            if kept := self.memory.recall(key):
                value = read(kept[0])
                self._lap(stage, kept[1])
                return value
        except (ValueError, TypeError, LookupError):
            # Of another version: requested again, and replaced.
            log.debug("what is kept of %s cannot be read", stage)
        # The store is none of the endpoints.
        if stage != "retrieve":
            with self._counting:
                self.n_calls += 1
        start = time.perf_counter()
        value = ask()
        ms = (time.perf_counter() - start) * 1000
        if worth(value):
            self.memory.keep(key, value, ms)
        self._lap(stage, ms)
        return value

    def _lap(self, stage: str, ms: float) -> None:
        # A plan seeks several times.
        self.laps[stage] = ms + (self.laps.get(stage, 0.0) if stage in ("embed", "retrieve") else 0.0)


class RememberedEmbeddings:
    """Embeddings of questions that look into the memory first."""

    def __init__(self, embeddings: Embeddings, stages: Stages) -> None:
        self.embeddings = embeddings
        self.stages = stages
        self.recipe = embeddings.recipe

    def question(self, text: str) -> tuple[Vectors, int | None]:
        def read(kept: Any) -> tuple[Vectors, int | None]:
            return np.array(kept[0], dtype=np.float32), kept[1]

        of = (self.embeddings.fingerprint, text)
        return self.stages.kept("embed", of, lambda: self.embeddings.question(text), read)

    def close(self) -> None:
        self.embeddings.close()


class RememberedRetriever:
    """Retrieval that looks into the memory first."""

    def __init__(self, retriever: Retriever, stages: Stages) -> None:
        self.retriever = retriever
        self.stages = stages
        self.score = retriever.score

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        return self.retriever.fingerprint

    def retrieve(self, question: str, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        def read(kept: Any) -> list[Candidate]:
            return [Candidate.model_validate(candidate) for candidate in kept]

        of = (self.fingerprint, question, vector.tobytes().hex(), n, list(only))
        return self.stages.kept("retrieve", of, lambda: self.retriever.retrieve(question, vector, n, only), read)

    def close(self) -> None:
        self.retriever.close()


class RememberedReranker:
    """A reranker that looks into the memory first. A failed rerank is not kept: the next run tries it again."""

    def __init__(self, reranker: Reranker, stages: Stages) -> None:
        self.reranker = reranker
        self.stages = stages
        self.endpoint = reranker.endpoint
        # Before the client learns anything of the endpoint.
        self.fingerprint = reranker.fingerprint

    def rerank(self, question: str, candidates: Sequence[Candidate]) -> tuple[list[Candidate], Receipt]:
        def ask() -> tuple[list[Ranking | None], Receipt]:
            # Every question is tried: two failures say nothing about the next question. The breaker is its own.
            self.reranker.breaker.reset()
            reranked, receipt = self.reranker.rerank(question, candidates)
            return [c.rerank for c in reranked], receipt

        def read(kept: Any) -> tuple[list[Ranking | None], Receipt]:
            rankings = [Ranking.model_validate(ranking) if ranking else None for ranking in kept[0]]
            if len(rankings) != len(candidates):
                raise ValueError("another number of rankings")
            return rankings, Receipt.model_validate(kept[1])

        of = (self.fingerprint, question, [[c.text_in_context, c.image] for c in candidates])
        rankings, receipt = self.stages.kept("rerank", of, ask, read, lambda found: found[1].status != "fallback")
        return [c.model_copy(update={"rerank": r}) for c, r in zip(candidates, rankings, strict=True)], receipt

    def skipped(self, reason: str) -> Receipt:
        return self.reranker.skipped(reason)

    def close(self) -> None:
        self.reranker.close()


class RememberedChat:
    """A chat model that looks into the memory first. An answer whose stream ended early is not kept."""

    def __init__(self, chat: Chat, stages: Stages) -> None:
        self.chat = chat
        self.stages = stages

    def answer(self, messages: Sequence[Message], passages: Sequence[Candidate], shorter: Iterable[Shorter] = ()) -> Answering:
        """Return the answer that was kept, or that comes."""

        def ask() -> tuple[Answer | None, tuple[int | None, int | None]]:
            answering = self.chat.answer(messages, passages, shorter)
            for _ in answering:
                pass
            return answering.answer, answering.tokens

        def read(kept: Any) -> tuple[Answer | None, tuple[int | None, int | None]]:
            return Answer.model_validate(kept[0]), (kept[1][0], kept[1][1])

        # Its citations name chunks: the same texts may have other names in another collection.
        of = (self.chat.fingerprint, list(messages), [[c.id, c.document] for c in passages])
        answer, tokens = self.stages.kept(
            "answer", of, ask, read, lambda found: bool(found[0] and found[0].finish != "cut_short")
        )
        answering = _Told((), answer)
        answering.tokens = tokens
        answering.ms = self.stages.laps["answer"]
        return answering

    def reply(self, messages: Sequence[Message]) -> tuple[str, Answering]:
        """Return what the model says to messages, and the time and tokens that it took at first."""

        def ask() -> tuple[str, tuple[int | None, int | None], float]:
            text, answering = self.chat.reply(messages)
            return text, answering.tokens, answering.ms

        def read(kept: Any) -> tuple[str, tuple[int | None, int | None], float]:
            return str(kept[0]), (kept[1][0], kept[1][1]), float(kept[2])

        answering = Answering()
        said, answering.tokens, answering.ms = self.stages.kept("reply", (self.chat.fingerprint, list(messages)), ask, read)
        return said, answering

    def close(self) -> None:
        self.chat.close()


class RememberingPipeline:
    """The pipeline that serves questions, with stages that look into a memory first; times are as first measured.

    Whoever opened the memory closes it, after the pipeline.
    """

    def __init__(self, settings: Settings, memory: Memory) -> None:
        """EmptyCollectionError if there is no such collection, RecipeError if other embeddings made it."""
        self.settings = settings
        self.stages = Stages(memory)
        with ExitStack() as opened:
            self.store = opened.enter_context(open_store(settings))
            self.pipeline = Pipeline(
                self.store,
                opened.enter_context(closing(RememberedEmbeddings(open_embeddings(settings), self.stages))),
                lambda: RememberedReranker(open_reranker(settings, Breaker()), self.stages),
                lambda: RememberedChat(open_chat(settings), self.stages),
                settings=settings,
                retrievers={name: RememberedRetriever(r, self.stages) for name, r in retrievers(self.store, settings).items()},
            )
            # From here on the pipeline closes them.
            opened.pop_all()

    @property
    def n_calls(self) -> int:
        """How many calls the memory did not save."""
        return self.stages.n_calls

    def search(self, question: str, **options: Any) -> Search:
        """Return the search of a question, as `Pipeline.search` does."""
        self.stages.laps.clear()
        found = self.pipeline.search(question, **options)
        laps = dict(self.stages.laps)
        laps.pop("reply", None)
        talked = sum(one.ms for one in (found.limit, found.plan) if one)
        ms = found.ms.model_dump() | laps
        total = ms["embed"] + ms["retrieve"] + ms["rerank"] + talked
        return found.model_copy(update={"ms": SearchMs(**{**ms, "total": total})})

    def answer(self, search: Search) -> Answering:
        """Return the answer from a search's passages."""
        return self.pipeline.answer(search)

    def answer_without_rerank(self, search: Search) -> Answering:
        """Return the answer from the passages that retrieval alone would have chosen."""
        return self.pipeline.answer_without_rerank(search)

    def close(self) -> None:
        """Close the store and all connections."""
        self.pipeline.close()


class _Told(Answering):
    """An answer that came before; reading it takes no time of its own."""

    def __iter__(self) -> Iterator[str]:
        return iter(())


def _key(stage: str, of: Sequence[Any]) -> bytes:
    return hashlib.sha256(orjson.dumps([FORMAT, stage, *of], option=orjson.OPT_SORT_KEYS)).digest()


def _packed(value: Any) -> bytes:
    def plain(record: Any) -> Any:
        return record.model_dump(mode="json", context=KEEP)

    return orjson.dumps(value, default=plain, option=orjson.OPT_SERIALIZE_NUMPY)
