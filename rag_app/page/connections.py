"""The doctor as a page: three endpoints and Chroma, each green or with what to do."""

import time
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from rag_app.doctor import Finding, examine
from rag_app.endpoints.endpoint import Stage
from rag_app.errors import RagError
from rag_app.page import resources
from rag_app.page.hostile import html, joined
from rag_app.page.say import t, w
from rag_app.settings import STAGES, Settings
from rag_app.words import msg

PARTS = {
    "embeddings": msg("Embeddings"),
    "rerank": msg("Rerank"),
    "chat": msg("Chat"),
    "chroma": msg("Chroma"),
}
STATUS = {"ok": msg("working"), "warn": msg("working, with warnings"), "fail": msg("not working"), "waiting": msg("checking…")}


def page(controls: Any) -> None:
    """Lay out the page; what was found is kept until the next check."""
    st.title(t("Connections"), anchor=False)
    st.caption(t("Each endpoint is tested with a known question."))
    with st.container(horizontal=True):
        again = st.button(t("Try again"), icon=":material/refresh:", type="primary")
        reread = st.button(
            t("Reload .env"), icon=":material/sync:", help=t("After a change of .env; applies to everyone who uses this page.")
        )
    if reread:
        resources.forget()
    settings = resources.settings()
    kept = _kept(settings.model_dump_json())
    if again or reread or not kept.findings:
        _examine(settings, kept)
    else:
        _show(settings, kept.findings, "")
    st.caption(t("Last checked {when}", when=w().when(kept.when)))


@dataclass
class Kept:
    """What was found last, and when, in seconds since the epoch."""

    findings: list[Finding] = field(default_factory=list)
    when: float = 0.0


@st.cache_resource(show_spinner=False, max_entries=4)
def _kept(settings: str) -> Kept:
    """Return what was found last with these settings, shared by all visits so that not each of them calls the endpoints."""
    return Kept()


def _examine(settings: Settings, kept: Kept) -> None:
    """Examine all, drawing each finding as it comes."""
    place = st.empty()
    findings: list[Finding] = []
    parts = list(PARTS)
    _show(settings, findings, parts[0], place)
    for finding in examine(settings):
        findings.append(finding)
        _show(settings, findings, finding.part, place)
    _show(settings, findings, "", place)
    kept.findings, kept.when = findings, time.time()


def _show(settings: Settings, findings: list[Finding], running: str, place: Any = None) -> None:
    """Show a card for each part: what is used, and what was found; the key only as set or not."""
    cards = [_card(settings, part, [f for f in findings if f.part == part], running) for part in PARTS]
    (place or st).html(html('<div class="cards">{cards}</div>', cards=joined(cards)))


def _card(settings: Settings, part: str, findings: list[Finding], running: str) -> Any:
    order = list(PARTS)
    done = bool(findings) and (not running or order.index(running) > order.index(part))
    worst = next((status for status in ("fail", "warn") if any(f.status == status for f in findings)), "ok")
    status = worst if done or worst == "fail" else "waiting"
    items = joined(
        [
            html(
                '<li class="{status}"><b>{check}</b><div><bdi>{detail}</bdi>{todo}</div></li>',
                status=f.status,
                check=t(CHECKS.get(f.check, f.check)),
                detail=t(f.detail),
                todo=html('<p class="todo">→ <bdi>{remedy}</bdi></p>', remedy=t(f.remedy)) if f.remedy else html(""),
            )
            for f in findings
        ]
    )
    return html(
        '<section class="part {status}" aria-label="{name}"><h3>{name} <span class="status">{said}</span></h3>'
        '<p class="quiet">{used}</p><ul>{items}</ul></section>',
        status=status,
        name=t(PARTS[part]),
        said=t(STATUS[status]),
        used=_used(settings, part),
        items=items,
    )


CHECKS = {
    "answers": msg("answers"),
    "order": msg("order"),
    "limits": msg("limits"),
    "shape": msg("shape"),
    "address": msg("address"),
    "key": msg("key"),
    "model": msg("model"),
    "reachable": msg("reachable"),
    "settings": msg("settings"),
    "citations": msg("citations"),
    "collection": msg("collection"),
    "dimension": msg("dimension"),
}


def _used(settings: Settings, part: str) -> str:
    """Return which model or place a part uses, and whether a key is set, never the key."""
    if part == "chroma":
        return settings.chroma_url or str(settings.chroma_path)
    stage: Stage = next(stage for stage, (name, _) in STAGES.items() if name == part)
    try:
        endpoint = settings.endpoint(stage)
    except RagError:
        return ""
    if endpoint.builtin:
        return t("{model}, built in, no key needed", model=endpoint.model)
    key = msg("key set") if endpoint.key.get_secret_value() else msg("no key set")
    return t("{model} at {address}, {key}", model=endpoint.model, address=endpoint.address, key=key)
