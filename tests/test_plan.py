"""Plans: a question sought in several phrasings or part by part, as a chat model writes them down."""

import json
from pathlib import Path
from typing import Any

import pytest

from rag_app.endpoints.chat import Answering
from rag_app.errors import SettingsError
from rag_app.pipeline import Pipeline
from rag_app.plan import by_mean, in_turn, limit_of
from rag_app.settings import Settings
from rag_app.types import Candidate, Part, Ranking
from tests.helpers import candidates, ingest_into, run
from tests.wire import Reply, Wire, chat


def ranking(**scores: float) -> list[Candidate]:
    """Candidates by name in the order given, with these scores."""
    made = candidates(*scores)
    return [
        c.model_copy(update={"id": name, "retrieval": Ranking(rank=i, score=score)})
        for i, (c, (name, score)) in enumerate(zip(made, scores.items(), strict=True), 1)
    ]


def test_phrasings_are_fused_by_the_mean_of_their_scaled_scores() -> None:
    found = by_mean([ranking(a=0.9, b=0.5, c=0.1), ranking(b=30, d=10)])
    # a: (1 + 0) / 2; b: (0.5 + 1) / 2; c: 0; d: 0.
    assert [(c.id, round(score, 6)) for c, score in found] == [("b", 0.75), ("a", 0.5), ("c", 0.0), ("d", 0.0)]
    # Each as it stands where it is highest: b is second in the first.
    assert [c.retrieval.rank for c, _ in found] == [1, 1, 3, 2]
    assert by_mean([[], []]) == [] and [score for _, score in by_mean([ranking(a=3)])] == [1.0]


def test_parts_give_their_best_in_turn() -> None:
    found = in_turn([ranking(a=9, b=8, c=7), ranking(d=0.3, a=0.2), []])
    assert [(c.id, round(score, 3)) for c, score in found] == [("a", 1.0), ("d", 1.0), ("b", 0.5), ("c", 0.333)]


def replies(wire: Wire, plan: str, *answers: str) -> list[str]:
    """Have the chat model plan so, and answer parts so, one after the other; return the texts it is asked by."""
    asked: list[str] = []
    waiting = list(answers)

    def reply(body: Any) -> Reply:
        system, user = (message["content"] for message in body["messages"])
        asked.append(user)
        return chat(
            waiting.pop(0)
            if "short as it can be" in system
            else plan
            if "search engine" in system or "JSON" in system
            else "An answer [1]."
        )

    wire.on("/chat/completions", reply)
    return asked


QUESTION = "What may dinner cost in France?"


def test_a_question_is_sought_in_the_phrasings_that_the_model_writes(pipeline: Pipeline, wire: Wire) -> None:
    asked = replies(wire, f'- "Limit for a dinner in France"\n\n- {QUESTION}\n* parking {"x" * 500}\n• Parking in Jena\n')
    heard: list[Part] = []
    found = pipeline.search(QUESTION, plan="phrasings", on_part=heard.append)
    assert asked == [f"Question: {QUESTION}"]
    assert found.plan and [part.question for part in found.plan.parts] == [
        QUESTION,
        "Limit for a dinner in France",
        "Parking in Jena",
    ]
    assert heard == list(found.plan.parts) and found.plan.reason == ""
    assert [c.retrieval.rank for c in found.candidates] == list(range(1, len(found.candidates) + 1))
    assert len({c.id for c in found.candidates}) == len(found.candidates)
    assert found.retrieval_score.name == "mean score of the phrasings"
    # One rerank, against the question as it was asked.
    (body,) = [sent.body for sent in wire.sent if sent.path.endswith("/rerank")]
    assert body["query"] == QUESTION and len(body["documents"]) == len(found.candidates)
    assert "plan" in found.stages and found.ms.total >= found.plan.ms


def test_a_part_that_needs_an_earlier_answer_gets_it(pipeline: Pipeline, wire: Wire) -> None:
    asked = replies(wire, "Where is parking?\nWhat may dinner cost in #1?\nWho is #7?", " Jena \n")
    found = pipeline.search("What may dinner cost where parking is?", plan="parts")
    assert found.plan and [(part.question, part.answer) for part in found.plan.parts] == [
        ("Where is parking?", "Jena"),
        ("What may dinner cost in Jena?", ""),
        ("Who is #7?", ""),
    ]
    assert len(asked) == 2 and asked[1].endswith("Question: Where is parking?") and "<passage" in asked[1]
    firsts = {part.found[0] for part in found.plan.parts}
    assert firsts == {c.id for c in found.candidates[: len(firsts)]}


def test_what_leads_in_is_no_part_and_a_number_is_that_of_its_line(pipeline: Pipeline, wire: Wire) -> None:
    replies(
        wire, "Here are the questions:\n\n1. Where is parking?\nNote that both matter.\n2) What may dinner cost in #1?", "Jena"
    )
    found = pipeline.search("What may dinner cost where parking is?", plan="parts")
    assert found.plan and [part.question for part in found.plan.parts] == ["Where is parking?", "What may dinner cost in Jena?"]


