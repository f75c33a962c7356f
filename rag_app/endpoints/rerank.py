"""The rerank endpoint: candidates in, the same candidates out with rerank ranks, and a receipt of what happened.

The order is ours: whatever a server answers is read as row → raw score, and sorted here.
"""

import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rag_app import language
from rag_app.endpoints.breaker import Breaker
from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import EndpointError, message_in
from rag_app.endpoints.http import PASSING, Connection
from rag_app.endpoints.learned import Limit
from rag_app.endpoints.limits import BATCHES_AT_ONCE, CUT_TOKENS, LEAST_TOKENS, MANY
from rag_app.endpoints.rerank_wire import DIALECTS, Document, index_of, rows_in, score_of, usage_in
from rag_app.settings import Settings
from rag_app.types import Candidate, Ranking, Receipt
from rag_app.words import NOTHING, Message, joined, msg, nmsg

log = logging.getLogger(__name__)


@dataclass
class _Tally:
    """What happened on the way, for the receipt."""

    deadline: float
    attempts: int = 0
    dropped: int = 0
    truncated: set[int] = field(default_factory=set)
    usage: dict[str, float] = field(default_factory=dict)
    warnings: list[Message] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def warn(self, text: Message) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def attempt(self) -> None:
        with self.lock:
            self.attempts += 1


