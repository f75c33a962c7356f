"""Settings: what they resolve to, and the one line that a wrong one gets."""

import os
from pathlib import Path

import pytest

from rag_app import builtin
from rag_app.endpoints.endpoint import openai_base, rerank_url
from rag_app.endpoints.failures import error_message
from rag_app.errors import SettingsError
from rag_app.settings import load_settings


def test_without_settings_the_built_in_models_serve_all_three_stages() -> None:
    settings = load_settings()
    assert [settings.endpoint(stage).builtin for stage in ("EMBEDDING", "RERANK", "CHAT")] == [True, True, True]  # type: ignore[arg-type]
    assert (settings.question_prefix, settings.passage_prefix) == builtin.PREFIXES[builtin.EMBEDDING_MODEL]


def test_a_chat_url_alone_leaves_embeddings_and_rerank_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_CHAT_URL", "http://localhost:11434/v1")
    monkeypatch.setenv("RAG_CHAT_MODEL", "llama")
    settings = load_settings()
    assert settings.endpoint("CHAT").url == "http://localhost:11434/v1"
    assert settings.endpoint("RERANK").builtin and settings.endpoint("EMBEDDING").builtin


def test_builtin_as_a_url_keeps_one_stage_built_in_beside_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_BASE_URL", "https://gateway.example/v1")
    monkeypatch.setenv("RAG_RERANK_URL", "builtin")
    assert load_settings().endpoint("RERANK").builtin


def test_settings_come_from_a_dotenv_file_too() -> None:
    Path(".env").write_text("RAG_N_CANDIDATES=44\nRAG_EMBEDDING_QUESTION_PREFIX='query: '\nRAG_BASE_URL=\n")
    settings = load_settings()
    assert (settings.n_candidates, settings.embedding_question_prefix) == (44, "query: ")


@pytest.mark.parametrize(
    ("rerank", "chat", "shown"),
    [
        ("https://a.example/v1", "https://a.example/v1", True),
        ("https://a.example/v1", "https://b.example/v1", False),
        ("https://a.example/v1", "http://a.example/v1", False),
        ("https://a.example/v1", "builtin", True),
    ],
    ids=["one server", "two servers", "in clear text", "one and the built-in"],
)
def test_without_a_base_url_the_common_key_goes_to_one_server_only(rerank: str, chat: str, shown: bool) -> None:
    settings = load_settings(api_key="sk-one", rerank_url=rerank, chat_url=chat, rerank_model="r", chat_model="")
    assert (settings.endpoint("RERANK").key.get_secret_value() == "sk-one") == shown


def test_the_common_key_is_not_shown_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BASE_URL": "https://one.example/v1",
        "API_KEY": "sk-one",
        "CHAT_URL": "https://two.example/v1",
    }.items():
        monkeypatch.setenv(f"RAG_{name}", value)
    monkeypatch.setenv("RAG_CHAT_MODEL", "c")
    monkeypatch.setenv("RAG_RERANK_MODEL", "r")
    settings = load_settings()
    assert settings.endpoint("CHAT").key.get_secret_value() == ""
    assert settings.endpoint("RERANK").key.get_secret_value() == "sk-one"


