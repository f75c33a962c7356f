"""The chat model `extractive`: no language model. It quotes the sentences of the passages that answer best, or declines."""

import re
from dataclasses import dataclass, replace
from typing import Protocol

from rag_app import language
from rag_app.types import SEPARATOR

MAX_QUOTES = 4
QUOTED = "Quoted from the passages, word for word (no language model wrote this):"
DECLINED = "The passages do not seem to answer this. (Judged by the built-in reranker; no language model was asked.)"
NO_PASSAGES = "This built-in model only quotes from passages, and this request holds none."


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage, with the passage's number and what stands above it."""

    passage: int
    source: str
    text: str


class Judge(Protocol):
    """A reranker whose scores are known.

    They were set on labelled questions (benchmarks/refusal.py prints what they do; docs/measurements.md).
    """

    # Within so much of the best sentence, a sentence is quoted too.
    also_quoted: float

    def least_of_an_answer(self, question: str, passage: str) -> float:
        """Return the score below which the best passage does not answer the question."""
        ...

    def scores(self, query: str, passages: list[str]) -> tuple[list[float], int]:
        """Return one score per passage, in the order given, and the number of tokens read."""
        ...


def answer(judge: Judge, question: str, passages: list[tuple[int, str, str]]) -> str:
    """Return an answer of quotes with their [n], or a plain refusal; passages are (number, source, text)."""
    if not passages:
        return NO_PASSAGES
    texts = [f"{source}\n{text}" for _, source, text in passages]
    best, best_text = max(zip(judge.scores(question, texts)[0], texts, strict=True))
    sentences = [
        Sentence(number, source, sentence)
        for number, source, text in passages
        for line in text.splitlines()
        for sentence in language.sentences(line)
    ]
    if best < judge.least_of_an_answer(question, best_text) or not sentences:
        return DECLINED
    scores, _ = judge.scores(question, [f"{sentence.source}\n{sentence.text}" for sentence in sentences])
    ranked = sorted(zip(scores, sentences, strict=True), key=lambda pair: -pair[0])
    quotes: list[Sentence] = []
    for score, sentence in ranked:
        if score < ranked[0][0] - judge.also_quoted or len(quotes) == MAX_QUOTES:
            break
        if sentence.text not in [quote.text for quote in quotes]:
            quotes.append(sentence)
    # A [3] that stands in a document is no marker of ours.
    quotes = [replace(quote, text=re.sub(r"[\[【](\d+)[\]】]", r"(\1)", quote.text)) for quote in quotes]
    lines = [f"{quote.source.split(SEPARATOR)[0]}: “{quote.text}” [{quote.passage}]" for quote in quotes]
    return "\n\n".join([QUOTED, *lines])
