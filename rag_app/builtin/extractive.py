"""The chat model `extractive`: no language model. It quotes the sentences of the passages that answer best, or declines."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rag_app import language
from rag_app.types import SEPARATOR
from rag_app.words import msg, nearest, words

MAX_QUOTES = 4
QUOTED = msg("Quoted from the passages, word for word (no language model wrote this):")
DECLINED = msg("The passages do not seem to answer this. (Judged by the built-in reranker; no language model was asked.)")
NO_PASSAGES = msg("This built-in model only quotes from passages, and this request holds none.")
_PAGE = re.compile(r", page \d+$")
# No number of a norm, such as RFC 2045, and no date.
_YEAR = re.compile(r"(?<![\d-])(?<![A-Z]{2})(?<![A-Z]{2}[ -])(?:19|20)\d\d(?!\d|-\d)")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage, with the passage's number and what stands above it, and its score."""

    passage: int
    source: str
    text: str
    score: float

    @property
    def title(self) -> str:
        """The title of the document."""
        return self.source.split(SEPARATOR)[0]

    @property
    def family(self) -> str:
        """What is the same in all editions of a document."""
        return _YEAR.sub("", self.title)

    @property
    def year(self) -> str:
        """The year of the edition; "" where the title names none."""
        return max(_YEAR.findall(self.title), default="")

    @property
    def quoted(self) -> str:
        """The sentence as it is quoted: a [3] that stands in a document is no marker of ours."""
        return re.sub(r"[\[【](\d+)[\]】]", r"(\1)", self.text)


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

    def sentence_scores(self, query: str, passages: list[tuple[str, str, list[str]]]) -> list[list[float]]:
        """Return the score of each sentence of passages (what stands above, text, its sentences in order)."""
        ...


def answer(judge: Judge, question: str, passages: list[tuple[int, str, str]]) -> str:
    """Return an answer of quotes with their [n], or a plain refusal; passages are (number, source, text)."""
    say = words(nearest(language.detect(question)))
    if not passages:
        return say(NO_PASSAGES)
    # As it was embedded: its page is no part of that.
    read = [(_PAGE.sub("", source), text, _sentences(text)) for _, source, text in passages]
    texts = [f"{above}\n{text}" for above, text, _ in read]
    best, best_text = max(zip(judge.scores(question, texts)[0], texts, strict=True))
    if best < judge.least_of_an_answer(question, best_text) or not any(sentences for *_, sentences in read):
        return say(DECLINED)
    scored = judge.sentence_scores(question, read)
    found = [
        Sentence(number, source, sentence, score)
        for (number, source, _), (*_, sentences), scores in zip(passages, read, scored, strict=True)
        for sentence, score in zip(sentences, scores, strict=True)
    ]
    ranked = sorted(found, key=lambda sentence: -sentence.score)
    highest = ranked[0].score
    ranked, older = _of_edition(ranked, question, judge.also_quoted)
    # What is left where a year was asked for may have nothing to do with it.
    if not ranked or ranked[0].score < highest - 2 * judge.also_quoted:
        return say(DECLINED)
    quotes: list[Sentence] = []
    for sentence in ranked:
        if sentence.score < ranked[0].score - judge.also_quoted or len(quotes) == MAX_QUOTES:
            break
        if sentence.text not in [quote.text for quote in quotes]:
            quotes.append(sentence)
    lines = [f"{quote.source.split(SEPARATOR)[0]}: “{quote.quoted}” [{quote.passage}]" for quote in quotes]
    # Of each edition its best sentence, unless it says the same.
    others = {sentence.title: sentence for sentence in reversed(older)}
    if others := {title: s for title, s in others.items() if s.text not in [quote.text for quote in quotes]}:
        names = ", ".join(f"{title} [{s.passage}]" for title, s in sorted(others.items(), reverse=True))
        lines.append(say(msg("Other editions: {names}", names=names)))
    return "\n\n".join([say(QUOTED), *lines])


def _sentences(text: str) -> list[str]:
    return [sentence for line in text.splitlines() for sentence in language.sentences(line)]


def _of_edition(ranked: Sequence[Sentence], question: str, margin: float) -> tuple[list[Sentence], list[Sentence]]:
    """Return the sentences without those of superseded editions, and of those the ones that might have been quoted.

    Editions are documents whose titles differ in their years. Where the question names a year, what is of another is left out.
    """
    if asked := set(_YEAR.findall(question)):
        return [s for s in ranked if not s.year or s.year in asked or asked & set(_YEAR.findall(s.text))], []
    near = [sentence for sentence in ranked if sentence.score >= ranked[0].score - 2 * margin]
    years = [(sentence.family, sentence.year) for sentence in near]
    newest = {family: max(year for other, year in years if other == family) for family, _ in years}
    older = [sentence for sentence in near if sentence.year < newest[sentence.family]]
    return [s for s in ranked if s.year >= newest.get(s.family, "")], older
