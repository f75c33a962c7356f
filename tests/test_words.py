"""The words that people read: every language of rag_app/locale has all of them and no others."""

import ast
import string
from functools import lru_cache
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from rag_app.errors import RagError
from rag_app.words import FOLDER, KEEP, Message, Words, joined, languages, msg, nearest, nmsg, pmsg
from tests.helpers import ROOT, extracted

TRANSLATED = [code for code in languages() if code != "en"]


@lru_cache
def catalog(code: str) -> Catalog:
    with (FOLDER / f"{code}.po").open("rb") as file:
        return read_po(file, locale=code)


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("code", TRANSLATED)
class TestLanguages:
    def test_no_text_is_missing(self, code: str) -> None:
        has = {(m.context or "", m.id) for m in catalog(code) if m.id and all(m.string if m.pluralizable else (m.string,))}
        assert extracted() - has == set()

    def test_no_translation_has_lost_its_text(self, code: str) -> None:
        assert {(m.context or "", m.id) for m in catalog(code) if m.id} - extracted() == set()

    def test_translations_have_the_places_of_their_texts(self, code: str) -> None:
        for message in catalog(code):
            if message.id:
                *_, many = message.id if message.pluralizable else (message.id,)
                *few, last = message.string if message.pluralizable else (message.string,)
                # Only what is said of one may leave its number out.
                assert places(last) == places(many) and all(places(said) <= places(many) for said in few), many

    def test_nothing_is_fuzzy(self, code: str) -> None:
        assert [m.id for m in catalog(code) if m.id and m.fuzzy] == []


def test_what_is_marked_as_a_message_is_a_text_that_the_extractor_sees() -> None:
    """A template that is put together while the program runs is in no catalogue."""
    wrong = []
    for room in ("rag_app", "ingest"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("msg", "nmsg", "pmsg"):
                    texts = node.args[: {"msg": 1, "nmsg": 2, "pmsg": 2}[node.func.id]]
                    if not all(isinstance(text, ast.Constant) and isinstance(text.value, str) for text in texts):
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


class TestMessages:
    def test_a_message_is_its_english_text(self) -> None:
        assert msg("{n} of {of} at {share:.1%}", n=3, of=4, share=0.75) == "3 of 4 at 75.0%"

    def test_what_counts_is_singular_for_one(self) -> None:
        assert [nmsg("{n} question", "{n} questions", n) for n in (0, 1, 2)] == ["0 questions", "1 question", "2 questions"]

    def test_braces_in_a_value_or_a_foreign_text_stay(self) -> None:
        assert msg("read {path}", path=Path("{a}")) == "read {a}"
        assert Message("{not: ours}") == "{not: ours}"
        assert Words("en")(Message("{not: ours}")) == "{not: ours}"

    def test_messages_within_messages_are_said_in_the_same_language(self) -> None:
        inner = msg("Ask")
        assert Words("zh")(joined(" · ", (inner, "", "bge-m3"))) == "提问 · bge-m3"
        assert joined(" · ", (inner, "", "bge-m3")) == "Ask · bge-m3"

    def test_an_error_in_a_message_says_itself(self) -> None:
        error = RagError(msg("Ask"), msg("Documents"))
        assert msg("left out: {error}", error=error) == "left out: Ask: Documents"
        assert Words("zh")(msg("{error}", error=error)) == "提问：文档"

    def test_a_message_that_is_kept_can_be_said_later(self) -> None:
        from rag_app.types import Record
        from rag_app.words import Said

        class Line(Record):
            text: Said

        line = Line(text=pmsg("a column", "in {path}: {n:,}", path=Path("a"), n=1234))
        kept = Line.model_validate_json(line.model_dump_json(context=KEEP))
        assert isinstance(kept.text, Message)
        assert kept.text.record() == {"text": "in {path}: {n:,}", "values": {"path": "a", "n": 1234}, "context": "a column"}
        assert line.model_dump_json() == '{"text":"in a: 1,234"}'
        assert Line.model_validate_json(line.model_dump_json()) == line

    def test_an_error_names_both_sentences_and_the_values_in_them(self) -> None:
        error = RagError(msg("{n} passages", n=5), msg("ask for {least}", least=6))
        assert error.record() == {"error": "5 passages", "remedy": "ask for 6", "values": {"n": 5, "least": 6}}
        assert str(error) == "5 passages: ask for 6"

    @pytest.mark.parametrize(
        ("asked", "code"),
        [
            (("zh-CN",), "zh"),
            (("zh_Hans_CN.UTF-8",), "zh"),
            (("tlh", "zh"), "zh"),
            (("C.UTF-8",), "en"),
            (("",), "en"),
            ((), "en"),
        ],
    )
    def test_the_nearest_language_that_there_are_words_for(self, asked: tuple[str, ...], code: str) -> None:
        assert nearest(*asked) == code
