"""The pages' logic, with AppTest; what needs a browser is in test_browser.py."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from gettext import GNUTranslations
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from bs4 import BeautifulSoup
from streamlit.testing.v1 import AppTest

from rag_app.errors import RagError
from rag_app.page import hostile, navigation
from rag_app.page.hostile import answer, highlighted, html, plain, shared
from rag_app.page.visit import Visit
from rag_app.settings import Settings
from rag_app.words import msg
from tests.helpers import ROOT, extracted, run
from tests.wire import Reply, Wire, chat, embeddings

SCRIPT = ROOT / "rag_app" / "page" / "script.py"


@pytest.fixture
def page(settings: Settings, corpus: Path) -> Iterator[AppTest]:
    """The front page over four small documents and the scripted gateway."""
    (corpus / "hostile.md").write_text(
        "# <script>alert(1)</script>\n\nDinner ![x](http://127.0.0.1:9/x.png) [link](javascript:alert(1))"
    )
    assert run("ingest", "docs").exit_code == 0
    clear()
    yield AppTest.from_file(str(SCRIPT), default_timeout=30)
    clear()


def clear() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def ask(page: AppTest, question: str) -> str:
    """Ask on the page and return all that it says."""
    if not page.title:
        page.run()
    page.text_input(key="question").set_value(question)
    page.button[[b.label for b in page.button].index("Ask")].click().run()
    return said(page)


def said(page: AppTest) -> str:
    assert not page.exception
    bodies = [element.proto.body for element in page.get("html")]
    values = [str(e.value) for e in [*page.title, *page.markdown, *page.caption, *page.subheader]]
    return "\n".join([*bodies, *values]).replace("\u2060", "").replace("\\", "")


def heading(page: AppTest) -> str:
    return str(page.subheader[0].value).replace("\\", "")


def click(page: AppTest, label: str) -> str:
    page.button[[b.label for b in page.button].index(label)].click().run()
    return said(page)


def chart(page: AppTest) -> dict[str, Any]:
    """Return the data of the movement, by candidate and side."""
    spec = json.loads(page.get("vega_lite_chart")[0].proto.spec)
    rows = next(layer["data"]["values"] for layer in spec["layer"] if "fate" in layer["data"]["values"][0])
    return {(row["id"], row["side"]): row for row in rows}


class TestAsk:
    def test_a_question_is_answered_with_its_passages_and_what_reranking_did(self, page: AppTest, wire: Wire) -> None:
        wire.on("/chat/completions", lambda body: chat("Up to ", "32 EUR [1]."))
        text = ask(page, "dinner in France")
        assert "Up to 32\u00a0EUR" in text or "Up to 32 EUR" in text
        assert re.search(r'<button type="button" class="cite "[^>]*>1</button>', text)
        # The card behind the marker shows the shared words: two with a figure are enough.
        assert "Dinner is paid <mark>up to 32 EUR</mark> in France." in text
        assert "Reranking " in text and "rr" in text and "8 of 8 scored" in text
        assert [tab.label for tab in page.tabs] == ["Movement", "Lists", "Passages sent", "All candidates", "Details"]

    def test_the_values_of_the_sidebar_come_from_the_address_and_go_to_it(self, page: AppTest, wire: Wire) -> None:
        page.query_params["candidates"] = "44"
        page.query_params["mode"] = "both"
        page.query_params["lang"] = "zh"
        page.run()
        assert page.slider(key="candidates").value == 44
        assert page.session_state["mode"] == "both"
        page.text_input(key="question").set_value("dinner")
        click(page, "提问")
        assert (page.query_params["q"], page.query_params["mode"]) == ("dinner", "both")

    def test_a_link_with_a_question_asks_it_once(self, page: AppTest, wire: Wire) -> None:
        page.query_params["q"] = "dinner in France"
        page.run()
        assert wire.count("/chat/completions") == 1 and heading(page) == "dinner in France"
        page.run()
        assert wire.count("/chat/completions") == 1

    def test_a_question_that_is_too_long_is_not_asked_in_part(self, page: AppTest, wire: Wire) -> None:
        text = ask(page, "why " * 1500)
        assert "The question is too long" in text and "5,999 characters" in text and wire.count("/rerank") == 0

    def test_the_address_is_of_the_question_that_is_shown(self, page: AppTest, wire: Wire) -> None:
        page.query_params["follow_ups"] = "false"
        ask(page, "dinner in France")
        ask(page, "parking")
        assert page.query_params["q"] == "parking"
        page.session_state[f"earlier-{page.session_state['visit'].turns[0].id}"] = True
        page.run()
        click(page, "Show with rankings")
        assert heading(page) == "dinner in France" and page.query_params["q"] == "dinner in France"

    def test_another_mode_is_remarked_on_like_another_setting(self, page: AppTest, wire: Wire) -> None:
        wire.on("/rerank", reversed_order)
        ask(page, "dinner in France")
        page.session_state["mode"] = "both"
        page.run()
        assert "The settings have changed" in said(page)
        assert "<h4>Without reranking</h4>" in click(page, "Ask again")

    def test_moving_the_passages_cuts_the_ranking_anew_without_a_call(self, page: AppTest, wire: Wire) -> None:
        ask(page, "dinner in France")
        before = len(wire.sent)
        page.slider(key="passages").set_value(3).run()
        text = said(page)
        assert "Showing 3 passages; the answer above used 4." in text
        assert len(wire.sent) == before
        text = click(page, "Answer from these 3 passages")
        # One call, to the chat model alone, with three passages.
        assert len(wire.sent) == before + 1 and wire.sent[-1].path.endswith("/chat/completions")
        assert wire.sent[-1].body["messages"][1]["content"].count("<passage n=") == 3
        assert "Showing 3" not in text

    def test_a_changed_setting_is_remarked_on_until_it_is_asked_again(self, page: AppTest, wire: Wire) -> None:
        ask(page, "dinner")
        page.toggle(key="rerank").set_value(False).run()
        assert "The settings have changed since this was asked." in said(page)
        text = click(page, "Ask again")
        assert "The settings have changed" not in text and "Reranking was skipped" in text
        assert wire.count("/rerank") == 1

    def test_a_filter_limits_what_is_looked_in(self, page: AppTest, wire: Wire) -> None:
        page.run()
        options = page.multiselect(key="documents").options
        assert options == [
            "language:en",
            "language:und",
            "policies/",
            "hostile.md",
            "notes.txt",
            "parking.html",
            "policies/travel.md",
        ]
        page.multiselect(key="documents").set_value(["policies/"]).run()
        text = ask(page, "dinner in France")
        assert "3 of 3 scored" in text
        sent = next(s for s in wire.sent if s.path.endswith("/rerank")).body["documents"]
        assert len(sent) == 3 and all(document.startswith("Travel policy") for document in sent)

    def test_with_and_without_are_two_answers_from_one_retrieval(self, page: AppTest, wire: Wire) -> None:
        wire.on("/rerank", reversed_order)
        wire.on("/chat/completions", lambda body: chat("It is so [1]. And so [2]."))
        page.query_params["mode"] = "both"
        text = ask(page, "dinner in France")
        assert wire.count("/embeddings") - 1 == 1 and wire.count("/rerank") == 1
        prompts = [s.body["messages"][1]["content"] for s in wire.sent if s.path.endswith("/chat/completions")]
        assert len(set(prompts)) == 2
        assert "<h4>With reranking</h4>" in text and "<h4>Without reranking</h4>" in text
        assert text.count('class="cite only"') >= 2 and "cited in this answer only" in text

    def test_of_two_answers_the_one_that_came_is_kept_if_the_other_fails(self, page: AppTest, wire: Wire) -> None:
        wire.on("/rerank", reversed_order)
        page.query_params["mode"] = "both"
        page.run()
        first: list[str] = []

        def reply(body: Any) -> Reply:
            # The passages after reranking begin with another document than those before.
            first.append(body["messages"][1]["content"])
            with_rerank = page_of_first(body) != "retrieval"
            return Reply({"error": {"message": "no"}}, 401) if with_rerank and len(first) <= 2 else chat("So it is [1].")

        def page_of_first(body: Any) -> str:
            return "retrieval" if wire_first in body["messages"][1]["content"].split("</passage>")[0] else "rerank"

        wire_first = "Dinner is paid up to 32 EUR"
        wire.on("/chat/completions", reply)
        text = ask(page, "Dinner is paid up to 32 EUR in France.")
        assert "rejected the key" in text
        calls = wire.count("/chat/completions")
        text = click(page, "Answer from these passages")
        # Only what failed is asked anew.
        assert wire.count("/chat/completions") == calls + 1 and "<h4>Without reranking</h4>" in text

    def test_a_second_answer_is_written_beside_the_one_that_is_there(self, page: AppTest, wire: Wire) -> None:
        wire.on("/rerank", reversed_order)
        ask(page, "dinner in France")
        assert wire.count("/chat/completions") == 1
        text = click(page, "Compare with/without")
        assert wire.count("/chat/completions") == 2 and "<h4>Without reranking</h4>" in text

    def test_a_blind_vote_tells_nothing_before_it_is_cast_and_is_stored(self, page: AppTest, wire: Wire) -> None:
        wire.on("/rerank", reversed_order)
        page.query_params["mode"] = "blind"
        text = ask(page, "dinner in France")
        assert "<h4>Left</h4>" in text and "With reranking" not in text and "Reranking " not in text
        assert not page.tabs
        text = click(page, "Left")
        assert "<h4>With reranking</h4>" in text and "Reranking put" in text
        row = json.loads(Path("data/feedback/feedback.jsonl").read_text("utf-8"))
        assert row["kind"] == "vote" and row["better"] == row["left"]
        assert row["passages"] != row["passages_without"]

    def test_a_follow_up_is_rewritten_shown_and_can_be_switched_off(self, page: AppTest, wire: Wire) -> None:
        def reply(body: Any) -> Reply:
            rewriting = "<conversation>" in body["messages"][1]["content"]
            return chat("How much is dinner in Germany?") if rewriting else chat("32 EUR [1].")

        wire.on("/chat/completions", reply)
        ask(page, "dinner in France")
        text = ask(page, "and in Germany?")
        assert heading(page) == "How much is dinner in Germany?"
        assert "You asked “and in Germany?”" in text
        conversation = wire.sent[-4].body["messages"][1]["content"]
        assert "Question: dinner in France\nAnswer: 32 EUR [1]." in conversation
        assert [e.label for e in page.expander] == ["dinner in France"]
        # Asked again, it is still understood by what came before it.
        page.slider(key="candidates").set_value(20).run()
        click(page, "Ask again")
        assert heading(page) == "How much is dinner in Germany?"
        calls = wire.count("/chat/completions")
        page.toggle(key="follow_ups").set_value(False).run()
        ask(page, "parking")
        assert wire.count("/chat/completions") == calls + 1 and heading(page) == "parking"

    def test_the_built_in_model_says_that_it_cannot_rewrite(self, page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAG_CHAT_URL", "builtin")
        monkeypatch.setenv("RAG_CHAT_MODEL", "")
        page.run()
        assert page.toggle(key="follow_ups").disabled and "cannot rewrite" in page.toggle(key="follow_ups").help

    def test_thumbs_and_a_comment_are_stored(self, page: AppTest, wire: Wire) -> None:
        ask(page, "dinner in France")
        page.feedback[0].set_value(0).run()
        page.text_input[-1].set_value("the year is wrong").run()
        rows = [json.loads(line) for line in Path("data/feedback/feedback.jsonl").read_text("utf-8").splitlines()]
        assert [(row["rating"], row["comment"]) for row in rows] == [("down", ""), ("down", "the year is wrong")]
        assert rows[0]["answer_id"] == rows[1]["answer_id"] and rows[0]["passages"][0]["document"]
        assert "sk-secret" not in Path("data/feedback/feedback.jsonl").read_text("utf-8")

    def test_a_thumb_that_is_taken_back_is_stored_as_such(self, page: AppTest) -> None:
        ask(page, "dinner in France")
        page.feedback[0].set_value(1).run()
        page.feedback[0].set_value(None).run()
        rows = [json.loads(line) for line in Path("data/feedback/feedback.jsonl").read_text("utf-8").splitlines()]
        assert [row["rating"] for row in rows] == ["up", None]

    def test_a_collection_made_anew_by_another_model_is_not_searched_with_the_old_one(
        self, page: AppTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask(page, "dinner in France")
        monkeypatch.setenv("RAG_EMBEDDING_MODEL", "emb2")
        assert run("reindex").exit_code == 0
        text = ask(page, "parking")
        assert "was made with embedding model" in text
        # The settings are read again then, and the next one is answered.
        assert "It is so" in click(page, "Ask again")

    def test_two_sessions_do_not_see_each_other(self, page: AppTest) -> None:
        ask(page, "dinner in France")
        other = AppTest.from_file(str(SCRIPT), default_timeout=30).run()
        assert not other.subheader and "dinner" not in said(other)

    def test_the_record_of_a_visit_carries_nothing_over_to_another(self, page: AppTest) -> None:
        ask(page, "dinner in France")
        first = page.session_state["visit"]
        first.uploads, first.problem, first.labelled = 3, RagError(msg("no")), ("dinner", 1)
        other = AppTest.from_file(str(SCRIPT), default_timeout=30).run()
        assert replace(other.session_state["visit"], pages={}) == Visit()
        ask(other, "parking")
        assert [turn.typed for turn in first.turns] == ["dinner in France"]
        assert [turn.typed for turn in other.session_state["visit"].turns] == ["parking"]

    def test_an_empty_collection_says_what_to_do(self, settings: Settings) -> None:
        clear()
        text = said(AppTest.from_file(str(SCRIPT), default_timeout=30).run())
        assert "No documents yet" in text and "rag-app ingest PATH" in text

    def test_a_setting_that_cannot_work_is_a_state_with_a_remedy(self, page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAG_N_PASSAGES", "many")
        text = said(page.run())
        assert "Invalid setting" in text and "RAG_N_PASSAGES" in text

    def test_an_error_that_any_page_raises_is_a_state_with_its_remedy(
        self, page: AppTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(controls: Any) -> None:
            raise RagError(msg("it is *full*"), msg("empty it"))

        monkeypatch.setitem(navigation.PAGES, "ask", ("Ask", "forum", fails))
        text = said(page.run())
        assert "<p>it is *full*</p>" in text and "→ empty it" in text


def reversed_order(body: Any) -> Reply:
    """Score the last highest."""
    return Reply({"results": [{"index": i, "relevance_score": i / 10} for i in range(len(body["documents"]))]})


class TestStates:
    @pytest.mark.parametrize(
        ("reply", "happened", "to_do"),
        [
            (Reply({"message": "quota used up"}, 402), "402 Payment Required: quota used up", "top up the account"),
            (
                Reply({"error": {"message": "invalid token"}}, 401),
                "401 Unauthorized: invalid token",
                "check RAG_RERANK_API_KEY",
            ),
            (Reply({"error": {"message": "model rr not found"}}, 404), "model rr not found", "check RAG_RERANK_MODEL"),
            (Reply(b"<html>", kind="text/html"), "not JSON but text/html", "is /v1 missing or doubled?"),
            (Reply({"success": False, "message": "no channel"}), "no results: no channel", "check RAG_RERANK_URL"),
            (
                Reply(b"", 302, headers={"location": "/v2"}),
                "302 Found (to /v2)",
                "set RAG_RERANK_URL to the address that it redirects to",
            ),
            (
                Reply({"message": "slow down"}, 429, headers={"retry-after": "99"}),
                "429 Too Many Requests",
                "wait and try again",
            ),
        ],
        ids=["quota", "key", "model", "web page", "failure in 200", "redirect", "rate limit"],
    )
    def test_a_failed_rerank_is_loud_with_what_to_do(
        self, page: AppTest, wire: Wire, reply: Reply, happened: str, to_do: str
    ) -> None:
        wire.on("/rerank", lambda body: reply)
        text = ask(page, "dinner in France")
        assert '<div class="receipt fallback">' in text and "Reranking failed" in text
        assert happened in text and to_do in text
        terminal = run("ask", "dinner in France").stdout
        assert sum("RERANK FAILED" in line and happened in line and to_do in line for line in terminal.splitlines()) == 1

    @pytest.mark.parametrize(
        ("path", "reply", "title", "to_do"),
        [
            ("/chat/completions", Reply({"error": {"message": "bad key"}}, 401), "rejected the key", "RAG_CHAT_API_KEY"),
            ("/chat/completions", Reply({"message": "slow"}, 429, headers={"retry-after": "99"}), "Rate limit reached", "wait"),
            ("/embeddings", Reply({"error": {"message": "bad key"}}, 401), "rejected the key", "RAG_EMBEDDING_API_KEY"),
            ("/embeddings", Reply(b"<html>", kind="text/html"), "Wrong endpoint address", "is /v1 missing"),
        ],
        ids=["chat key", "chat rate", "embedding key", "embedding page"],
    )
    def test_a_dead_endpoint_is_a_state_with_its_remedy(
        self, page: AppTest, wire: Wire, path: str, reply: Reply, title: str, to_do: str
    ) -> None:
        page.run()
        wire.on(path, lambda body: reply)
        text = ask(page, "dinner")
        assert title in text and to_do in text and "sk-secret" not in text
        assert not page.error
        # The rankings that were paid for are shown all the same.
        assert ("8 of 8 scored" in text) == (path == "/chat/completions")
        wire.on(path, {"/embeddings": embeddings}.get(path, lambda body: chat("Now it is [1].")))
        text = click(page, "Answer from these passages" if path == "/chat/completions" else "Ask again")
        assert "Now it is" in text or "It is so" in text

    def test_everything_below_the_threshold_is_said(self, page: AppTest, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAG_RERANK_MIN_SCORE", "5")
        text = ask(page, "dinner in France")
        assert "Nothing relevant enough" in text and "lower RAG_RERANK_MIN_SCORE" in text
        assert "Reranking found no candidate relevant enough." in text
        assert wire.count("/chat/completions") == 0

    @pytest.mark.parametrize(
        ("finish", "done", "title"),
        [("length", True, "The answer stops in the middle"), (None, False, "The answer may be incomplete")],
        ids=["token limit", "stream broke off"],
    )
    def test_an_answer_that_is_cut_says_so(self, page: AppTest, wire: Wire, finish: str | None, done: bool, title: str) -> None:
        wire.on("/chat/completions", lambda body: chat("Half an [1]", finish=finish, done=done))
        assert title in ask(page, "dinner in France")

    def test_a_document_that_goes_while_it_is_filtered_by_is_no_failure(self, page: AppTest) -> None:
        page.run()
        page.multiselect(key="documents").set_value(["hostile.md"]).run()
        assert run("forget", "hostile.md").exit_code == 0
        assert "It is so" in ask(page, "dinner")


class TestHostileText:
    def test_nothing_from_a_document_or_a_model_is_markup(self, page: AppTest, wire: Wire) -> None:
        wire.on(
            "/chat/completions", lambda body: chat("![a](http://x.example/a.png) <img src=x> :red[b] $x$ www.evil.example [2]")
        )
        ask(page, "dinner ![q](http://x.example/q.png) <b>")
        bodies = "\n".join(element.proto.body for element in page.get("html"))
        assert not re.search(r"<(img|script|iframe|object|embed|form|input|svg|link)\b", bodies)
        assert "&lt;img src=x&gt;" in bodies and "javascript:" not in re.findall(r'href="([^"]*)"', bodies)
        assert all(href.startswith(("/original/", "/documents?collection=")) for href in re.findall(r'href="([^"]*)"', bodies))
        for element in [*page.markdown, *page.caption, *page.subheader]:
            for mark in (r"!\[", r"\]\(", "<img", "<script", r":red", r"www\.", r"\$", "://"):
                assert not re.search(rf"(?<!\\){mark}", element.value)
        assert all(not element.allow_html for element in page.markdown)

    @pytest.mark.parametrize(
        "text",
        [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "[click](javascript:alert(1))",
            "![pixel](http://evil.example/x.png)",
            "<http://evil.example>",
            "[ref]: javascript:alert(1)\n\n[ref]",
            '"><svg onload=alert(1)>',
            "<details open ontoggle=alert(1)>",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "```html\n<script>alert(1)</script>\n```",
            "```<img src=x onerror=alert(1)>\ncode\n```",
            "<style>*{display:none}</style>",
        ],
    )
    def test_an_answer_brings_no_tag_of_its_own(self, text: str) -> None:
        made = answer(text, lambda n, claim: html("[{n}]", n=n))
        tags = set(re.findall(r"<\s*/?\s*([a-z0-9]+)", str(made)))
        assert tags <= {"p", "pre", "code"}
        assert not re.search(r"<[^>]+\s(on\w+|href|src|style)\s*=", str(made))

    def test_an_answer_keeps_its_lists_tables_and_emphasis(self) -> None:
        made = str(answer("# Head\n\n- **bold** [1]\n\n| a | b |\n|---|---|\n| 1 | 2 |", lambda n, claim: html("({n})", n=n)))
        for tag in ("<h5>Head</h5>", "<li>", "<strong>bold</strong>", "(1)", "<td>1</td>"):
            assert tag in made

    def test_direction_and_control_characters_are_left_out(self) -> None:
        assert plain("a\u202eb\x07c") == "abc"
        assert str(html("<p>{x}</p>", x="\u202e<b>\u2066")) == "<p>&lt;b&gt;</p>"

    def test_a_deeply_nested_answer_comes_to_an_end(self) -> None:
        made = answer("> " * 5000 + "deep" + "**" * 5000 + "[" * 5000, lambda n, claim: html(""))
        assert len(str(made)) < 100_000

    def test_sessions_that_render_at_once_keep_their_own_markers(self) -> None:
        found: dict[int, set[str]] = {}

        def render(which: int) -> None:
            found[which] = {str(answer("so [1] it is", lambda n, claim: html("<i>{w}</i>", w=which))) for _ in range(200)}

        threads = [threading.Thread(target=render, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(found[i] == {f"<p>so\xa0<i>{i}</i> it is</p>\n"} for i in range(4))


class TestSharedWords:
    def test_runs_of_three_words_and_pairs_with_a_figure_are_shared(self) -> None:
        passage = "Dinner is paid up to 32 EUR in France, and lunch."
        words = [passage[a:b] for a, b in shared(passage, "You get up to 32 EUR for dinner")]
        # "up to 32" and "to 32 EUR" overlap; "dinner" alone is no run.
        assert words == ["up to 32 EUR"]

    def test_where_a_row_is_quoted_its_words_are_not_marked_in_other_rows(self) -> None:
        rows = [f"Instrument: C{n} | Interval: {n} months | Laboratory: Jena, Denver" for n in (1, 2, 3)]
        passage = "\n".join(rows)
        assert [passage[a:b] for a, b in shared(passage, f"Intervals: “{rows[1]}”")] == [rows[1]]

    def test_chinese_is_compared_by_characters(self) -> None:
        passage = "员工可在出差时报销晚餐。"
        assert [passage[a:b] for a, b in shared(passage, "出差时报销多少？")] == ["出差时报销"]

    def test_nothing_shared_marks_nothing(self) -> None:
        assert str(highlighted("a b c", "x y z")) == "a b c"

    def test_a_long_passage_is_shown_around_what_is_marked(self) -> None:
        passage = "filler words here " * 100 + "the code word is kestrel " + "more filler there " * 100
        shown = str(highlighted(passage, "the code word is kestrel"))
        assert "<mark>the code word is kestrel</mark>" in shown
        assert shown.startswith("… ") and shown.endswith(" …") and len(shown) < hostile._SHOWN + 100


class TestWords:
    def test_a_browser_in_chinese_gets_chinese(self, page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(st.context), "locale", property(lambda self: "zh-CN"))
        page.run()
        assert "提问" in [b.label for b in page.button]

    def test_where_endpoints_fail_nothing_is_said_in_english_by_a_language_that_has_all_sentences(
        self, page: AppTest, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = {text for _, texts in extracted() for text in ([texts] if isinstance(texts, str) else texts)}

        def signs(text: str) -> str:
            """Return a sentence of ours without its English words, any other text as it is."""
            return re.sub(r"(\{[^}]*\})|[A-Za-z]+", lambda m: m[1] or "字", text) if text in known else text

        monkeypatch.setattr(GNUTranslations, "gettext", lambda self, text: signs(text))
        monkeypatch.setattr(GNUTranslations, "ngettext", lambda self, one, many, n: signs(many))
        wire.on("/rerank", lambda body: Reply({"error": {"message": "无效"}}, 401))
        wire.on("/chat/completions", lambda body: Reply({"error": {"message": "额度"}}, 402))
        page.query_params["lang"] = "zh"
        page.query_params["q"] = "晚餐"
        page.run()
        shown = BeautifulSoup("\n".join(element.proto.body for element in page.get("html")), "lxml")
        failures = [box.get_text(" ", strip=True) for box in shown.select(".state, .receipt")]
        assert len(failures) == 2 and "额度" in failures[0] and "无效" in failures[1]
        assert [found for text in failures for found in re.findall(r"[A-Za-z]+ [a-z]+", text)] == []


def test_the_chart_has_both_ends_of_every_candidate_with_their_ranks(page: AppTest, wire: Wire) -> None:
    wire.on("/rerank", reversed_order)
    ask(page, "dinner in France")
    ends = chart(page)
    assert len(ends) == 16
    for identity in {identity for identity, _ in ends}:
        before, after = ends[identity, "before"], ends[identity, "after"]
        # Reversed: rank r of 8 comes to 9 - r.
        assert before["rank"] + after["rank"] == 9
        fate = "promoted" if after["rank"] <= 4 else "lost"
        assert before["fate"] == after["fate"] == fate


def test_lists_are_aligned_and_each_score_has_its_own_scale(page: AppTest, wire: Wire) -> None:
    ask(page, "dinner in France")
    page.session_state[f"views-{page.session_state['visit'].shown.id}"] = "Lists"
    text = said(page.run())
    rows = re.findall(r'<tr class="[^"]*"><th scope="row">(\d+)</th>', text)
    assert rows == [str(rank) for rank in range(1, 9)]
    assert text.count('<tr class="cut">') == 1
    widths = [int(width) for width in re.findall(r"width:(\d+)%", text)]
    # The highest of each kind is a full bar.
    assert widths[0] == 100 and widths[1] == 100 and min(widths) == 4
