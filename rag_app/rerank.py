"""The rerank endpoint: candidates in, the same candidates out with rerank ranks, and a receipt of what happened."""

import json
import math
import random
import time
from collections.abc import Sequence
from typing import Any

import httpx

from rag_app.endpoint import Endpoint
from rag_app.types import Candidate, RagError, Ranking, Receipt

RETRIES = 2
RETRIED = {408, 429, 500, 502, 503, 504}
MAX_WAIT = 30.0


class Reranker:
    """A client of one rerank endpoint, with one pool of connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        key = endpoint.key.get_secret_value()
        self.http = httpx.Client(
            timeout=httpx.Timeout(endpoint.timeout, connect=5.0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    def rerank(self, question: str, candidates: Sequence[Candidate]) -> tuple[list[Candidate], Receipt, int | None]:
        """Return the candidates in the order given, each with its rerank rank and raw score where it got one.

        Never raises for what the endpoint does: a failure leaves every candidate as it was and stands in the receipt.
        The third value is the tokens used, if the endpoint says.
        """
        start = time.perf_counter()
        # A blank document makes some servers reject the whole request.
        sent = [i for i, candidate in enumerate(candidates) if candidate.text.strip()]
        if not sent:
            return list(candidates), self.skipped("there are no candidates"), None
        try:
            reply = self._post(question, [candidates[i].text_in_context for i in sent])
            scores, warnings = self._scores(reply, len(sent))
        except RagError as error:
            ms = (time.perf_counter() - start) * 1000
            return list(candidates), self._receipt("fallback", sent=len(sent), reason=str(error), ms=ms), None
        # Stable: equal scores keep the order of retrieval.
        order = sorted(scores, key=lambda row: -scores[row])
        ranking = {sent[row]: Ranking(rank=rank, score=scores[row]) for rank, row in enumerate(order, 1)}
        reranked = [candidate.model_copy(update={"rerank": ranking.get(i)}) for i, candidate in enumerate(candidates)]
        unscored = len(candidates) - len(ranking)
        receipt = self._receipt(
            "partial" if unscored else "applied",
            sent=len(sent),
            scored=len(ranking),
            reason=f"{unscored} of {len(candidates)} candidates got no score" if unscored else "",
            ms=(time.perf_counter() - start) * 1000,
            warnings=tuple(warnings),
        )
        return reranked, receipt, _tokens(reply)

    def skipped(self, reason: str) -> Receipt:
        """Return the receipt of a rerank that was not asked for."""
        return self._receipt("skipped", reason=reason)

    def _receipt(self, status: str, **fields: Any) -> Receipt:
        return Receipt.model_validate(
            {"status": status, "model": self.endpoint.model, "endpoint": self.endpoint.address, **fields}
        )

    def _post(self, question: str, documents: list[str]) -> Any:
        """Return the decoded reply, after at most two retries of what may pass; RagError otherwise."""
        body = {
            "model": self.endpoint.model,
            "query": question,
            "documents": documents,
            # All of them: the page shows where every candidate went, and the cut is ours.
            "top_n": len(documents),
        }
        for attempt in range(RETRIES + 1):
            retry_after = None
            try:
                response = self.http.post(self.endpoint.url, json=body)
                if response.is_success:
                    return self._decode(response)
                retry_after = response.headers.get("retry-after")
                failure = self.endpoint.status_error(
                    response.status_code, response.reason_phrase, response.content, retry_after
                )
                passing = response.status_code in RETRIED and b"model_not_found" not in response.content
            except httpx.TimeoutException as error:
                raise self.endpoint.transport_error(error, timed_out=True) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = self.endpoint.transport_error(error, timed_out=False)
                passing = isinstance(error, httpx.TransportError)
            wait = _wait(attempt, retry_after)
            if attempt == RETRIES or not passing or wait > MAX_WAIT:
                raise failure
            time.sleep(wait)
        raise AssertionError("unreachable")

    def _decode(self, response: httpx.Response) -> Any:
        try:
            return json.loads(response.content)
        except ValueError:
            kind = response.headers.get("content-type", "no content type")
            raise self.endpoint.error(
                f"the answer is not JSON but {kind}", "check RAG_RERANK_URL or RAG_BASE_URL (is /v1 missing?)"
            ) from None

    def _scores(self, reply: Any, n: int) -> tuple[dict[int, float], list[str]]:
        """Return row → raw score for the rows that got a sound one, in row order, and warnings about the rest."""
        rows = _rows(reply)
        if rows is None:
            message = f" ({reply['message']})" if isinstance(reply, dict) and reply.get("message") else ""
            raise self.endpoint.error(f"the answer holds no list of results{message}", "check RAG_RERANK_URL")
        scores: dict[int, float] = {}
        unusable = 0
        for row in rows:
            index, score = _index(row, n), _score(row)
            if index is None or score is None:
                unusable += 1
            else:
                scores[index] = max(score, scores.get(index, -math.inf))
        if not scores:
            raise self.endpoint.error("no result has a valid index and a numeric score", "check RAG_RERANK_MODEL")
        warnings = [f"{unusable} results without a valid index or score were dropped"] if unusable else []
        if len(scores) > 1 and len(set(scores.values())) == 1:
            warnings.append("every score is the same: the order is that of retrieval")
        return dict(sorted(scores.items())), warnings


def _rows(reply: Any) -> list[Any] | None:
    """Return the list of results in any of the shapes that servers answer, or None."""
    if isinstance(reply, dict):
        if reply.get("success") is False:
            return None
        for field in ("data", "output"):
            if isinstance(reply.get(field), dict):
                reply = reply[field]
        reply = next((reply[field] for field in ("results", "data", "rankings") if reply.get(field)), None)
    return reply if isinstance(reply, list) and reply else None


def _index(row: Any, n: int) -> int | None:
    value = row.get("index") if isinstance(row, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        index = int(value)
        return index if 0 <= index < n and float(value) == index else None
    except (ValueError, OverflowError):
        return None


def _score(row: Any) -> float | None:
    value = next((row[field] for field in ("relevance_score", "score", "logit") if field in row), None)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value) if math.isfinite(float(value)) else None
    except (ValueError, OverflowError):
        return None


def _tokens(reply: Any) -> int | None:
    usage = reply.get("usage") if isinstance(reply, dict) else None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None


def _wait(attempt: int, retry_after: str | None) -> float:
    """Return the seconds before the next attempt: what the server asks for, else full jitter up to 1 s, 2 s."""
    try:
        return float(retry_after or "")
    except ValueError:
        return random.uniform(0, 2.0**attempt)
