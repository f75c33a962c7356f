"""The movement: what reranking did to every candidate, as a slope chart and as two lists side by side."""

from collections import Counter
from collections.abc import Sequence

import altair as alt
from markupsafe import Markup

from rag_app import colours
from rag_app.page.hostile import html, joined, visible
from rag_app.page.say import t, w
from rag_app.types import FOUND, SEPARATOR, Candidate, Fate, Ranking, Score, Search, arrow
from rag_app.words import msg

# What a fate is called, and its colour.
FATES: dict[Fate, tuple[str, tuple[str, str]]] = {
    "promoted": (msg("added by reranking"), colours.GAIN),
    "kept": (msg("kept"), colours.KEPT),
    "lost": (msg("dropped by reranking"), colours.LOSS),
    "unused": (msg("unused"), colours.UNUSED),
}
# Fates that are said of a candidate.
BADGES: tuple[Fate, ...] = ("promoted", "lost")
ROW = 22


def label(candidate: Candidate) -> str:
    """Return a candidate's name on one line: its title and last heading."""
    return visible(SEPARATOR.join((candidate.title or candidate.document, *candidate.headings[-1:])))


def chart(search: Search, cited: set[str], *, dark: bool) -> alt.LayerChart:
    """Return the slope chart: rank before on the left, rank after on the right, one line a candidate."""
    rows = [row for after, c in enumerate(search.reranked, 1) for row in _ends(c, after, c.id in cited)]
    n = len(search.candidates)
    ink = colours.INK[dark]
    ranks = alt.Scale(domain=[n + 0.5, 0.5], nice=False)
    base = alt.Chart(_data(rows)).encode(
        # The lines take what the labels leave; the labels shorten first when it is narrow.
        x=alt.X(
            "side:N",
            sort=[t("before"), t("after")],
            axis=alt.Axis(orient="top", title=None, labelAngle=0, domain=False, ticks=False, labelFontSize=13, labelColor=ink),
            scale=alt.Scale(padding=0.75),
        ),
        y=alt.Y("rank:Q", scale=ranks, axis=None),
        color=alt.Color(
            "fate:N",
            scale=alt.Scale(domain=list(FATES), range=[colour[dark] for _, colour in FATES.values()]),
            legend=None,
        ),
        tooltip=[
            alt.Tooltip("document:N", title=t("document")),
            alt.Tooltip("text:N", title=t("text")),
            alt.Tooltip("before:Q", title=t("rank before")),
            alt.Tooltip("after:Q", title=t("rank after")),
            *([alt.Tooltip("found:N", title=t(FOUND))] if search.is_hybrid else []),
            alt.Tooltip("retrieval:Q", title=t(search.retrieval_score.name), format=search.retrieval_score.format),
            alt.Tooltip("rerank:Q", title=t(search.rerank_score.name), format=search.rerank_score.format),
        ],
    )
    used = alt.datum.used
    # Mark by mark it says nothing to a screen reader (aria); the lists say the same in words.
    lines = base.mark_line(aria=False).encode(
        detail="id:N",
        size=alt.condition(used, alt.value(3), alt.value(1)),
        opacity=alt.condition(used, alt.value(1), alt.value(0.45)),
    )
    # An invisible wide line makes a thin one easy to point at.
    targets = base.mark_line(strokeWidth=12, opacity=0, aria=False).encode(detail="id:N")
    points = base.mark_point(filled=True, opacity=1, size=55, aria=False)
    rings = base.mark_point(filled=False, size=200, strokeWidth=2, aria=False).transform_filter(alt.datum.cited)

    def text(side: str, field: str, offset: int, limit: str) -> alt.Chart:
        left = side == "before"
        drawn: alt.Chart = (
            base.mark_text(
                align="right" if left else "left",
                baseline="middle",
                dx=-offset if left else offset,
                fontSize=12,
                limit=alt.ExprRef(limit),
                aria=False,
            )
            .encode(text=field, color=alt.value(ink), opacity=alt.condition(used, alt.value(1), alt.value(0.72)))
            .transform_filter(alt.datum.side == t(side))
        )
        return drawn

    labels = [
        text("before", "place:N", 14, "30"),
        text("before", "label:N", 34, "width * 0.3 - 36"),
        text("after", "place:N", 14, "60"),
        text("after", "label:N", 66, "width * 0.3 - 68"),
    ]
    layers: list[alt.Chart] = [lines, targets, points, rings, *labels]
    if search.passages:
        cut = _data([{"cut": len(search.passages) + 0.5}])
        y = alt.Y("cut:Q", scale=ranks, axis=None)
        layers.insert(0, alt.Chart(cut).mark_rule(strokeDash=[5, 4], color=ink, aria=False).encode(y=y))
    layered = alt.layer(*layers).properties(height=max(220, ROW * n))
    framed: alt.LayerChart = layered.configure(locale=w().vega).configure_view(stroke=None)
    return framed


