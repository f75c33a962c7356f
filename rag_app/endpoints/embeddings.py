"""The embeddings endpoint: texts in, vectors out, in the same order."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from rag_app.endpoints import failures
from rag_app.endpoints.embeddings_wire import OPENAI, Kind, dialect_of, rows_in, tokens_in
from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import EndpointError, message_in
from rag_app.endpoints.http import Connection, OnWait, merged
from rag_app.endpoints.learned import Limit, OptionalFields
from rag_app.endpoints.limits import RETRIES
from rag_app.words import msg

# Kinds of failure that are of a text, not of the server.
OF_THE_TEXT: tuple[failures.Kind, ...] = ("too_long", "text", "filtered")
# Kinds that may be of a text, where the server takes others.
MAY_BE_OF_IT: tuple[failures.Kind, ...] = ("request", "too_many", "server", "reply")
Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Embedded:
    """Vectors of a batch of texts, shape (n, dim), and why some of the texts, by row, were refused."""

    vectors: Vectors
    refused: dict[int, str]


class Embeddings:
    """A client of one `/v1/embeddings` endpoint; `n_requests` counts what it answered."""

    def __init__(
        self,
        endpoint: Endpoint,
        question_prefix: str,
        passage_prefix: str,
        batch_size: int,
        concurrency: int,
        input_types: tuple[str, str] | None = None,
    ) -> None:
        """`input_types` are what the endpoint calls a question and a passage, where it wants to be told."""
        self.endpoint = endpoint
        self.question_prefix = question_prefix
        self.passage_prefix = passage_prefix
        self.limit = Limit(batch_size)
        self.optional = OptionalFields("encoding_format")
        self.concurrency = concurrency
        self.dialect = dialect_of(urlsplit(endpoint.url).path)
        self.connection = Connection(endpoint, endpoint.call("embeddings") if self.dialect is OPENAI else endpoint.url)
        self.input_types = input_types
        self.n_requests = 0
        self._embedded = False
        self._counting = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    @property
    def recipe(self) -> dict[str, str]:
        """What vectors depend on, for the collection to remember."""
        named = self.input_types[1] if self.input_types else ""
        return {"embedding_model": self.endpoint.model, "passage_prefix": self.passage_prefix, "passage_input_type": named}

    @property
    def fingerprint(self) -> list[str]:
        """What the vector of a question depends on."""
        return [*self.endpoint.fingerprint, self.question_prefix, *(self.input_types or ())]

    def question(self, text: str) -> tuple[Vectors, int | None]:
        """Return the vector of a question, shape (dim,), and the tokens it took if the endpoint says."""
        try:
            vectors, tokens = self._request([self.question_prefix + text], kind="question")
        except EndpointError as error:
            if error.kind != "too_long":
                raise
            raise self.endpoint.error("too_long", error.reason, msg("shorten the question")) from error
        return vectors[0], tokens

    @property
    def has_batches(self) -> bool:
        """Whether its server may have OpenAI's batch interface."""
        return self.dialect is OPENAI and not self.endpoint.builtin

    def prepare(self, texts: Callable[[], Iterable[str]]) -> None:
        """Do before an ingest what is better done with all of its texts at once: here, nothing."""

    def passages(self, texts: Iterable[str], on_wait: OnWait | None = None) -> Iterator[Embedded]:
        """Yield the texts' vectors batch by batch, in the order given, with the texts that the endpoint refused.

        `concurrency` requests are under way at once, and no more than twice as many batches are held. With `on_wait`, which
        is told the seconds and the reason, a rate limit is waited out.
        """
        batch: list[str] = []
        waiting: deque[Future[Embedded]] = deque()
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            for text in texts:
                batch.append(self.passage_prefix + text)
                if len(batch) >= self.limit.value:
                    waiting.append(pool.submit(self._batch, batch, on_wait))
                    batch = []
                    if len(waiting) == 2 * self.concurrency:
                        yield waiting.popleft().result()
            if batch:
                waiting.append(pool.submit(self._batch, batch, on_wait))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _batch(self, texts: Sequence[str], on_wait: OnWait | None) -> Embedded:
        """Embed a batch; texts that the endpoint refuses are found by halving, the others keep their vectors.

        EndpointError if it refuses them all and has not taken any before, or says nothing of the texts and refuses many.
        """
        found: dict[int, Vectors] = {}
        refused: dict[int, EndpointError] = {}
        self._halved(texts, range(len(texts)), found, refused, on_wait)
        if not found and not self._embedded and (len(texts) > 1 or refused[0].kind in MAY_BE_OF_IT):
            raise refused[0]
        empty = np.zeros(len(next(iter(found.values()))) if found else 0, dtype=np.float32)
        vectors = self._of_one_length([found.get(i, empty) for i in range(len(texts))])
        return Embedded(vectors, {i: error.message for i, error in sorted(refused.items())})

    def _halved(
        self,
        texts: Sequence[str],
        rows: range,
        found: dict[int, Vectors],
        refused: dict[int, EndpointError],
        on_wait: OnWait | None,
    ) -> None:
        try:
            found.update(zip(rows, self._request([texts[i] for i in rows], on_wait)[0], strict=True))
        except EndpointError as error:
            # Some servers answer 500 to a text that they cannot take, and go on answering the others.
            if error.kind not in (*OF_THE_TEXT, *MAY_BE_OF_IT) or (error.kind == "server" and error.status != 500):
                raise
            if len(rows) > 1:
                half = (len(rows) + 1) // 2
                self._halved(texts, rows[:half], found, refused, on_wait)
                self._halved(texts, rows[half:], found, refused, on_wait)
                # What is said of none of the texts, and fails for the first four, fails whatever is sent.
                if error.kind in MAY_BE_OF_IT and not found and len(rows) >= 4:
                    raise
            else:
                refused[rows[0]] = error

    def _request(
        self, texts: Sequence[str], on_wait: OnWait | None = None, kind: Kind = "passage"
    ) -> tuple[Vectors, int | None]:
        """Return the vectors of a batch; a batch that the server finds too large is halved, and later ones are too."""
        if len(texts) > (most := self.limit.value):
            first, second = (self._request(part, on_wait, kind) for part in (texts[:most], texts[most:]))
            return self._of_one_length([*first[0], *second[0]]), _sum(first[1], second[1])
        deadline = time.monotonic() + self.endpoint.timeout * (RETRIES + 1)
        body = self.optional.fields(self._body(texts, kind))
        try:
            reply = self.connection.post(body, deadline, on_wait=on_wait)
        except EndpointError as error:
            if self.optional.refused(error, body) or (error.kind == "too_many" and self.limit.refused(len(texts))):
                return self._request(texts, on_wait, kind)
            raise
        self.limit.worked(len(texts))
        with self._counting:
            self.n_requests += 1
        return self._parse(reply, len(texts))

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return the request for passages as it is sent: with their prefix, and the user's parameters."""
        return merged(self._body([self.passage_prefix + text for text in texts], "passage"), self.endpoint.parameters)

    def has_embedded(self) -> None:
        """Take a request that is refused for one of its texts: the endpoint has embedded others before."""
        self._embedded = True

    def vectors_in(self, reply: Any, n: int) -> Vectors:
        """Return the vectors in a reply to n texts, shape (n, dim). EndpointError if they are not there."""
        return self._parse(reply, n)[0]

    def _body(self, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
        body = self.dialect.build(self.endpoint.model, texts, kind)
        return {**body, "input_type": self.input_types[kind == "passage"]} if self.input_types else body

    def _of_one_length(self, vectors: Sequence[Any]) -> Vectors:
        try:
            return np.array(vectors, dtype=np.float32)
        except (ValueError, TypeError, OverflowError):
            raise self.endpoint.error("reply", msg("the embeddings differ in length or are not numbers")) from None

    def _parse(self, reply: Any, n: int) -> tuple[Vectors, int | None]:
        try:
            rows = rows_in(reply)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            found = self.endpoint.masked(message_in(reply) or str(reply))[:80]
            raise self.endpoint.error("reply", msg("the reply is not a list of embeddings: {found}", found=found)) from None
        # Some servers leave out the numbers of one text and give the others theirs.
        missing: failures.Kind = "text" if self._embedded else "reply"
        if [index for index, _ in rows] != list(range(n)):
            reason = msg("{found} embeddings came back for {n} texts, or their indices do not match", found=len(rows), n=n)
            raise self.endpoint.error(missing, reason)
        sound = [numbers is not None and not (hasattr(numbers, "__len__") and len(numbers) == 0) for _, numbers in rows]
        if not all(sound):
            raise self.endpoint.error(missing, msg("an embedding is empty"))
        array = self._of_one_length([numbers for _, numbers in rows])
        if array.ndim != 2 or array.shape[1] == 0:
            raise self.endpoint.error("reply", msg("the embeddings differ in length or are not numbers"))
        if not np.isfinite(array).all():
            raise self.endpoint.error("text", msg("the embeddings contain NaN or infinite values"))
        self._embedded = True
        return array, tokens_in(reply)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
