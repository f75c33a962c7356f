"""The doctor as a page: three endpoints and Chroma, green or what to do."""

import time
from typing import Any

import streamlit as st

from rag_app.doctor import Finding, examine
from rag_app.endpoints.endpoint import Stage
from rag_app.errors import RagError
from rag_app.page import resources, states
from rag_app.page.hostile import html, joined
from rag_app.page.say import t
from rag_app.settings import STAGES, Settings
from rag_app.words import msg

PARTS = {
    "embeddings": msg("Embeddings"),
    "rerank": msg("Rerank"),
    "chat": msg("Chat"),
    "chroma": msg("Chroma"),
}
STATUS = {"ok": msg("works"), "warn": msg("works, but"), "fail": msg("does not work"), "waiting": msg("being asked")}


def page() -> None:
    """Lay out the page; what was found is kept until it is asked again."""
    st.title(t("Connections"), anchor=False)
    st.caption(t("Each endpoint is asked something whose answer is known."))
    with st.container(horizontal=True):
        again = st.button(t("Try again"), icon=":material/refresh:", type="primary")
        reread = st.button(
            t("Read .env again"), icon=":material/sync:", help=t("After a change of .env: for everyone who uses this page.")
        )
    if reread:
        resources.forget()
    try:
        settings = resources.settings()
    except RagError as error:
        states.show_error(error)
        return
    kept = _kept(settings.model_dump_json())
    if again or reread or not kept:
        _examine(settings, kept)
    else:
        _show(settings, kept["findings"], "")
    st.caption(t("Looked at {when}.", when=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(kept["when"]))))


@st.cache_resource(show_spinner=False, max_entries=4)
def _kept(settings: str) -> dict[str, Any]:
    """Return what was found last with these settings, for all sessions: endpoints are not asked anew by each visitor."""
    return {}


def _examine(settings: Settings, kept: dict[str, Any]) -> None:
    """Examine all, drawing each finding as it comes."""
    place = st.empty()
    findings: list[Finding] = []
    parts = list(PARTS)
    _show(settings, findings, parts[0], place)
    for finding in examine(settings):
        findings.append(finding)
        _show(settings, findings, finding.part, place)
    _show(settings, findings, "", place)
    kept.update(findings=findings, when=time.time())


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
    key = t("a key is set") if endpoint.key.get_secret_value() else t("no key is set")
    return t("{model} at {address}, {key}", model=endpoint.model, address=endpoint.address, key=key)