@pytest.mark.parametrize(
    ("pasted", "clean"),
    [("sk-1", "sk-1"), (" sk-1\n", "sk-1"), ("Bearer sk-1", "sk-1"), ("", "")],
    ids=["as it is", "with a newline", "with Bearer", "empty"],
)
def test_a_pasted_key_is_cleaned(pasted: str, clean: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_API_KEY", pasted)
    assert load_settings().api_key.get_secret_value() == clean


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RAG_RERNK_MODEL", "x", "RAG_RERNK_MODEL is not a setting: did you mean RAG_RERANK_MODEL?"),
        ("RAG_QUUX_ZZZZZZ", "x", "RAG_QUUX_ZZZZZZ is not a setting: see .env.example"),
        ("RAG_N_PASSAGES", "31", "RAG_N_PASSAGES (31) is above RAG_N_CANDIDATES (30)"),
        ("RAG_N_CANDIDATES", "many", "RAG_N_CANDIDATES: Input should be a valid integer"),
        ("RAG_BASE_URL", "api.example.com/v1", "RAG_BASE_URL: not a complete URL: write it with its scheme"),
        ("RAG_CHAT_URL", "https://:99999", "RAG_CHAT_URL: not a complete URL"),
        ("RAG_CHROMA_URL", "builtin", "RAG_CHROMA_URL: builtin is not allowed: leave it empty"),
        (
            "RAG_BASE_URL",
            "https://bob:schlüssel@a.example/v1",
            "RAG_BASE_URL: it has a user, password or query",
        ),
        ("RAG_CHROMA_PATH", "/etc/hostname", "RAG_CHROMA_PATH: /etc/hostname is a file: name a folder"),
        ("RAG_RERANK_PARAMETERS", "[1", "RAG_RERANK_PARAMETERS: not a JSON object: write it like"),
        ("RAG_RERANK_PARAMETERS", '{"query": 1}', "RAG_RERANK_PARAMETERS: query cannot be set here"),
        ("RAG_RERANK_DIALECT", "morse", "RAG_RERANK_DIALECT: Input should be 'auto'"),
        ("RAG_RERANK_AUTH", "x: y", "RAG_RERANK_AUTH: not a valid header name: use bearer, raw or"),
        ("RAG_COLLECTION", "!", "RAG_COLLECTION: not a valid collection name: use 3 to 492 letters"),
        ("RAG_API_KEY", "sk-schlüssel", "RAG_API_KEY: the key has characters that an HTTP header cannot carry"),
    ],
    ids=[
        "misspelt",
        "unknown",
        "more passages than candidates",
        "not a number",
        "no scheme",
        "bad port",
        "chroma builtin",
        "password in a URL",
        "a file for a folder",
        "not JSON",
        "a reserved parameter",
        "unknown dialect",
        "not a header",
        "collection name",
        "non-ASCII key",
    ],
)
def test_a_wrong_setting_gets_one_line(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value) and "schlüssel" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("RAG_COLLECTION mine", "line 1 of .env is not a setting: write NAME=value"),
        ("# fine\nRAG_COLLECTION", "line 2 of .env is not a setting: write NAME=value"),
        ("export RAG_COLLECTION", "line 1 of .env is not a setting: write NAME=value"),
        ("RAG_COLECTION=mine", "RAG_COLECTION is not a setting: did you mean RAG_COLLECTION?"),
        ("rag_colection=mine", "rag_colection is not a setting: did you mean RAG_COLLECTION?"),
    ],
)
def test_a_line_of_ours_in_a_dotenv_file_is_read_strictly(text: str, says: str) -> None:
    Path(".env").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert says in str(caught.value)


def test_names_of_other_programs_in_the_file_and_in_the_environment_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    others = "OPENAI_API_KEY=sk-other\nDATABASE_URL=postgres://x\nLOG_LEVEL=debug\nHTTP_PROXY=http://127.0.0.1:9\n"
    # Nearly ours, the name of a setting without its prefix, and lines that only others understand.
    Path(".env").write_text(others + "RA_COLLECTION=mine\nTITLE=theirs\nCOLLECTION\nsource other.env\nRAG_COLLECTION=ours\n")
    monkeypatch.setenv("RAGCOLLECTION", "mine")
    settings = load_settings()
    assert (settings.collection, settings.title, settings.log_level) == ("ours", "Ask the handbook", "warning")


