"""Bulk: vectors by the batch interface of the endpoint, for a corpus that can wait a day and is to cost half.

All texts that an ingest would embed are written to files of requests, which the server answers in its own time. What is under
way is kept in a folder, so that a run which is ended, or a machine that is, loses nothing: the same command goes on from it.
Then the ingest takes its vectors from there, and asks the endpoint itself for what no batch answered.
"""

import hashlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from rag_app.endpoints.batches import EMBEDDINGS, MOST_BYTES, MOST_INPUTS, Batch, Batches
from rag_app.endpoints.embeddings import Embedded, Embeddings, Vectors
from rag_app.endpoints.failures import EndpointError
from rag_app.endpoints.http import PASSING, OnWait
from rag_app.errors import RagError
from rag_app.words import Message, msg

# After a batch, so few texts that have come since are embedded at once.
FEW = 1000
# Seconds between two looks at a batch, at first and later.
LOOK, LOOK_AT_MOST = 1.0, 60.0
Told = Callable[[Message], None]


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
        whose = repr([collection, embeddings.endpoint.url, sorted(embeddings.recipe.items())])
        self.mark = hashlib.sha256(whose.encode()).hexdigest()[:16]
        self.folder = folder / self.mark
        self._answered = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
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
        """Delete what was kept: all of it is stored."""
        self.close()
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
            length = max(len(vector) for vector in found.values())
            empty = np.zeros(length, np.float32)
            yield Embedded(np.stack([empty if i in refused else found[i] for i in range(len(group))]), refused)

    def _vector(self, text: str) -> Vectors | None:
        row = self._kept.execute("SELECT vector FROM vectors WHERE text = ?", (_key(text),)).fetchone()
        return np.frombuffer(row[0], np.float32) if row else None

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
        partial = path.with_suffix(".partial")
        written = size = 0
        try:
            with partial.open("wb") as file:
                while written < len(texts) and size < MOST_BYTES:
                    batch = texts[written : written + self.embeddings.limit.value]
                    body = self.embeddings.body(batch)
                    line = {"custom_id": str(written), "method": "POST", "url": EMBEDDINGS, "body": body}
                    size += file.write(orjson.dumps(line) + b"\n")
                    written += len(batch)
            partial.replace(path)
        except OSError as error:
            raise RagError(
                msg("{path} cannot be written ({reason})", path=path, reason=error.strerror or error),
                msg("check RAG_BATCH_PATH, and the room on its disk"),
            ) from error
        self._kept.execute("BEGIN")
        self._kept.executemany("INSERT INTO asked VALUES (?, ?)", [(_key(text), part) for text in texts[:written]])
        self._kept.execute("INSERT INTO parts VALUES (?, '')", (part,))
        self._kept.execute("COMMIT")
        return texts[written:]

    def _collect(self) -> bool:
        """Submit what is not, wait for all that is under way and keep its vectors; whether there was any."""
        parts = self._kept.execute("SELECT part, batch FROM parts WHERE batch != 'ended' ORDER BY part").fetchall()
        under_way: list[tuple[str, str]] = []
        for part, batch in parts:
            # One that was submitted may not have been noted.
            started = batch or self.batches.find(f"{self.mark}-{part}")
            if not started:
                self.told(msg("sending a batch of requests"))
                started = self.batches.submit(self.folder / f"{part}.jsonl", f"{self.mark}-{part}")
            self._kept.execute("UPDATE parts SET batch = ? WHERE part = ?", (started, part))
            under_way.append((part, started))
        for part, batch in under_way:
            self._keep(part, self._ended(batch))
        return bool(parts)

    def _ended(self, batch_id: str) -> Batch:
        """Wait until a batch has ended. A server that cannot be reached meanwhile is asked again."""
        said, pause = "", LOOK
        while True:
            try:
                batch = self.batches.look(batch_id)
                line = msg(
                    "batch {batch} ({status}): {done:,} of {of:,} requests done",
                    batch=batch_id,
                    status=batch.status,
                    done=batch.done,
                    of=batch.of,
                )
                if batch.ended:
                    self.told(line)
                    return batch
            except EndpointError as error:
                if error.kind not in PASSING:
                    raise
                line = msg("{error}; asking again", error=error.message)
            if line != said:
                self.told(line)
            said = line
            self.sleep(pause)
            pause = min(1.5 * pause, LOOK_AT_MOST)

    def _keep(self, part: str, batch: Batch) -> None:
        """Keep the vectors of a batch that has ended. EndpointError if the server refused it as a whole."""
        path = self.folder / f"{part}.jsonl"
        requests = {row["custom_id"]: row["body"]["input"] for row in map(orjson.loads, path.read_bytes().splitlines())}
        texts = self._texts_of(part)
        if batch.status == "failed":
            # Asked for again by the next run, as a batch of its own.
            self._forget(part)
            reason = msg("batch {batch} was refused ({reason})", batch=batch.id, reason=batch.reason or batch.status)
            raise self.embeddings.endpoint.error(
                "request", reason, msg("check the model and the limits of the account, or ingest without --batch")
            )
        self._kept.execute("BEGIN")
        for custom_id, reply in self.batches.answers(batch):
            inputs = requests.pop(custom_id, None)
            if reply is None or inputs is None:
                continue
            try:
                vectors = self.embeddings.vectors_in(reply, len(inputs))
            except EndpointError as error:
                self.told(msg("an answer of batch {batch} is of no use: {reason}", batch=batch.id, reason=error.reason))
                continue
            self._answered += 1
            keys = texts[int(custom_id) : int(custom_id) + len(inputs)]
            self._kept.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                [(key, vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)],
            )
        if batch.status != "completed":
            # What it did not come to.
            for custom_id, inputs in requests.items():
                rest = texts[int(custom_id) : int(custom_id) + len(inputs)]
                self._kept.executemany("DELETE FROM asked WHERE text = ?", [(key,) for key in rest])
        self._kept.execute("UPDATE parts SET batch = 'ended' WHERE part = ?", (part,))
        self._kept.execute("COMMIT")
        path.unlink()

    def _texts_of(self, part: str) -> list[bytes]:
        """Return the keys of a part's texts, in their order."""
        found = self._kept.execute("SELECT text FROM asked WHERE part = ? ORDER BY rowid", (part,))
        return [row[0] for row in found]

    def _forget(self, part: str) -> None:
        self._kept.execute("BEGIN")
        self._kept.execute("DELETE FROM asked WHERE part = ?", (part,))
        self._kept.execute("DELETE FROM parts WHERE part = ?", (part,))
        self._kept.execute("COMMIT")
        (self.folder / f"{part}.jsonl").unlink(missing_ok=True)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
