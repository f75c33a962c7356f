"""The [n] markers of an answer, checked against the passages while the text streams through."""

import re
from collections.abc import Iterable, Iterator

# [1], [1, 2], [1-3] and their full-width forms.
_MARKER = re.compile(r"[\[【]\s*(\d{1,3}(?:\s*[,;，、–-]\s*\d{1,3})*)\s*[\]】]")
_OPEN_MARKER = re.compile(r"\s*[\[【][\d\s,;，、–-]{0,24}$|\s+$")


class Markers:
    """Checks [n] markers while text streams through; `cited` and `dropped` in order of first use."""

    def __init__(self, n_passages: int) -> None:
        self.n_passages = n_passages
        self.cited: list[int] = []
        self.dropped: list[int] = []

    def check(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the text with markers written [1][2], and without those that point to no passage."""
        held = ""
        for piece in pieces:
            held += piece
            # An unfinished marker, and the space before it, wait for the next piece.
            unfinished = _OPEN_MARKER.search(held)
            cut = unfinished.start() if unfinished else len(held)
            if cut:
                yield self._checked(held[:cut])
                held = held[cut:]
        if held:
            yield self._checked(held)

    def _checked(self, text: str) -> str:
        return re.sub(r"(\s*)" + _MARKER.pattern, self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        kept = ""
        for number in _numbers(match[2]):
            if 1 <= number <= self.n_passages:
                kept += f"[{number}]"
                if number not in self.cited:
                    self.cited.append(number)
            elif number not in self.dropped:
                self.dropped.append(number)
        return match[1] + kept if kept else ""


def _numbers(inside: str) -> Iterator[int]:
    for part in re.split(r"[,;，、]", inside):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        if len(ends) == 2 and 0 <= ends[1] - ends[0] <= 20:
            yield from range(ends[0], ends[1] + 1)
        else:
            yield from ends
