"""An answer as it is shown: its text, and behind each [n] the passage, with the words that both share marked."""

import itertools
from collections.abc import Collection, Sequence

from markupsafe import Markup

from rag_app.page import hostile
from rag_app.page.hostile import html
from rag_app.page.originals import beside_url, original_url
from rag_app.page.say import t
from rag_app.types import Candidate
from rag_app.words import joined, msg


def answer_html(
    text: str,
    passages: Sequence[Candidate] = (),
    *,
    collection: str = "",
    prefix: str = "",
    only_here: Collection[str] = (),
) -> Markup:
    """Return an answer as HTML; with its passages, each [n] is a button that opens its passage.

    `prefix` keeps the ids of several answers on a page distinct; `only_here` are ids of passages that only it cites.
    """
    cards: list[Markup] = []
    numbers = itertools.count(1)

    def chip(n: int, claim: str) -> Markup:
        if not passages:
            return html('<span class="cite">{n}</span>', n=n)
        if not 1 <= n <= len(passages):
            return html("[{n}]", n=n)
        passage = passages[n - 1]
        identity = f"{prefix}-{next(numbers)}"
        label = msg("Passage {n}: {title}", n=n, title=passage.title)
        cards.append(_card(identity, n, passage, claim, collection, t(label)))
        differs = passage.id in only_here
        return html(
            '<button type="button" class="cite {only}" popovertarget="{id}" aria-label="{label}">{n}</button>',
            only="only" if differs else "",
            id=identity,
            label=t(joined(", ", (label, msg("cited in this answer only") if differs else ""))),
            n=n,
        )

    body = hostile.answer(text, chip)
    return html('<div class="answer" dir="auto">{body}</div>{cards}', body=body, cards=hostile.joined(cards))


def _card(identity: str, n: int, passage: Candidate, claim: str, collection: str, label: str) -> Markup:
    return html(
        '<div popover id="{id}" class="card" role="dialog" aria-label="{label}">'
        '<p class="path"><b>{n}</b> <bdi>{path}</bdi></p>'
        '<p class="quiet"><bdi>{document}</bdi>{page}</p><div class="passage" dir="auto" tabindex="0">{text}</div>'
        '<p>{link}</p><p class="quiet">{key}</p></div>',
        id=identity,
        label=label,
        n=n,
        path=passage.heading_path,
        document=passage.document,
        page=page_of(passage),
        text=hostile.highlighted(passage.text, claim),
        link=open_link(passage, collection),
        key=html("<mark>{words}</mark> {says}", words=t("marked"), says=t("words shared by answer and passage")),
    )


def page_of(passage: Candidate) -> Markup:
    return html(" · {page}", page=t(passage.page_label)) if passage.page else Markup("")


def open_link(passage: Candidate, collection: str) -> Markup:
    """Return the links to the original file, a PDF's at the passage's page, and to the passage beside it."""
    return html(
        '{link} · <a class="open" href="{url}" target="_blank" rel="noopener">{compare} ↗</a>',
        link=open_link_to(collection, passage.document, passage.page),
        url=beside_url(collection, passage.document, passage.id),
        compare=t("Compare with the original"),
    )


def open_link_to(collection: str, document: str, page: int | None = None) -> Markup:
    """Return the link to a document's original file."""
    return html(
        '<a class="open" href="{url}" target="_blank" rel="noopener">{open} ↗</a>',
        url=original_url(collection, document, page),
        open=t("Open the document"),
    )


def passage_html(passage: Candidate, text: str, collection: str) -> Markup:
    """Return a passage whole, with where it stands and the link to its document."""
    return html(
        '<p class="quiet"><bdi>{document}</bdi> › <bdi>{path}</bdi>{page} · {link}</p>'
        '<div class="passage" dir="auto">{text}</div>',
        document=passage.document,
        path=passage.heading_path,
        page=page_of(passage),
        link=open_link(passage, collection),
        text=text,
    )
