"""The chat model `extractive`: no language model. It quotes the sentences of the passages that answer best, or declines."""

import re
from dataclasses import dataclass, replace

from rag_app import language
from rag_app.builtin.models import CrossEncoder
from rag_app.types import SEPARATOR

# Logits of the cross-encoder, set on the labelled questions (benchmarks/refusal.py prints what they do; docs/measurements.md).
# Below the first, the best passage does not answer; within the second of the best sentence, a sentence is quoted too.
ANSWERS = -3.0
ALSO_QUOTED = 2.5
MAX_QUOTES = 4
QUOTED = "Quoted from the passages, word for word (no language model wrote this):"
DECLINED = "The passages do not seem to answer this. (Judged by the built-in cross-encoder; no language model was asked.)"
NO_PASSAGES = "This built-in model only quotes from passages, and this request holds none."


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage, with the passage's number and what stands above it."""

    passage: int
    source: str
    text: str


def answer(encoder: CrossEncoder, question: str, passages: list[tuple[int, str, str]]) -> str:
    """Return an answer of quotes with their [n], or a plain refusal; passages are (number, source, text)."""
    if not passages:
        return NO_PASSAGES
    best_passage = max(encoder.scores(question, [f"{source}\n{text}" for _, source, text in passages])[0])
    sentences = [
        Sentence(number, source, sentence)
        for number, source, text in passages
        for line in text.splitlines()
        for sentence in language.sentences(line)
    ]
    if best_passage < ANSWERS or not sentences:
        return DECLINED
    scores, _ = encoder.scores(question, [f"{sentence.source}\n{sentence.text}" for sentence in sentences])
    ranked = sorted(zip(scores, sentences, strict=True), key=lambda pair: -pair[0])
    quotes: list[Sentence] = []
    for score, sentence in ranked:
        if score < ranked[0][0] - ALSO_QUOTED or len(quotes) == MAX_QUOTES:
            break
        if sentence.text not in [quote.text for quote in quotes]:
            quotes.append(sentence)
    # A [3] that stands in a document is no marker of ours.
    quotes = [replace(quote, text=re.sub(r"[\[【](\d+)[\]】]", r"(\1)", quote.text)) for quote in quotes]
    lines = [f"{quote.source.split(SEPARATOR)[0]}: “{quote.text}” [{quote.passage}]" for quote in quotes]
    return "\n\n".join([QUOTED, *lines])
