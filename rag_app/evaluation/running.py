"""Asking all questions of a set through the pipeline, several at once, and keeping what failed apart."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from rag_app.evaluation.memory import RememberingPipeline
from rag_app.evaluation.sets import Question
from rag_app.types import RagError, Record, Search

# Told (done, of, failed) after every question.
OnQuestion = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Asked:
    """A question and its search; `failure` says why there is none, or why it is not of a working reranker."""

    question: Question
    search: Search | None
    failure: str = ""


class Failure(Record):
    """How many questions failed for a reason."""

    reason: str
    questions: int


class Counts(Record):
    """Questions by what became of them: measured; failed; unanswerable; unjudged (nothing relevant known in this collection).

    Of those measured, the reranker scored some candidates only in `partial`, and was not asked in `skipped`. `lost` counts
    judgements whose words stand in no chunk.
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
    on_question: OnQuestion = lambda done, of, failed: None,
) -> list[Asked]:
    """Return every question with its search, in order. What failed is asked a second time at the end.

    What was remembered costs no call, so a run that was broken off goes on where it ended.
    """
    answered: dict[str, Asked] = {}

    def several(part: Sequence[Question]) -> None:
        pool = ThreadPoolExecutor(at_once)
        try:
            for future in as_completed([pool.submit(_ask, pipeline, question, n_candidates) for question in part]):
                asked = future.result()
                answered[asked.question.id] = asked
                on_question(len(answered), len(questions), sum(bool(a.failure) for a in answered.values()))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    several(questions)
    if failed := [asked.question for asked in answered.values() if asked.failure]:
        # An endpoint that failed is left alone for some seconds: what was not tried is tried after them.
        time.sleep(max(0.0, pipeline.reranker.open_until - time.monotonic()))
        several(failed)
    return [answered[question.id] for question in questions]


def _ask(pipeline: RememberingPipeline, question: Question, n_candidates: int) -> Asked:
    try:
        search = pipeline.search(question.text, n_candidates=n_candidates)
    except RagError as error:
        return Asked(question, None, str(error))
    return Asked(question, search, search.rerank.reason if search.rerank.status == "fallback" else "")