def test_all_spellings_of_a_value_are_meant(wire: Wire) -> None:
    limit = limit_of(
        "?", {"country": {"DE": 1, "de": 2, "fr": 3}, "author": {}}, lambda messages: ('{"country": "De"}', Answering())
    )
    assert limit.names == ("where:country=DE", "where:country=de")


@pytest.mark.parametrize(("kind", "reply"), [("phrasings", "\n \n"), ("parts", QUESTION)])
def test_what_cannot_be_planned_is_sought_as_it_was_asked_and_says_so(
    pipeline: Pipeline, wire: Wire, kind: Any, reply: str
) -> None:
    replies(wire, reply or " ")
    found = pipeline.search(QUESTION, plan=kind)
    plain = pipeline.search(QUESTION, plan="none")
    assert found.plan and not found.plan.parts and found.plan.lines[0].startswith("Sought as it was asked: the chat model")
    assert found.candidates == plain.candidates and found.retrieval_score == plain.retrieval_score and plain.plan is None


def test_the_built_in_chat_model_plans_nothing(settings: Settings, corpus: Path) -> None:
    ingest_into(settings, corpus)
    with (
        Pipeline.open(settings.model_copy(update={"chat_url": "builtin", "chat_model": "", "plan": "parts"})) as pipeline,
        pytest.raises(SettingsError, match="the built-in chat model only quotes and cannot plan a question: set RAG_CHAT_URL"),
    ):
        pipeline.search(QUESTION)


def test_the_command_line_shows_the_plan(settings: Settings, corpus: Path, wire: Wire) -> None:
    ingest_into(settings, corpus)
    replies(wire, "Limit for a dinner\nMeals abroad")
    shown = run("search", QUESTION, "--plan", "phrasings").stdout
    assert f"Sought in several phrasings\n1. {QUESTION}\n2. Limit for a dinner\n3. Meals abroad" in shown
    found = json.loads(run("ask", QUESTION, "--plan", "phrasings", "--json").stdout)
    assert [part["question"] for part in found["plan"]["parts"]] == [QUESTION, "Limit for a dinner", "Meals abroad"]
    assert all(part["found"] for part in found["plan"]["parts"]) and found["ms"]["total"] >= found["plan"]["ms"]


@pytest.fixture
def editions(settings: Settings, tmp_path: Path) -> Settings:
    """A collection of two editions of a rule for two countries, with the fields year and country."""
    folder = tmp_path / "editions"
    folder.mkdir()
    for year in (2025, 2026):
        for country in ("DE", "fr"):
            front = json.dumps({"year": year, "country": country})
            (folder / f"{country}-{year}.md").write_text(f"---\n{front}\n---\nDinner costs up to {year - 2000} EUR.")
    own = settings.model_copy(update={"metadata": "year:int,country", "limit_by_question": True})
    ingest_into(own, folder)
    return own


@pytest.mark.parametrize(
    ("reply", "names", "found"),
    [
        ('{"year": "2025"}', ["where:year=2025"], {"DE-2025.md", "fr-2025.md"}),
        ('Sure:\n```json\n{"year": [2026], "country": "de"}\n```', ["where:year=2026", "where:country=DE"], {"DE-2026.md"}),
        ('{"year": ["2025", "1999"], "colour": "red", "country": null}', ["where:year=2025"], {"DE-2025.md", "fr-2025.md"}),
        ("{}", [], {"DE-2025.md", "fr-2025.md", "DE-2026.md", "fr-2026.md"}),
        ("I cannot say {that}.", [], {"DE-2025.md", "fr-2025.md", "DE-2026.md", "fr-2026.md"}),
        ("[1]", [], {"DE-2025.md", "fr-2025.md", "DE-2026.md", "fr-2026.md"}),
    ],
    ids=["one value", "two fields, in other letters", "what was made up", "nothing", "no JSON", "no object"],
)
def test_a_question_is_limited_to_what_the_model_reads_out_of_it(
    editions: Settings, wire: Wire, reply: str, names: list[str], found: set[str]
) -> None:
    asked = replies(wire, reply)
    with Pipeline.open(editions) as pipeline:
        search = pipeline.search("What does dinner cost?")
        assert search.limit and list(search.limit.names) == list(search.only) == names
        assert {c.document for c in search.candidates} == found and search.stages["limit"] == search.limit.ms
        assert asked == ["Question: What does dinner cost?"]
        assert search.limit.line.startswith("Searched only in" if names else "The chat model read no value of a field")
        # What is chosen counts, and is not asked for.
        chosen = pipeline.search("What does dinner cost?", only=["where:country=fr"])
        assert chosen.limit is None and chosen.only == ("where:country=fr",) and len(asked) == 1
        assert pipeline.search("What does dinner cost?", limit=False).only == ()


def test_the_model_is_told_the_fields_and_their_values(editions: Settings, wire: Wire) -> None:
    replies(wire, "{}")
    with Pipeline.open(editions) as pipeline:
        pipeline.search("What does dinner cost?")
    (body,) = [sent.body for sent in wire.sent if sent.path.endswith("/chat/completions")]
    assert '- country: ["DE", "fr"]\n- year: ["2025", "2026"]' in body["messages"][0]["content"]
