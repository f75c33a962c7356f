"""Bulk: vectors by the batch interface of the endpoint, for a corpus that can wait a day and is to cost half.

All texts that an ingest would embed are written to files of requests, which the server answers in its own time. What is under
way is kept in a folder, so that a run which is ended, or a machine that is, loses nothing: the same command goes on from it.
Then the ingest takes its vectors from there, and asks the endpoint itself for what no batch answered.
"""

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from rag_app.endpoints.batches import EMBEDDINGS, MOST_BYTES, MOST_INPUTS, Batch, Batches
from rag_app.endpoints.embeddings import Embedded, Embeddings, Vectors
from rag_app.endpoints.failures import EndpointError
from rag_app.endpoints.http import PASSING, OnWait
from rag_app.errors import RagError
from rag_app.words import NOTHING, Message, msg

# After a batch, so few texts that have come since are embedded at once.
FEW = 1000
# Seconds between two looks at a batch, at first and later.
LOOK, LOOK_AT_MOST = 1.0, 60.0
Told = Callable[[Message], None]
T = TypeVar("T")


class Bulk:
    """Embeddings for an ingest, by batches: what it has the ingest takes for the client of the endpoint."""

    def __init__(
        self,
        embeddings: Embeddings,
        folder: Path,
        collection: str,
        told: Told = lambda line: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`folder` keeps what is under way, of each collection and model apart. `told` hears how it goes.

        RagError if the folder cannot be written, or the address is of no OpenAI-style endpoint.
        """
        if not embeddings.has_batches:
            raise RagError(
                msg("{name} has no batch interface", name=embeddings.endpoint.name), msg("run the command without --batch")
            )
        self.embeddings = embeddings
        self.batches = Batches(embeddings.endpoint)
        self.told, self.sleep = told, sleep
        whose = repr([collection, embeddings.endpoint.fingerprint, sorted(embeddings.recipe.items())])
        self.mark = hashlib.sha256(whose.encode()).hexdigest()[:16]
        self.folder = folder / self.mark
        self._said = NOTHING
        self._answered = 0
        self._given: set[bytes] = set()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._kept = sqlite3.connect(self.folder / "kept.sqlite3", isolation_level=None, check_same_thread=False)
            self._kept.execute("CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB)")
            self._kept.execute("CREATE TABLE IF NOT EXISTS asked (text BLOB PRIMARY KEY, part TEXT)")
            self._kept.execute("CREATE TABLE IF NOT EXISTS parts (part TEXT PRIMARY KEY, batch TEXT)")
        except (OSError, sqlite3.Error) as error:
            raise RagError(
                msg("{path} cannot be written ({reason})", path=self.folder, reason=error), msg("check RAG_BATCH_PATH")
            ) from error

    def close(self) -> None:
        """Close files and connections; what is under way stays."""
        self._kept.close()
        self.batches.close()

    def done(self) -> None:
        """Delete what was kept and is stored now; the folder with it, if that is all."""
        with self._together():
            self._kept.executemany("DELETE FROM vectors WHERE text = ?", [(key,) for key in self._given])
        left = self._kept.execute("SELECT count(*) FROM vectors").fetchone()[0]
        self.close()
        if not left:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def recipe(self) -> dict[str, str]:
        """What vectors depend on, for the collection to remember."""
        return self.embeddings.recipe

    @property
    def n_requests(self) -> int:
        """Requests that were answered, one by one or in batches."""
        return self.embeddings.n_requests + self._answered

    def prepare(self, texts: Callable[[], Iterable[str]]) -> None:
        """Have the texts embedded, and return when they are, which may take a day.

        `texts` gives them, twice if need be. EndpointError if a batch is refused; what is under way stays so.
        """
        resumed = self._collect()
        while self._write(texts(), few_at_once=resumed):
            self._collect()
            # Of a batch that expired the rest is asked for again.
            resumed = True

    def passages(self, texts: Iterable[str], on_wait: OnWait | None = None) -> Iterator[Embedded]:
        """Yield the texts' vectors, in the order given: those that are kept, and from the endpoint those that are not."""
        every = iter(texts)
        while group := list(islice(every, self.embeddings.limit.value * self.embeddings.concurrency)):
            found = {i: vector for i, text in enumerate(group) if (vector := self._vector(text)) is not None}
            missing = [i for i in range(len(group)) if i not in found]
            refused: dict[int, str] = {}
            row = 0
            for batch in self.embeddings.passages([group[i] for i in missing], on_wait):
                refused |= {missing[row + i]: reason for i, reason in batch.refused.items()}
                found |= {missing[row + i]: vector for i, vector in enumerate(batch.vectors)}
                row += len(batch.vectors)
            empty = np.zeros(max(len(vector) for vector in found.values()), np.float32)
            try:
                vectors = np.stack([empty if i in refused else found[i] for i in range(len(group))])
            except ValueError:
                raise RagError(
                    msg("the vectors in {path} are not as long as those of the endpoint now", path=self.folder),
                    msg("delete that folder and run the command again"),
                ) from None
            yield Embedded(vectors, refused)

    def _vector(self, text: str) -> Vectors | None:
        row = self._kept.execute("SELECT vector FROM vectors WHERE text = ?", (_key(text),)).fetchone()
        if row is None:
            return None
        self.embeddings.has_embedded()
        self._given.add(_key(text))
        return np.frombuffer(row[0], np.float32)

    def _write(self, texts: Iterable[str], *, few_at_once: bool) -> bool:
        """Write the requests for the texts that no batch was asked for; whether there were any."""
        known = "SELECT 1 FROM asked WHERE text = ? UNION SELECT 1 FROM vectors WHERE text = ?"
        new = (text for text in texts if not self._kept.execute(known, (_key(text),) * 2).fetchone())
        written = False
        while group := list(islice(new, MOST_INPUTS)):
            if few_at_once and not written and len(group) < FEW:
                break
            written = True
            while group:
                group = self._write_part(list(dict.fromkeys(group)))
        return written

    def _write_part(self, texts: list[str]) -> list[str]:
        """Write one file of requests; return the texts that it has no room for."""
        part = str(time.time_ns())
        path = self.folder / f"{part}.jsonl"
        begun = path.with_suffix(".partial")
        written = size = 0
        try:
            with begun.open("wb") as file:
                while written < len(texts) and size < MOST_BYTES:
                    batch = texts[written : written + self.embeddings.limit.value]
                    body = self.embeddings.body(batch)
                    line = {"custom_id": str(written), "method": "POST", "url": EMBEDDINGS, "body": body}
                    size += file.write(orjson.dumps(line) + b"\n")
                    written += len(batch)
                file.flush()
                os.fsync(file.fileno())
            begun.replace(path)
        except OSError as error:
            raise RagError(
                msg("{path} cannot be written ({reason})", path=path, reason=error.strerror or error),
                msg("check RAG_BATCH_PATH, and the room on its disk"),
            ) from error
        with self._together():
            self._kept.executemany("INSERT INTO asked VALUES (?, ?)", [(_key(text), part) for text in texts[:written]])
            self._kept.execute("INSERT INTO parts VALUES (?, '')", (part,))
        return texts[written:]

    def _collect(self) -> bool:
        """Submit what is not, wait for all that is under way and keep its vectors; whether there was any."""
        parts = self._kept.execute("SELECT part, batch FROM parts WHERE batch != 'ended' ORDER BY part").fetchall()
        under_way: list[tuple[str, str]] = []
        for part, batch in parts:
            # One that was submitted may not have been noted.
            started = batch or self._patiently(partial(self._submitted, part))
            self._kept.execute("UPDATE parts SET batch = ? WHERE part = ?", (started, part))
            under_way.append((part, started))
        for part, batch in under_way:
            self._keep(part, batch)
        return bool(parts)

    def _submitted(self, part: str) -> str:
        """Submit a part, unless it has been; return the batch's id."""
        mark = f"{self.mark}-{part}"
        if found := self.batches.find(mark):
            return found
        self.told(msg("sending a batch of requests"))
        return self.batches.submit(self.folder / f"{part}.jsonl", mark)

    def _ended(self, batch_id: str) -> Batch:
        """Wait until a batch has ended."""
        for pause in _pauses():
            batch = self._patiently(lambda: self.batches.look(batch_id))
            self._tell(
                msg(
                    "batch {batch} ({status}): {done:,} of {of:,} requests done",
                    batch=batch_id,
                    status=batch.status,
                    done=batch.done,
                    of=batch.of,
                )
            )
            if batch.ended:
                return batch
            self.sleep(pause)
        raise AssertionError

    def _patiently(self, do: Callable[[], T]) -> T:
        """Do what asks the server, again and again while it cannot be reached: a day is long."""
        for pause in _pauses():
            try:
                return do()
            except EndpointError as error:
                if error.kind not in PASSING:
                    raise
                self._tell(msg("{error}; asking again", error=error.message))
            self.sleep(pause)
        raise AssertionError

    def _tell(self, line: Message) -> None:
        """Say what is new."""
        if line != self._said:
            self.told(line)
        self._said = line

    def _keep(self, part: str, batch_id: str) -> None:
        """Wait for a batch and keep its vectors. EndpointError if the server refused it as a whole, or has it no more.

        That one is asked for again by the next run, as a batch of its own.
        """
        try:
            batch = self._ended(batch_id)
            if batch.status in ("failed", "cancelled"):
                self._forget(part)
                reason = msg("batch {batch} was refused ({reason})", batch=batch.id, reason=batch.reason or batch.status)
                raise self.embeddings.endpoint.error(
                    "request", reason, msg("check the model and the limits of the account, or ingest without --batch")
                )
            self._patiently(lambda: self._keep_answers(part, batch))
        except EndpointError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                self._forget(part)
            raise

    def _keep_answers(self, part: str, batch: Batch) -> None:
        path = self.folder / f"{part}.jsonl"
        requests = {row["custom_id"]: row["body"]["input"] for row in map(orjson.loads, path.read_bytes().splitlines())}
        texts = self._texts_of(part)
        with self.batches.answers(batch, self.folder) as answers, self._together():
            for custom_id, reply in answers:
                inputs = requests.pop(custom_id, None)
                if reply is not None and inputs is not None:
                    self._keep_reply(batch, reply, texts[int(custom_id) : int(custom_id) + len(inputs)])
            if batch.status != "completed":
                # What it did not come to.
                for custom_id, inputs in requests.items():
                    rest = texts[int(custom_id) : int(custom_id) + len(inputs)]
                    self._kept.executemany("DELETE FROM asked WHERE text = ?", [(key,) for key in rest])
            self._kept.execute("UPDATE parts SET batch = 'ended' WHERE part = ?", (part,))
        path.unlink()

    def _keep_reply(self, batch: Batch, reply: Any, keys: list[bytes]) -> None:
        try:
            vectors = self.embeddings.vectors_in(reply, len(keys))
        except EndpointError as error:
            self.told(msg("an answer of batch {batch} is of no use: {reason}", batch=batch.id, reason=error.reason))
            return
        self._answered += 1
        self._kept.executemany(
            "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
            [(key, vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)],
        )

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Write all or nothing."""
        self._kept.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._kept.execute("ROLLBACK")
            raise
        self._kept.execute("COMMIT")

    def _texts_of(self, part: str) -> list[bytes]:
        """Return the keys of a part's texts, in their order."""
        found = self._kept.execute("SELECT text FROM asked WHERE part = ? ORDER BY rowid", (part,))
        return [row[0] for row in found]

    def _forget(self, part: str) -> None:
        with self._together():
            self._kept.execute("DELETE FROM asked WHERE part = ?", (part,))
            self._kept.execute("DELETE FROM parts WHERE part = ?", (part,))
        (self.folder / f"{part}.jsonl").unlink(missing_ok=True)


def _pauses() -> Iterator[float]:
    """Yield the seconds between two looks, without end."""
    pause = LOOK
    while True:
        yield pause
        pause = min(1.5 * pause, LOOK_AT_MOST)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
