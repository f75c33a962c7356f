"""The terms of a text: what the lexical index counts, in chunks and questions alike."""

import functools
import re
import unicodedata

# Written without spaces between words, or, as Korean, with words that grow endings: Lucene too cuts these into bigrams.
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUNS = re.compile(f"([{_UNSPACED}]+)")
_ASCII_WORDS = re.compile("[a-z0-9]+")
# Accents of Latin, Greek and Cyrillic letters; the marks of other scripts are vowels.
_ACCENTS = re.compile("[\u0300-\u036f]+")
# A longer one is no word, but data in base64 or a line that is drawn.
_LONGEST = 64


def terms(text: str) -> list[str]:
    """Return the terms of a text in order: words, folded and in the singular, and bigrams where no spaces set words apart."""
    text = folded(text)
    if text.isascii():
        return [singular(word) for word in _ASCII_WORDS.findall(text)]
    found: list[str] = []
    for i, part in enumerate(_RUNS.split(text)):
        # What a pattern in brackets matched stands at the odd places.
        if i % 2:
            found.extend(part[at : at + 2] for at in range(max(len(part) - 1, 1)))
        else:
            found.extend(singular(word) for word in _words().findall(part))
    return found


def folded(text: str) -> str:
    """Return a text without the differences of case, accent and width."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


@functools.lru_cache(100_000)
def singular(word: str) -> str:
    """Return a word, cut if endless, without the s of an English plural: the S-stemmer (Harman 1991)."""
    word = word[:_LONGEST]
    if len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies") and word[-4] not in "ea":
        return f"{word[:-3]}y"
    if word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    return word[:-1] if word[-2] not in "us" else word


@functools.cache
def _words() -> re.Pattern[str]:
    marks = "".join(c for c in map(chr, range(0x370, 0x10000)) if unicodedata.category(c) in ("Mn", "Mc"))
    return re.compile(f"(?:[^\\W_]|[{marks}])+")
