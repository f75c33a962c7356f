"""The markers of an answer that cite passages, checked against them while the text streams through. Code is left as it is."""

import re
from collections.abc import Iterable, Iterator

_NUMBERS = r"\d{1,3}(?:\s*[,;，、–-]\s*\d{1,3})*"
_NAMES = r"citation|passage|source|document|doc|ref"
# [1], [1, 2], [1-3], [[1]], [^1], [citation:2], [Passage 2] and their full-width forms; 【1†source】 is OpenAI's.
_MARKER = re.compile(
    rf"(\s*)(?:\[\[\s*(?P<double>{_NUMBERS})\s*\]\]"
    rf"|[\[【]\s*(?:\^|(?:{_NAMES})\s*:?\s*)?(?P<single>{_NUMBERS})\s*(?:†[^\]】\n]{{0,60}})?[\]】])",
    re.IGNORECASE,
)
# What may become a marker, or a fence, with the next piece waits for it, with the space before.
_UNFINISHED = re.compile(
    rf"\s*[\[【](?:\[?[\s\d,;，、–^-]{{0,24}}\]?|\s*[a-z]{{1,8}}|\s*(?:{_NAMES})\s*:?[\s\d,;，、–-]{{0,24}}|\s*{_NUMBERS}\s*†[^\]】\n]{{0,60}})$"
    r"|\s+$|\n[ \t]*~{1,2}$",
    re.IGNORECASE,
)
# A fence at the beginning of a line, or backticks within one.
_OPENING = re.compile(r"(?:(?<=\n)|\A)[ \t]*(?P<fence>```+|~~~+)|(?P<ticks>`+)")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")


class Markers:
    """Checks markers while text streams through; `cited` and `dropped` in order of first use."""

    def __init__(self, n_passages: int) -> None:
        self.n_passages = n_passages
        self.cited: list[int] = []
        self.dropped: list[int] = []

    def check(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the text with markers written [1][2], and without those that point to no passage."""
        held, fence = "\n", ""
        # The newline before the text, which makes its first line one, is not part of it.
        skipped = 1
        for piece, last in _with_last(pieces):
            if not piece and not last:
                yield ""
                continue
            held += piece
            while True:
                done, rest, fence = self._settled(held, fence, last=last)
                if text := done[skipped:]:
                    yield text
                skipped = max(0, skipped - len(done))
                if rest == held:
                    break
                held = rest

    def _settled(self, held: str, fence: str, *, last: bool) -> tuple[str, str, str]:
        """Return what of a text is settled, as it is shown, the rest, and the fence of the code that the rest is in."""
        if fence:
            return _in_fence(held, fence, last=last)
        opening = _OPENING.search(held)
        if opening is None:
            unfinished = None if last else _UNFINISHED.search(held)
            cut = unfinished.start() if unfinished else len(held)
            return self._checked(held[:cut]), held[cut:], ""
        if opening.start() > 0 and held[: opening.start()].strip("\n"):
            # The prose before it first; its last newline tells that a fence begins a line.
            cut = opening.start() - (held[opening.start() - 1] == "\n")
            if cut:
                return self._checked(held[:cut]), held[cut:], ""
        if opening.end() == len(held) and not last:
            return "", held, ""
        if opening["fence"]:
            return held[: opening.end()], held[opening.end() :], opening["fence"]
        return self._in_line(held, opening, last=last)

    def _in_line(self, held: str, opening: re.Match[str], *, last: bool) -> tuple[str, str, str]:
        """Settle code within a line; backticks that nothing closes before the next blank line are only that."""
        closing = re.compile(rf"(?<!`){opening['ticks']}(?!`)").search(held, opening.end())
        blank = _BLANK_LINE.search(held, opening.end())
        if closing and not (blank and blank.start() < closing.start()) and (closing.end() < len(held) or last):
            return held[: closing.end()], held[closing.end() :], ""
        if blank or last:
            return held[: opening.end()], held[opening.end() :], ""
        return "", held, ""

    def _checked(self, text: str) -> str:
        return _MARKER.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        kept = ""
        for number in _numbers(match["double"] or match["single"]):
            if 1 <= number <= self.n_passages:
                kept += f"[{number}]"
                if number not in self.cited:
                    self.cited.append(number)
            elif number not in self.dropped:
                self.dropped.append(number)
        return match[1] + kept if kept else ""


def _in_fence(held: str, fence: str, *, last: bool) -> tuple[str, str, str]:
    """Settle code between fences as it comes; a line that may become the closing one waits."""
    closing = re.compile(rf"\n[ \t]*{re.escape(fence)}[^\n]*").search(held)
    if closing and (closing.end() < len(held) or last):
        return held[: closing.end()], held[closing.end() :], ""
    if last:
        return held, "", fence
    line = closing.start() if closing else max(held.rfind("\n"), 0)
    begun = closing or not held[line:].strip("\n").strip(" \t`~")
    return (held[:line], held[line:], fence) if begun else (held, "", fence)


def _with_last(pieces: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield pieces as they come, and at their end an empty one that is the last."""
    for piece in pieces:
        yield piece, False
    yield "", True


def _numbers(inside: str) -> Iterator[int]:
    for part in re.split(r"[,;，、]", inside):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        if len(ends) == 2 and 0 <= ends[1] - ends[0] <= 20:
            yield from range(ends[0], ends[1] + 1)
        else:
            yield from ends
