"""The embeddings endpoint: texts in, vectors out, in the same order."""

import base64
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import EndpointError, message_in
from rag_app.endpoints.http import Connection
from rag_app.endpoints.limits import RETRIES
from rag_app.words import msg

Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Embedded:
    """Vectors of a batch of texts, shape (n, dim), and why some of the texts, by row, were refused."""

    vectors: Vectors
    refused: dict[int, str]


class Embeddings:
    """A client of one `/v1/embeddings` endpoint; `n_requests` counts what it answered."""

    def __init__(
        self, endpoint: Endpoint, question_prefix: str, passage_prefix: str, batch_size: int, concurrency: int
    ) -> None:
        self.endpoint = endpoint
        self.question_prefix = question_prefix
        self.passage_prefix = passage_prefix
        self.batch_size = batch_size
        self.concurrency = concurrency
        key = endpoint.key.get_secret_value()
        self.connection = Connection(endpoint, endpoint.call("embeddings"), {"Authorization": f"Bearer {key}"} if key else {})
        self.n_requests = 0
        self._counting = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    @property
    def recipe(self) -> dict[str, str]:
        """What vectors depend on, for the collection to remember."""
        return {"embedding_model": self.endpoint.model, "passage_prefix": self.passage_prefix}

    @property
    def fingerprint(self) -> list[str]:
        """What the vector of a question depends on."""
        return [*self.endpoint.fingerprint, self.question_prefix]

    def question(self, text: str) -> tuple[Vectors, int | None]:
        """Return the vector of a question, shape (dim,), and the tokens it took if the endpoint says."""
        vectors, tokens = self._request([self.question_prefix + text])
        return vectors[0], tokens

    def passages(self, texts: Iterable[str]) -> Iterator[Embedded]:
        """Yield the texts' vectors batch by batch, in the order given, with the texts that the endpoint refused.

        `concurrency` requests are under way at once, and no more than twice as many batches are held.
        """
        batch: list[str] = []
        waiting: deque[Future[Embedded]] = deque()
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            for text in texts:
                batch.append(self.passage_prefix + text)
                if len(batch) >= self.batch_size:
                    waiting.append(pool.submit(self._batch, batch))
                    batch = []
                    if len(waiting) == 2 * self.concurrency:
                        yield waiting.popleft().result()
            if batch:
                waiting.append(pool.submit(self._batch, batch))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _batch(self, texts: Sequence[str]) -> Embedded:
        """Embed a batch; if the endpoint refuses it for what it holds, each text by itself.

        EndpointError if it refuses them all: then it is not the texts.
        """
        try:
            return Embedded(self._request(texts)[0], {})
        except EndpointError as error:
            if error.kind not in ("request", "too_long"):
                raise
            refused: dict[int, str] = {0: error.message}
            if len(texts) == 1:
                return Embedded(np.zeros((1, 0), dtype=np.float32), refused)
        rows: dict[int, Vectors] = {}
        refused = {}
        for i, text in enumerate(texts):
            try:
                rows[i] = self._request([text])[0][0]
            except EndpointError as error:
                if error.kind not in ("request", "too_long") or (not rows and i == len(texts) - 1):
                    raise
                refused[i] = error.message
        dimension = len(next(iter(rows.values())))
        empty = np.zeros(dimension, dtype=np.float32)
        return Embedded(np.array([rows.get(i, empty) for i in range(len(texts))]), refused)

    def _request(self, texts: Sequence[str]) -> tuple[Vectors, int | None]:
        """Return the vectors of a batch; a batch that the server finds too large is halved, and later ones are too."""
        if len(texts) > self.batch_size:
            half = (len(texts) + 1) // 2
            first, second = self._request(texts[:half]), self._request(texts[half:])
            return np.concatenate((first[0], second[0])), _sum(first[1], second[1])
        # Not base64, which some servers answer with nothing.
        body = {"model": self.endpoint.model, "input": list(texts), "encoding_format": "float"}
        deadline = time.monotonic() + self.endpoint.timeout * (RETRIES + 1)
        try:
            reply = self.connection.post(body, deadline)
        except EndpointError as error:
            if error.kind != "too_many" or len(texts) == 1:
                raise
            self.batch_size = min(self.batch_size, (len(texts) + 1) // 2)
            return self._request(texts)
        with self._counting:
            self.n_requests += 1
        return self._parse(reply, len(texts))

    def _parse(self, reply: Any, n: int) -> tuple[Vectors, int | None]:
        try:
            # The API promises an index per row, not an order.
            rows = sorted(reply["data"], key=lambda row: row["index"])
            indices = [row["index"] for row in rows]
            vectors = [_numbers(row["embedding"]) for row in rows]
        except (ValueError, KeyError, TypeError):
            found = (message_in(reply) or str(reply))[:80]
            raise self.endpoint.error("reply", msg("the reply is not a list of embeddings: {found}", found=found)) from None
        if indices != list(range(n)):
            reason = msg("{found} embeddings came back for {n} texts, or their indices do not match", found=len(indices), n=n)
            raise self.endpoint.error("reply", reason)
        try:
            array = np.array(vectors, dtype=np.float32)
        except (ValueError, TypeError, OverflowError):
            raise self.endpoint.error("reply", msg("the embeddings differ in length or are not numbers")) from None
        if array.ndim != 2 or array.shape[1] == 0 or not np.isfinite(array).all():
            raise self.endpoint.error("reply", msg("the embeddings contain NaN or infinite values"))
        usage = reply.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return array, tokens if isinstance(tokens, int) else None


def _numbers(embedding: Any) -> Any:
    """Return the numbers of an embedding; some servers send base64 (little-endian float32) whatever was asked for."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return embedding


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
