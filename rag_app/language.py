"""Human language: which one a text is in (py3langid), and where its sentences end (sentencex)."""

import py3langid
import sentencex

from rag_app.words import Message, msg

UNDETERMINED = "und"
# What English may be told to be: a few words are too short to tell.
MAYBE_ENGLISH = ("en", UNDETERMINED)
# Labels of the detector that mean one written language here.
_SAME = {"wuu": "zh", "yue": "zh", "lzh": "zh", "pcm": "en", "sco": "en", "zxx": UNDETERMINED}
_NAMES = {
    "ar": msg("Arabic"),
    "de": msg("German"),
    "en": msg("English"),
    "es": msg("Spanish"),
    "fr": msg("French"),
    "it": msg("Italian"),
    "ja": msg("Japanese"),
    "ko": msg("Korean"),
    "nl": msg("Dutch"),
    "pl": msg("Polish"),
    "pt": msg("Portuguese"),
    "ru": msg("Russian"),
    "zh": msg("Chinese"),
}
# Characters a token has where they are not Chinese, Japanese or Korean.
_PER_TOKEN = 3
# How far, in log-likelihood, another language must be ahead of English to be believed:
# names and codes alone ("RMA Callisto 2025") look like anything.
_MARGIN = 10.0
_SAMPLE = 5000


def detect(text: str) -> str:
    """Return the ISO 639 code of the text's language, or "und" where it is too short to tell."""
    ranked = py3langid.rank(text[:_SAMPLE])
    top, score = ranked[0]
    english = next(score for language, score in ranked if language == "en")
    if top != "en" and score - english < _MARGIN:
        return UNDETERMINED
    return str(_SAME.get(top, top))


def name(code: str) -> Message:
    """Return a language's name where we know it, else its code."""
    return _NAMES.get(code) or Message(code)


def tokens(text: str) -> float:
    """Return an estimate of a text's tokens: one a Chinese, Japanese or Korean character, one for three others."""
    wide = sum(character > "\u2e7f" for character in text)
    return wide + (len(text) - wide) / _PER_TOKEN


def beginning(text: str, n_tokens: float) -> str:
    """Return as much of a text's beginning as has n tokens, estimated as by `tokens`; the text itself if that is all."""
    for end, character in enumerate(text):
        n_tokens -= 1 if character > "\u2e7f" else 1 / _PER_TOKEN
        if n_tokens < 0:
            return text[:end]
    return text


def sentences(text: str, language: str = "en") -> list[str]:
    """Return the sentences of a text, in order, white space around them taken off; 。！？ end a sentence too."""
    return [part.strip() for part in sentencex.segment(language, text) if part.strip()]