def _data(rows: list[dict[str, object]]) -> alt.Data:
    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def _ends(c: Candidate, after: int, cited: bool) -> list[dict[str, object]]:
    """Return the two ends of a candidate's line."""
    before = c.retrieval.rank
    common = {
        "id": c.id,
        "fate": c.fate,
        "used": c.fate != "unused",
        "label": label(c),
        "document": visible(c.document),
        "text": visible(c.text[:300]),
        "found": t(c.found),
        "retrieval": c.retrieval.score,
        "rerank": c.rerank.score if c.rerank else None,
        "before": before,
        "after": after,
        "cited": cited,
    }
    return [
        {**common, "side": t("before"), "rank": before, "place": str(before)},
        {**common, "side": t("after"), "rank": after, "place": f"{after} {arrow(before - after)}"},
    ]


def legend(search: Search) -> Markup:
    """Return what the colours, rings and the dashed line of the chart mean."""
    counts = Counter(c.fate for c in search.candidates)
    items = [
        html('<li><span class="dot {fate}"></span>{name} <b>{n}</b></li>', fate=fate, name=t(name), n=counts[fate])
        for fate, (name, _) in FATES.items()
    ]
    items.append(html('<li><span class="dot around"></span>{name}</li>', name=t("cited")))
    items.append(html('<li><span class="dash"></span>{name}</li>', name=t("passage cutoff")))
    return html('<ul class="legend">{items}</ul>', items=joined(items))


def lists(search: Search, cited: set[str]) -> Markup:
    """Return the two rankings as one table, aligned by rank, each score as a bar on its own scale."""
    retrieval, rerank = search.retrieval_score, search.rerank_score
    retrieved = [c.retrieval for c in search.candidates]
    reranked = [c.rerank for c in search.candidates if c.rerank]
    rows = []
    found = html('<th scope="col" class="found">{found}</th>', found=t(FOUND)) if search.is_hybrid else Markup("")
    for rank, (before, after) in enumerate(zip(search.candidates, search.reranked, strict=True), 1):
        rows.append(
            html(
                '<tr class="{edge}"><th scope="row">{rank}</th>{left}{found}<td class="moved">{moved}</td>{right}</tr>',
                edge="cut" if rank == len(search.passages) else "",
                rank=rank,
                left=_cell(before, _bar(before.retrieval, retrieved, retrieval), _words_only(before)),
                found=html('<td class="found">{ranks}</td>', ranks=t(before.found)) if search.is_hybrid else Markup(""),
                moved=arrow(after.retrieval.rank - rank) or "=",
                right=_cell(
                    after,
                    _bar(after.rerank, reranked, rerank),
                    _badges(after, after.id in cited),
                ),
            )
        )
    return html(
        '<div class="scroll" tabindex="0" role="region" aria-label="{lists}"><table class="lists"><thead><tr>'
        '<th scope="col">{rank}</th><th scope="col">{before}</th><th scope="col" class="score">{retrieval}</th>{found}'
        '<th scope="col" class="moved">▲▼</th><th scope="col">{after}</th><th scope="col" class="score">{rerank}</th>'
        "</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="quiet">{note}</p>',
        lists=t("Lists"),
        rank=t("rank"),
        before=t("before reranking"),
        retrieval=t(retrieval.name),
        found=found,
        after=t("after reranking"),
        rerank=t(rerank.name),
        rows=joined(rows),
        note=t("Scores use different scales and can't be compared; each bar runs from the lowest to the highest here."),
    )


def _cell(c: Candidate, bar: Markup, badges: Markup) -> Markup:
    """Return a candidate's title above its document, or above what became of it, and its score."""
    return html(
        '<td class="name {fate}" title="{whole}"><div class="title"><bdi>{label}</bdi></div>'
        '<div class="below">{below}</div></td>'
        '<td class="score">{bar}</td>',
        fate=c.fate,
        whole=f"{c.document}: {c.heading_path}",
        label=label(c),
        below=badges or html("<bdi>{document}</bdi>", document=c.document),
        bar=bar,
    )


def _badges(c: Candidate, cited: bool) -> Markup:
    said = [html('<span class="badge {fate}">{said}</span>', fate=c.fate, said=t(FATES[c.fate][0]))] if c.fate in BADGES else []
    return joined([*said, *([html('<span class="badge">{cited}</span>', cited=t("cited"))] if cited else [])])


def _words_only(c: Candidate) -> Markup:
    return html('<span class="badge">{said}</span>', said=t("found by words only")) if c.words_only else Markup("")


def _bar(one: Ranking | None, all_of_it: Sequence[Ranking], score: Score) -> Markup:
    """Return a score as a bar between the lowest and the highest of its own kind."""
    if one is None:
        return html('<span class="quiet">{none}</span>', none="–")
    low, high = min(r.score for r in all_of_it), max(r.score for r in all_of_it)
    share = (one.score - low) / (high - low) if high > low else 1.0
    return html(
        '<span class="bar" role="img" title="{name} {score}" aria-label="{name} {score}">'
        '<span style="width:{width:.0f}%"></span></span>',
        name=t(score.name),
        score=t(score.shown(one)),
        width=4 + 96 * share,
    )
