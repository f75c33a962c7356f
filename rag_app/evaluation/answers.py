"""Answers against what is expected: with and without reranking, the same questions and the same statistics.

Exact match and token F1 are SQuAD's (Rajpurkar et al. 2016): lower case, without punctuation and articles, the best of several
expected answers; Chinese, Japanese and Korean count by characters (Cui et al. 2019). An answer that cites no passage
declines: the prompt demands a citation after each statement.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from rag_app import prompt
from rag_app.endpoints.chat import Answering
from rag_app.endpoints.failures import EndpointError
from rag_app.errors import RagError
from rag_app.evaluation.differences import Measured, compared
from rag_app.evaluation.memory import RememberedChat, RememberingPipeline
from rag_app.evaluation.running import GIVE_UP, Asked, OnQuestion, Stage, silent, stage
from rag_app.evaluation.sets import Question
from rag_app.types import Answer, Record
from rag_app.words import msg

# An answer with a token F1 like this states what is expected, as far as labels can tell: what a judge is held against.
RIGHT_F1 = 0.5
_MARKER = re.compile(r"\[\d{1,3}\]")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_ARTICLE = re.compile(r"\b(a|an|the)\b")


class Scored(Record):
    """One answer: None where a measure does not apply to its question."""

    text: str
    refused: bool
    exact: float | None = None
    f1: float | None = None
    answered: float | None = None
    refused_rightly: float | None = None
    citation_precision: float | None = None
    citation_recall: float | None = None
    judged: float | None = None


class AnswerPair(Record):
    """The answers to one question, from the passages in retrieval order and after reranking; `ms` of the latter."""

    id: str
    question: str
    expected: tuple[str, ...]
    before: Scored
    after: Scored
    ms: float | None
    tokens: int | None


class Agreement(Record):
    """How far a judge model and the labels say the same of n answers: the share, and Cohen's kappa (Cohen 1960).

    The labels call an answer right if it declines what nothing answers, or has a token F1 of 0.5 where an answer is expected.
    `unclear` counts replies that were neither yes nor no.
    """

    model: str
    n: int
    share: float
    kappa: float
    unclear: int


class AnswersReport(Record):
    """What was measured of answers; `failures` are questions that got none, or only one, by reason."""

    model: str
    measured: tuple[Measured, ...]
    failures: dict[str, int]
    stages: tuple[Stage, ...]
    agreement: Agreement | None
    pairs: tuple[AnswerPair, ...]


# What is measured: field, name, in the order shown.
MEASURES = {
    "exact": msg("exact match"),
    "f1": msg("token F1"),
    "answered": msg("answered (answerable)"),
    "refused_rightly": msg("declined (unanswerable)"),
    "citation_precision": msg("citation precision"),
    "citation_recall": msg("citation recall"),
    "judged": msg("right by the judge"),
}


@dataclass(frozen=True)
class Judge:
    """A chat model that says whether an answer states what is expected."""

    model: str
    chat: RememberedChat

    def right(self, question: Question, answer: str) -> bool | None:
        """Return its yes or no; None if it said neither."""
        messages = prompt.judging(question.text, question.answers or (), answer)
        said, _ = self.chat.reply(messages)
        first = next(iter(re.findall(r"\w+", said.lower())), "")
        return {"yes": True, "no": False}.get(first)

    def close(self) -> None:
        """Close the connections."""
        self.chat.close()


def normalised(text: str) -> list[str]:
    """Return the tokens of an answer by SQuAD's rules; characters where words are not parted by spaces."""
    lower = _MARKER.sub(" ", text).lower()
    kept = "".join(c for c in lower if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    return _TOKEN.findall(_ARTICLE.sub(" ", kept))


def exact_match(answer: str, expected: Sequence[str]) -> float:
    """Return 1.0 if the answer equals one of those expected, else 0.0."""
    return float(any(normalised(answer) == normalised(e) for e in expected))


def token_f1(answer: str, expected: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall of the answer's tokens, against the expected answer that fits best."""

    def f1(other: list[str]) -> float:
        said = normalised(answer)
        if not said or not other:
            return float(said == other)
        shared = sum((Counter(said) & Counter(other)).values())
        return 2 * shared / (len(said) + len(other))

    return max(f1(normalised(e)) for e in expected)


def scored(question: Question, answer: Answer, judged: bool | None = None) -> Scored:
    """Return one answer's measures.

    Citation precision: the share of cited passages that are relevant, None if none is cited. Citation recall: the share of the
    relevant chunks that are cited.
    """
    cited = {citation.id for citation in answer.citations}
    relevant = {chunk for chunk, grade in question.qrels.items() if grade > 0}
    expected = question.answers or ()
    refused = not cited
    return Scored(
        text=answer.text,
        refused=refused,
        exact=exact_match(answer.text, expected) if expected else None,
        f1=token_f1(answer.text, expected) if expected else None,
        answered=float(not refused) if question.answerable else None,
        refused_rightly=float(refused) if question.unanswerable else None,
        citation_precision=len(cited & relevant) / len(cited) if cited and relevant else None,
        citation_recall=len(cited & relevant) / len(relevant) if relevant else None,
        judged=None if judged is None else float(judged),
    )


def answer_all(
    pipeline: RememberingPipeline,
    asked: Sequence[Asked],
    at_once: int,
    judge: Judge | None,
    on_question: OnQuestion = silent,
) -> AnswersReport:
    """Return what answers are worth, to the questions whose answer is known or known not to be there.

    `asked` are searches; those that failed are left out, since they are counted already.
    """
    fitting = [a for a in asked if a.search and not a.failure and (a.question.answerable or a.question.answers is not None)]
    pairs: dict[str, AnswerPair] = {}
    failures: Counter[str] = Counter()
    unclear = in_a_row = 0
    pool = ThreadPoolExecutor(at_once)
    try:
        futures = {pool.submit(_pair, pipeline, a, judge): a for a in fitting}
        for done, future in enumerate(as_completed(futures), 1):
            try:
                pair, n_unclear = future.result()
                pairs[pair.id] = pair
                unclear += n_unclear
                in_a_row = 0
            except RagError as error:
                failures[str(error)] += 1
                in_a_row = in_a_row + 1 if isinstance(error, EndpointError) else 0
                if in_a_row == GIVE_UP:
                    # The endpoint is down: the rest has failed for the same reason.
                    failures[str(error)] += len(fitting) - done
                    break
            on_question(done, len(fitting), failures.total())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    in_order = [pairs[a.question.id] for a in fitting if a.question.id in pairs]
    timed = [(pair.ms, pair.tokens) for pair in in_order if pair.ms is not None]
    return AnswersReport(
        model=pipeline.settings.endpoint("CHAT").model,
        measured=tuple(_measured(in_order)),
        failures=dict(failures.most_common()),
        stages=(stage("answer", [ms for ms, _ in timed], [tokens for _, tokens in timed]),) if timed else (),
        agreement=agreement(judge.model, in_order, unclear) if judge else None,
        pairs=tuple(in_order),
    )


def _pair(pipeline: RememberingPipeline, asked: Asked, judge: Judge | None) -> tuple[AnswerPair, int]:
    search, question = asked.search, asked.question
    if search is None:
        raise ValueError("this question has no search")
    both, unclear = [], 0
    answering = Answering()
    for answering in (pipeline.answer_without_rerank(search), pipeline.answer(search)):
        for _ in answering:
            pass
        if answering.answer is None or answering.answer.finish == "cut_short":
            raise RagError(msg("an answer was cut short: the response ended unexpectedly"), msg("run it again"))
        judged = judge.right(question, answering.answer.text) if judge and question.answers is not None else None
        unclear += bool(judge and question.answers is not None and judged is None)
        both.append(scored(question, answering.answer, judged))
    prompted, answered = answering.tokens
    pair = AnswerPair(
        id=question.id,
        question=question.text,
        expected=question.answers or (),
        before=both[0],
        after=both[1],
        # Where no passage was good enough nobody was asked.
        ms=answering.ms if answering.answer and answering.answer.model != "none" else None,
        tokens=None if prompted is None or answered is None else prompted + answered,
    )
    return pair, unclear


def moved(pairs: Sequence[AnswerPair], n: int) -> list[AnswerPair]:
    """Return the n answers that reranking changed most, by token F1, and by whether they decline where that is not known."""

    def change(pair: AnswerPair) -> float:
        before, after = pair.before, pair.after
        if before.f1 is not None and after.f1 is not None:
            return abs(after.f1 - before.f1)
        return float(before.refused != after.refused)

    return [pair for pair in sorted(pairs, key=change, reverse=True) if change(pair) > 0][:n]


def _measured(pairs: Sequence[AnswerPair]) -> Iterator[Measured]:
    for field, name in MEASURES.items():
        values = [(getattr(pair.before, field), getattr(pair.after, field)) for pair in pairs]
        known = [(before, after) for before, after in values if before is not None and after is not None]
        if known:
            yield compared(name, [before for before, _ in known], [after for _, after in known])


def agreement(model: str, pairs: Sequence[AnswerPair], unclear: int) -> Agreement | None:
    """Return how far the judge and the labels agree over both answers of each question; None if nothing was judged."""
    both = [
        (answer.judged == 1.0, answer.f1 >= RIGHT_F1 if answer.f1 is not None else answer.refused)
        for pair in pairs
        for answer in (pair.before, pair.after)
        if answer.judged is not None
    ]
    if not both:
        return None
    share = sum(a == b for a, b in both) / len(both)
    p, q = (sum(side) / len(both) for side in zip(*both, strict=True))
    chance = p * q + (1 - p) * (1 - q)
    kappa = (share - chance) / (1 - chance) if chance < 1 else 1.0
    return Agreement(model=model, n=len(both), share=share, kappa=kappa, unclear=unclear)