@pytest.mark.parametrize(
    ("field", "in_file", "default"),
    [
        ("collection", "mine", "handbook"),
        ("n_passages", "7", 4),
        ("rerank_min_score", "0.5", None),
        ("rerank_parameters", "{}", {}),
    ],
)
def test_a_setting_that_is_empty_in_the_environment_is_not_set_whatever_the_file_says(
    field: str, in_file: str, default: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"RAG_{field.upper()}"
    Path(".env").write_text(f"{name}={in_file}\n")
    monkeypatch.setenv(name, "")
    settings = load_settings()
    assert getattr(settings, field) == default and field not in settings.model_fields_set


def test_an_option_that_is_empty_is_not_taken_for_one_that_is_not_given() -> None:
    with pytest.raises(SettingsError, match="RAG_COLLECTION: not a valid collection name"):
        load_settings(collection="")


def test_several_wrong_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_BASE_URL", "api.example.com")
    monkeypatch.setenv("RAG_RERANK_AUTH", "x: y")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.happened == "RAG_BASE_URL: not a complete URL; RAG_RERANK_AUTH: not a valid header name"
    assert caught.value.remedy.startswith("write it with its scheme, such as https://api.example.com/v1; use bearer")


def test_settings_for_another_collection_are_the_same_but_for_its_name() -> None:
    settings = load_settings(n_candidates=44)
    assert settings.with_collection("mine") == load_settings(n_candidates=44, collection="mine")
    with pytest.raises(SettingsError, match="RAG_COLLECTION: not a valid collection name"):
        settings.with_collection("!")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_dotenv_file_of_another_encoding_is_told_and_a_bom_is_not_minded(encoding: str) -> None:
    Path(".env").write_bytes("RAG_COLLECTION=mine".encode(encoding))
    if encoding == "utf-16":
        with pytest.raises(SettingsError, match="save it as UTF-8"):
            load_settings()
    else:
        assert load_settings().collection == "mine"


def test_the_environment_is_read_and_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("RAG_COLLECTION=mine\nHTTP_PROXY=http://127.0.0.1:9\n")
    before = dict(os.environ)
    load_settings()
    assert dict(os.environ) == before


def test_a_model_without_a_name_is_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_BASE_URL", "https://gateway.example/v1")
    with pytest.raises(SettingsError, match="RAG_CHAT_MODEL is not set"):
        load_settings().endpoint("CHAT")


def test_counts_outside_the_advised_range_are_commented_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_N_CANDIDATES", "10")
    monkeypatch.setenv("RAG_N_PASSAGES", "8")
    assert [line.split(":")[0] for line in load_settings().advice()] == ["10 candidates", "8 passages"]


@pytest.mark.parametrize(
    ("given", "base", "rerank"),
    [
        ("https://a.example", "https://a.example/v1", "https://a.example/v1/rerank"),
        ("https://a.example/v1/", "https://a.example/v1", "https://a.example/v1/rerank"),
        ("https://a.example/v1/chat/completions", "https://a.example/v1", "https://a.example/v1/rerank"),
        ("https://a.example/v1/v1", "https://a.example/v1", "https://a.example/v1/rerank"),
        ("https://a.example/api/v1", "https://a.example/api/v1", "https://a.example/api/v1/rerank"),
        ("https://a.example/v1beta/openai", "https://a.example/v1beta/openai", "https://a.example/v1beta/openai/rerank"),
        # As Databricks, GitHub Models, Open WebUI and Azure write them: nothing is added but the call.
        (
            "https://a.example/serving-endpoints",
            "https://a.example/serving-endpoints",
            "https://a.example/serving-endpoints/rerank",
        ),
        ("https://a.example/api/chat/completions", "https://a.example/api", "https://a.example/api/rerank"),
        (
            "https://a.example/openai/deployments/m?api-version=1",
            "https://a.example/openai/deployments/m?api-version=1",
            "https://a.example/openai/deployments/m/rerank?api-version=1",
        ),
    ],
)
def test_base_urls_are_completed(given: str, base: str, rerank: str) -> None:
    assert openai_base(given) == base
    assert rerank_url(given) == rerank


@pytest.mark.parametrize("ending", ["/v1/rerank", "/rerank", "/api/v1/rerank", "/compatible-api/v1/reranks", "/v1/ranking"])
def test_a_published_rerank_url_is_used_as_it_stands(ending: str) -> None:
    assert rerank_url(f"https://a.example{ending}") == f"https://a.example{ending}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no such model", "code": "model_not_found"}}', "no such model (model_not_found)"),
        (b'{"error": "overloaded", "error_type": "Overloaded"}', "overloaded"),
        (b'{"detail": [{"msg": "field required"}, {"msg": "too long"}]}', "field required; too long"),
        (b'{"success": false, "code": "500", "message": "bad\\nday"}', "bad day"),
        (b"<html><body>login</body></html>", "a web page instead of JSON"),
        (b"x" * 900, "x" * 300),
        (b"", ""),
    ],
    ids=["openai", "tei", "fastapi", "envelope", "html", "text", "empty"],
)
def test_an_error_body_of_any_shape_becomes_one_line(body: bytes, message: str) -> None:
    assert error_message(body) == message
