"""Hostile text made fit to show: what documents, people and models wrote never becomes markup, a link or a picture."""

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
# So many characters of a passage are shown behind a marker.
_SHOWN = 600


def visible(text: str) -> str:
    """Return text without control and direction characters."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c.isspace() else "" for c in text)


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
        start = max(passage.rfind("\n", 0, best[0]) + 1 or start, passage.find(" ", start) + 1)
        start = start if start <= best[0] else best[0]
    if end < len(passage):
        end = passage.rfind(" ", best[1], end) if passage.rfind(" ", best[1], end) > 0 else end
    return start, end


def shared(passage: str, claim: str) -> list[tuple[int, int]]:
    """Return the spans of a passage whose words stand in a claim too: runs of three words, or of two with a figure in them."""
    said = [word.lower() for word in _WORD.findall(claim)]
    words = list(_WORD.finditer(passage))
    lower = [word[0].lower() for word in words]
    marked = [False] * len(words)
    for run in (2, 3):
        runs = {tuple(said[i : i + run]) for i in range(len(said) - run + 1)}
        runs = {words for words in runs if run == 3 or any(c.isdigit() for word in words for c in word)}
        for i in range(len(words) - run + 1):
            if tuple(lower[i : i + run]) in runs:
                marked[i : i + run] = [True] * run
    spans: list[tuple[int, int]] = []
    for i, word in enumerate(words):
        if not marked[i]:
            continue
        if i and marked[i - 1]:
            spans[-1] = (spans[-1][0], word.end())
        else:
            spans.append(word.span())
    return spans
