"""Hostile text made fit to show: what documents, people and models wrote never becomes markup, a link or a picture."""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

# Lists, tables, emphasis, code and headings; no links, pictures or HTML, whatever they are written with.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_MARKDOWN.disable(["link", "image", "autolink", "html_inline", "html_block", "reference"])
_MARKER = re.compile(r"\[(\d{1,3})\]")
_WIDE = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_WIDE}]|[^\W_{_WIDE}]+")
# So many words in a row are a quote.
_QUOTE = 8
# So many characters of a passage are shown behind a marker.
_SHOWN = 600


def visible(text: str) -> str:
    """Return text without control and direction characters; what joins or parts letters in some scripts stays."""
    return "".join(c if c.isprintable() or c in "\n\u200c\u200d" else " " if c.isspace() else "" for c in text)


def plain(text: str) -> str:
    """Return text that Streamlit's Markdown shows as it stands: every mark is escaped, and addresses do not become links."""
    unlinked = re.sub(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?=@)", "\u2060", visible(text))
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", unlinked).replace("\n", "  \n")


def html(template: str, **values: object) -> Markup:
    """Return a template of our own with values escaped into it; what is Markup already stays."""
    return Markup(template).format(  # noqa: S704
        **{
            name: value if isinstance(value, (Markup, int, float)) else escape(visible(str(value)))
            for name, value in values.items()
        }
    )


def joined(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)


def answer(text: str, chip: Callable[[int, str], Markup]) -> Markup:
    """Return an answer's Markdown as HTML, with `chip(n, words before it)` in place of each [n]."""
    tokens = _MARKDOWN.parse(visible(text))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            # The page has its own headings above these.
            token.tag = "h5"
    # One of its own: other sessions render at the same time.
    renderer = RendererHTML()

    def text_rule(inline: Sequence[Token], i: int, options: Any, env: Any) -> str:
        parts = _MARKER.split(inline[i].content)
        before = "".join(token.content for token in inline[:i])
        out = []
        for words, n in zip(parts[::2], parts[1::2], strict=False):
            before += words
            # No line begins with a marker.
            out += [escape(re.sub(r"\s+$", "\u00a0", words)), chip(int(n), before)]
            before = ""
        return str(joined([*out, escape(parts[-1])]))

    renderer.rules["text"] = text_rule  # type: ignore[assignment]
    # Made by the renderer, which escapes all that it is given.
    return Markup(renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S704


def highlighted(passage: str, claim: str) -> Markup:
    """Return a passage, around the words that a claim shares with it if it is long, with those words marked."""
    spans = shared(passage, claim)
    start, end = _excerpt(passage, spans)
    out, at = [Markup("… ") if start else Markup("")], start
    for first, last in spans:
        if start <= first and last <= end:
            out += [escape(visible(passage[at:first])), html("<mark>{words}</mark>", words=passage[first:last])]
            at = last
    return joined([*out, escape(visible(passage[at:end])), Markup(" …") if end < len(passage) else Markup("")])


def _excerpt(passage: str, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return where the most of what is marked stands in one view, from a line's or word's beginning to another's end."""
    if len(passage) <= _SHOWN or not spans:
        return 0, len(passage)
    best = max(
        spans, key=lambda span: sum(last - first for first, last in spans if span[0] <= first and last <= span[0] + _SHOWN)
    )
    start = max(0, min(best[0] - _SHOWN // 4, len(passage) - _SHOWN))
    end = min(len(passage), start + _SHOWN)
    if start:
        line, word = passage.find("\n", start, best[0]), passage.find(" ", start, best[0])
        start = line + 1 if line >= 0 else word + 1 if word >= 0 else best[0]
    if end < len(passage):
        end = max(passage.rfind(" ", best[1], end), best[1])
    return start, end


def shared(passage: str, claim: str) -> list[tuple[int, int]]:
    """Return the spans of a passage whose words stand in a claim too: runs of three words, or of two with a figure in them.

    Where a long one is quoted, short ones are left out: in a table they recur in every row.
    """
    said = [word.lower() for word in _WORD.findall(claim)]
    words = list(_WORD.finditer(passage))
    lower = [word[0].lower() for word in words]
    marked = [False] * len(words)
    for size in (2, 3):
        known = {tuple(said[i : i + size]) for i in range(len(said) - size + 1)}
        known = {run for run in known if size == 3 or any(c.isdigit() for word in run for c in word)}
        for i in range(len(words) - size + 1):
            if tuple(lower[i : i + size]) in known:
                marked[i : i + size] = [True] * size
    lines = [passage.count("\n", 0, word.start()) for word in words]
    grouped = itertools.groupby(range(len(words)), lambda i: (marked[i], lines[i]))
    runs = [list(run) for (is_marked, _), run in grouped if is_marked]
    longest = max(map(len, runs), default=0)
    least = longest // 2 + 1 if longest >= _QUOTE else 0
    return [(words[run[0]].start(), words[run[-1]].end()) for run in runs if len(run) >= least]