class Reranker:
    """A client of one rerank endpoint, with one pool of connections, and what it has learned of the endpoint."""

    def __init__(self, endpoint: Endpoint, settings: Settings, breaker: Breaker | None = None) -> None:
        self.endpoint = endpoint
        self.settings = settings
        known = (name for name, dialect in DIALECTS.items() if dialect.recognise(endpoint.url))
        auto = settings.rerank_dialect == "auto"
        self.dialect = next(known, "flat") if auto else settings.rerank_dialect
        self.limit = Limit(settings.rerank_max_documents or DIALECTS[self.dialect].max_documents or MANY)
        self.connection = Connection(endpoint, endpoint.url)
        self.breaker = breaker or Breaker.of(f"{endpoint.url} {endpoint.model}")

    @property
    def fingerprint(self) -> list[Any]:
        """What scores depend on beside question and texts."""
        s = self.settings
        how = [s.rerank_dialect, s.rerank_max_documents, s.rerank_max_tokens, s.rerank_images]
        return [*self.endpoint.fingerprint, *how]

    def rerank(self, question: str, candidates: Sequence[Candidate]) -> tuple[list[Candidate], Receipt]:
        """Return the candidates in the order given, each with its rerank rank and raw score where it got one.

        What the endpoint does wrong never raises: every candidate stays as it was and the receipt says `fallback`. Only
        with RAG_RERANK_ON_FAILURE=error is it an EndpointError.
        """
        start = time.monotonic()
        # A blank document makes some servers reject the whole request.
        sent = [i for i, candidate in enumerate(candidates) if candidate.text.strip()]
        if not sent:
            return list(candidates), self.skipped(msg("there is no text to rerank"))
        tally = _Tally(start + self.settings.rerank_deadline)
        try:
            self._refuse_while_open()
            scores = self._scores(question, [self._document(candidates[i]) for i in sent], tally)
        except EndpointError as error:
            # What one question has brought about says nothing of the next.
            if error.kind in PASSING and not isinstance(error, _CircuitOpenError):
                self.breaker.failed(error.reason)
            if self.settings.rerank_on_failure == "error":
                raise
            receipt = self._receipt("fallback", tally, start, sent=len(sent), reason=error.message)
            log.warning(receipt.line)
            return list(candidates), receipt
        self.breaker.reset()
        # Stable: equal scores keep the order of retrieval.
        order = sorted(scores, key=lambda row: -scores[row])
        ranking = {sent[row]: Ranking(rank=rank, score=scores[row]) for rank, row in enumerate(order, 1)}
        reranked = [c.model_copy(update={"rerank": ranking.get(i)}) for i, c in enumerate(candidates)]
        status, reason = "applied", NOTHING
        if unscored := len(candidates) - len(ranking):
            status = "partial"
            reason = nmsg(
                "{n} of {of} candidates got no score and follows in retrieval order",
                "{n} of {of} candidates got no score and follow in retrieval order",
                unscored,
                of=len(candidates),
            )
        receipt = self._receipt(status, tally, start, sent=len(sent), scored=len(ranking), reason=reason)
        if log.isEnabledFor(logging.INFO):
            log.info(receipt.line)
        return reranked, receipt

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    def skipped(self, reason: str) -> Receipt:
        """Return the receipt of a rerank that was not asked for."""
        return Receipt(status="skipped", model=self.endpoint.model, endpoint=self.endpoint.address, reason=reason)

    def _receipt(self, status: str, tally: _Tally, start: float, **fields: Any) -> Receipt:
        return Receipt.model_validate(
            {
                "status": status,
                "model": self.endpoint.model,
                "endpoint": self.endpoint.address,
                "dialect": self.dialect,
                "dropped": tally.dropped,
                "truncated": len(tally.truncated),
                "attempts": tally.attempts,
                "usage": tally.usage,
                "warnings": tally.warnings,
                "ms": (time.monotonic() - start) * 1000,
                **fields,
            }
        )

    def _document(self, candidate: Candidate) -> Document:
        pictures = self.settings.rerank_images and self.dialect not in ("tei", "nim")
        return Document(candidate.text_in_context, candidate.image if pictures else "")

    def _refuse_while_open(self) -> None:
        if (left := self.breaker.seconds_left) > 0:
            reason = msg(
                "skipped after {n} failures in a row ({last}); next try in {seconds:.0f} s",
                n=self.breaker.failures,
                last=self.breaker.last_reason,
                seconds=left,
            )
            raise _CircuitOpenError(joined(": ", (self.endpoint.name, reason)), NOTHING, "unreachable", reason)

    def _scores(self, question: str, documents: list[Document], tally: _Tally) -> dict[int, float]:
        """Return row → raw score, in row order, for the documents that got one; EndpointError if none did."""
        if budget := self.settings.rerank_max_tokens:
            documents = _cut(documents, range(len(documents)), budget, tally)
        try:
            scores = self._in_batches(question, documents, tally)
        except EndpointError as error:
            # TEI answers an ordinary request so; its own URL, /rerank, is one that others serve too.
            if self.settings.rerank_dialect != "auto" or "missing field `texts`" not in error.reason:
                raise
            self.dialect = "tei"
            self.limit = Limit(self.settings.rerank_max_documents or DIALECTS["tei"].max_documents)
            scores = self._in_batches(question, documents, tally)
        if not scores:
            raise self.endpoint.error("reply", msg("no result has a valid index and a numeric score"))
        if tally.dropped:
            tally.warn(
                nmsg(
                    "{n} result without a valid index or score was dropped",
                    "{n} results without a valid index or score were dropped",
                    tally.dropped,
                )
            )
        if len(scores) > 1 and len(set(scores.values())) == 1:
            tally.warn(msg("every score is the same: retrieval order was kept"))
        return scores

    def _in_batches(self, question: str, documents: list[Document], tally: _Tally) -> dict[int, float]:
        size = self.limit.value
        batches = [range(start, min(start + size, len(documents))) for start in range(0, len(documents), size)]
        if len(batches) == 1:
            found = [self._batch(question, documents, batches[0], tally)]
        else:
            n = len(batches)
            tally.warn(msg("scored in {n} batches: comparable only if the model scores each document independently", n=n))
            with ThreadPoolExecutor(BATCHES_AT_ONCE) as pool:
                found = list(pool.map(lambda rows: self._batch(question, documents, rows, tally), batches))
        return {row: score for batch in found for row, score in sorted(batch.items())}

    def _batch(self, question: str, documents: list[Document], rows: range, tally: _Tally) -> dict[int, float]:
        """Return row → score for some rows; halved if they are too many, cut as far as it takes if they are too long."""
        part = [documents[row] for row in rows]
        try:
            reply = self._post(question, part, tally)
        except EndpointError as error:
            if error.kind == "too_many" and self.limit.refused(len(rows)):
                half = (len(rows) + 1) // 2
                tally.warn(msg("the endpoint takes fewer documents at once: set RAG_RERANK_MAX_DOCUMENTS={n}", n=half))
                first = self._batch(question, documents, rows[:half], tally)
                return first | self._batch(question, documents, rows[half:], tally)
            if error.kind != "too_long":
                raise
            reply = self._post_cut(question, part, rows, tally, error)
        self.limit.worked(len(rows))
        return {rows[i]: score for i, score in self._read(reply, len(part), tally).items()}

    def _post_cut(self, question: str, documents: list[Document], rows: range, tally: _Tally, error: EndpointError) -> Any:
        """Return the reply to documents that are cut shorter until the endpoint takes them; the error if it never does."""
        longest = max(int(language.tokens(document.text)) for document in documents)
        budget = min(CUT_TOKENS, longest // 2)
        while budget >= LEAST_TOKENS and time.monotonic() < tally.deadline:
            try:
                reply = self._post(question, _cut(documents, rows, budget, tally), tally)
            except EndpointError as again:
                if again.kind != "too_long":
                    raise
                error, budget = again, budget // 2
                continue
            tally.warn(msg("documents were too long and were truncated: set RAG_RERANK_MAX_TOKENS={n}", n=budget))
            return reply
        raise error

    def _post(self, question: str, documents: list[Document], tally: _Tally) -> Any:
        """Return the decoded reply, and add to the tally what it took."""
        body = DIALECTS[self.dialect].build(self.endpoint.model, question, documents)
        reply = self.connection.post(body, tally.deadline, tally.attempt)
        with tally.lock:
            for name, count in usage_in(reply).items():
                tally.usage[name] = tally.usage.get(name, 0) + count
        return reply

    def _read(self, reply: Any, n: int, tally: _Tally) -> dict[int, float]:
        """Return row → raw score for the rows of one reply that got a sound one."""
        rows = rows_in(reply)
        if rows is None:
            message = " ".join(message_in(reply).split())[:300] if isinstance(reply, dict) else ""
            raise self.endpoint.error("reply", joined(": ", (msg("the reply has no results"), message)))
        scores: dict[int, float] = {}
        for row in rows:
            index, score = index_of(row, n), score_of(row)
            if index is None or score is None:
                with tally.lock:
                    tally.dropped += 1
                continue
            if index in scores:
                tally.warn(msg("a document came back twice: its higher score was used"))
            scores[index] = max(score, scores.get(index, -math.inf))
        return scores


class _CircuitOpenError(EndpointError):
    """The endpoint is being left alone."""


def _cut(documents: list[Document], rows: range, tokens: int, tally: _Tally) -> list[Document]:
    """Return documents cut to a budget of tokens, estimated."""
    cut = [Document(language.beginning(document.text, tokens), document.image) for document in documents]
    tally.truncated.update(row for row, whole, part in zip(rows, documents, cut, strict=True) if part != whole)
    return cut
