"""The embeddings endpoint: texts in, vectors out, in the same order."""

import base64
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import openai

from rag_app import openai_client
from rag_app.endpoint import Endpoint, error_message

Vectors = np.ndarray[Any, np.dtype[np.float32]]


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
        self.client = openai_client.connect(endpoint)
        self.n_requests = 0

    def question(self, text: str) -> tuple[Vectors, int | None]:
        """Return the vector of a question, shape (dim,), and the tokens it took if the endpoint says."""
        vectors, tokens = self._request([self.question_prefix + text])
        return vectors[0], tokens

    def passages(self, texts: Iterable[str]) -> Iterator[Vectors]:
        """Yield the vectors of the texts batch by batch, shape (≤ batch_size, dim), in the order given.

        `concurrency` requests are under way at once, and no more than twice as many batches are held.
        """
        batch: list[str] = []
        waiting: deque[Future[tuple[Vectors, int | None]]] = deque()
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            for text in texts:
                batch.append(self.passage_prefix + text)
                if len(batch) == self.batch_size:
                    waiting.append(pool.submit(self._request, batch))
                    batch = []
                    if len(waiting) == 2 * self.concurrency:
                        yield waiting.popleft().result()[0]
            if batch:
                waiting.append(pool.submit(self._request, batch))
            while waiting:
                yield waiting.popleft().result()[0]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _request(self, texts: Sequence[str]) -> tuple[Vectors, int | None]:
        """Return the vectors of a batch; a batch that the server finds too large is halved, and later ones are too."""
        if len(texts) > self.batch_size:
            half = (len(texts) + 1) // 2
            first, second = self._request(texts[:half]), self._request(texts[half:])
            return np.concatenate((first[0], second[0])), _sum(first[1], second[1])
        try:
            # Said outright, since the openai package would ask for base64, which some servers answer with nothing.
            body = {"model": self.endpoint.model, "input": list(texts), "encoding_format": "float"}
            reply = openai_client.post(self.client, "/embeddings", body)
        except openai.OpenAIError as error:
            failure = openai_client.failure(self.endpoint, error)
            if failure.kind in ("too_many", "too_long") and len(texts) > 1:
                self.batch_size = min(self.batch_size, (len(texts) + 1) // 2)
                return self._request(texts)
            raise failure from error
        self.n_requests += 1
        return self._parse(reply, len(texts))

    def _parse(self, body: bytes, n: int) -> tuple[Vectors, int | None]:
        try:
            reply = json.loads(body)
            # The API promises an index per row, not an order.
            rows = sorted(reply["data"], key=lambda row: row["index"])
            indices = [row["index"] for row in rows]
            vectors = [_numbers(row["embedding"]) for row in rows]
        except (ValueError, KeyError, TypeError, RecursionError):
            reason = "the answer is not a JSON list of embeddings"
            raise self.endpoint.error("reply", f"{reason}: {error_message(body)[:80]}") from None
        if indices != list(range(n)):
            raise self.endpoint.error("reply", f"{len(indices)} embeddings came back for {n} texts, or not one for each")
        try:
            array = np.array(vectors, dtype=np.float32)
        except (ValueError, TypeError, OverflowError):
            raise self.endpoint.error("reply", "the embeddings differ in length or are not numbers") from None
        if array.ndim != 2 or array.shape[1] == 0 or not np.isfinite(array).all():
            raise self.endpoint.error("reply", "the embeddings hold something other than finite numbers")
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
