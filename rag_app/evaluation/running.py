"""Asking all questions of a set through the pipeline, several at once, and keeping what failed apart."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np

from rag_app.endpoints.failures import EndpointError
from rag_app.errors import RagError
from rag_app.evaluation.memory import RememberingPipeline
from rag_app.evaluation.sets import Question
from rag_app.types import Record, Search
from rag_app.words import NOTHING, Said

# Called as (done, of, failed) after every question.
OnQuestion = Callable[[int, int, int], None]
# An endpoint counts as down after this many failures in a row.
GIVE_UP = 10


def silent(done: int, of: int, failed: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Asked:
    """A question and its search; `failure` says why there is none, or why it is not of a working reranker.

    `down` is whether an endpoint failed, rather than the question.
    """

    question: Question
    search: Search | None
    failure: str = NOTHING
    down: bool = False


class Failure(Record):
    """How many questions failed, were skipped or got a warning for one reason, and their ids."""

    reason: Said
    questions: int
    ids: tuple[str, ...] = ()


class Stage(Record):
    """A stage's time in milliseconds, as median and 95th percentile, and its tokens over all questions if all are known."""

    name: str
    p50: float
    p95: float
    tokens: int | None


def stage(name: str, ms: Sequence[float], tokens: Sequence[int | None]) -> Stage:
    """Return a stage from the milliseconds and tokens of each question, at least one."""
    known = [n for n in tokens if n is not None]
    p50, p95 = (float(value) for value in np.percentile(ms, [50, 95]))
    return Stage(name=name, p50=p50, p95=p95, tokens=sum(known) if len(known) == len(tokens) else None)


class Counts(Record):
    """Questions by what became of them: measured; failed; unanswerable; unjudged (nothing relevant known in this collection).

    Of those measured, the reranker scored some candidates only in `partial`, and was not asked in `skipped`. `lost` counts
    judgements that match no chunk.
    """

    questions: int
    measured: int
    failed: int
    unanswerable: int
    unjudged: int
    partial: int
    skipped: int
    lost: int


def ask_all(
    pipeline: RememberingPipeline,
    questions: Sequence[Question],
    n_candidates: int,
    at_once: int,
    on_question: OnQuestion = silent,
    *,
    rerank: bool = True,
) -> list[Asked]:
    """Return every question with its search, in order. What failed is asked a second time at the end.

    What is kept costs no call, so an interrupted run resumes where it stopped. After GIVE_UP failures in a row of an
    endpoint the rest fail for the same reason, without being asked.
    """
    answered: dict[str, Asked] = {}

    def several(part: Sequence[Question]) -> bool:
        """Ask some; return whether to go on after them."""
        in_a_row = 0
        pool = ThreadPoolExecutor(at_once)
        try:
            for future in as_completed([pool.submit(_ask, pipeline, question, n_candidates, rerank) for question in part]):
                asked = future.result()
                answered[asked.question.id] = asked
                on_question(len(answered), len(questions), sum(bool(a.failure) for a in answered.values()))
                in_a_row = in_a_row + 1 if asked.down else 0
                if in_a_row == GIVE_UP:
                    return False
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return True

    if several(questions):
        several([asked.question for asked in answered.values() if asked.failure])
    reason = next((asked.failure for asked in reversed(answered.values()) if asked.down), NOTHING)
    return [answered.get(question.id) or Asked(question, None, reason) for question in questions]


def _ask(pipeline: RememberingPipeline, question: Question, n_candidates: int, rerank: bool) -> Asked:
    try:
        search = pipeline.search(question.text, n_candidates=n_candidates, rerank=rerank)
    except RagError as error:
        return Asked(question, None, error.message, isinstance(error, EndpointError))
    failed = search.rerank.status == "fallback"
    return Asked(question, search, search.rerank.reason if failed else NOTHING, failed)
