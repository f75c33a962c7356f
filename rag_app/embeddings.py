"""The embeddings endpoint: texts in, vectors out, in the same order."""

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import openai

from rag_app import openai_client
from rag_app.endpoint import Endpoint

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Embeddings:
    """A client of one `/v1/embeddings` endpoint."""

    def __init__(
        self, endpoint: Endpoint, question_prefix: str, passage_prefix: str, batch_size: int, concurrency: int
    ) -> None:
        self.endpoint = endpoint
        self.question_prefix = question_prefix
        self.passage_prefix = passage_prefix
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.client = openai_client.connect(endpoint)

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
        try:
            body = openai_client.post(
                self.client,
                "/embeddings",
                # Said outright, since the openai package would ask for base64, which some servers answer with nothing.
                {"model": self.endpoint.model, "input": list(texts), "encoding_format": "float"},
            )
        except openai.OpenAIError as error:
            raise openai_client.failure(self.endpoint, error) from error
        return self._parse(body, len(texts))

    def _parse(self, body: bytes, n: int) -> tuple[Vectors, int | None]:
        try:
            reply = json.loads(body)
            rows = reply["data"]
            # The API promises an index per row, not an order.
            vectors = [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]
            indices = sorted(row["index"] for row in rows)
        except (ValueError, KeyError, TypeError):
            start = body[:80].decode("utf-8", "replace")
            raise self.endpoint.error(
                f"the answer is not a JSON list of embeddings ({start!r}…)",
                "check RAG_EMBEDDING_URL or RAG_BASE_URL (is /v1 missing?)",
            ) from None
        if indices != list(range(n)):
            raise self.endpoint.error(f"{len(indices)} embeddings came back for {n} texts", "try a smaller batch size")
        try:
            array = np.array(vectors, dtype=np.float32)
        except (ValueError, TypeError):
            raise self.endpoint.error("the embeddings differ in length or are not numbers") from None
        if array.ndim != 2 or array.shape[1] == 0 or not np.isfinite(array).all():
            raise self.endpoint.error("the embeddings hold something other than finite numbers")
        usage = reply.get("usage") if isinstance(reply, dict) else None
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return array, tokens if isinstance(tokens, int) else None


def requests_for(n_texts: int, batch_size: int) -> int:
    """Return how many requests `passages` makes for so many texts."""
    return math.ceil(n_texts / batch_size)
