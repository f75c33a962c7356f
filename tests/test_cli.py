"""The command line: the JSON that later tools rely on, and one line for everything that goes wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from rag_app.cli.app import app
from rag_app.cli.terminal import printable, w
from rag_app.settings import Settings
from tests.helpers import command, environment, ingest_into, run
from tests.wire import Reply, Wire, chat, embeddings, events


@pytest.fixture
def ingested(settings: Settings, corpus: Path) -> Path:
    assert run("ingest", "docs").exit_code == 0
    return corpus


def test_ingest_json_is_the_contract(settings: Settings, corpus: Path) -> None:
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    result = run("ingest", "docs", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert {name: report["documents"][name] for name in ("added", "changed", "unchanged", "removed")} == {
        "added": 3,
        "changed": 0,
        "unchanged": 0,
        "removed": 0,
    }
    assert [failure["path"] for failure in report["documents"]["failed"]] == ["broken.pdf"]
    assert "not a readable PDF" in report["documents"]["failed"][0]["reason"]
    assert report["chunks"] == {"embedded": 5, "stored": 5, "deleted": 0}
    assert report["embedding_requests"] == 1 and report["seconds"] > 0


def test_search_json_is_the_contract(ingested: Path, wire: Wire) -> None:
    result = run("search", "dinner in France", "--json", "--candidates", "4", "--passages", "2")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["question"] == "dinner in France" and len(found["candidates"]) == 4
    first = found["candidates"][0]
    assert {"id", "document", "title", "text", "retrieval", "rerank", "passage", "passage_without_rerank"} <= set(first)
    assert set(first["retrieval"]) == set(first["rerank"]) == {"rank", "score"}
    assert sum(c["passage"] for c in found["candidates"]) == 2
    assert {"status", "model", "endpoint", "sent", "scored", "reason", "ms"} <= set(found["rerank"])
    assert (found["rerank"]["status"], found["rerank"]["model"]) == ("applied", "rr")
    assert set(found["ms"]) == {"embed", "retrieve", "rerank", "total"}
    assert wire.count("/chat/completions") == 0


def test_search_json_without_rerank_says_skipped_and_null(ingested: Path) -> None:
    found = json.loads(run("search", "dinner", "--no-rerank", "--json").stdout)
    assert found["rerank"]["status"] == "skipped"
    assert all(candidate["rerank"] is None for candidate in found["candidates"])


def test_ask_json_is_the_contract(ingested: Path) -> None:
    result = run("ask", "dinner in France", "--json")
    asked = json.loads(result.stdout)
    assert set(asked["answer"]) >= {"text", "citations", "finish"}
    assert asked["answer"]["text"] == "It is so [1]." and asked["answer"]["finish"] == "stop"
    assert set(asked["answer"]["citations"][0]) == {"marker", "id", "document"}
    assert {"embed", "retrieve", "rerank", "total", "first_token", "chat"} == set(asked["ms"])
    assert asked["candidates"] and asked["rerank"]["status"] == "applied"


def test_only_json_goes_to_stdout_and_notices_to_stderr(ingested: Path) -> None:
    result = run("ask", "dinner", "--json", "--candidates", "5", "--passages", "2")
    assert json.loads(result.stdout)
    assert "5 candidates: fewer than 20" in result.stderr and "2 passages: fewer than 3" in result.stderr


def test_ask_shows_the_ranking_then_the_answer_then_its_sources(ingested: Path, wire: Wire) -> None:
    wire.on("/chat/completions", lambda body: chat("32 EUR [1], surely [8]."))
    text = run("ask", "dinner in France").stdout
    order = ["Reranking ", "after", "policies/travel.md › Dinner", "rerank applied · rr at", "5 of 5 scored"]
    order += ["32 EUR [1], surely.", "[1] policies/travel.md › Dinner", "Removed citation [8]", "embed "]
    at = [text.index(part, 0 if i == 0 else text.index(order[i - 1]) + 1) for i, part in enumerate(order)]
    assert at == sorted(at)


def test_the_ranking_is_printed_while_the_model_thinks(ingested: Path, wire: Wire) -> None:
    seen = threading.Event()

    def thinking() -> Iterator[bytes]:
        assert seen.wait(60)
        yield events("32 EUR [1].")

    wire.on("/chat/completions", lambda body: Reply(parts=thinking(), kind="text/event-stream"))
    with command("ask", "dinner in France") as asking:
        assert asking.stdout
        printed = ""
        while "5 of 5 scored" not in printed:
            line = asking.stdout.readline()
            assert line, "it ended without a ranking"
            printed += line
        assert "32 EUR" not in printed
        seen.set()
        assert "32 EUR [1]." in asking.stdout.read()
    assert asking.returncode == 0


def test_a_failed_rerank_is_loud_and_the_question_still_answered(ingested: Path, wire: Wire) -> None:
    wire.on("/rerank", lambda body: Reply({"message": "quota used up"}, 402))
    result = run("ask", "dinner in France")
    assert result.exit_code == 0
    assert "RERANK FAILED, retrieval order used: rerank (rr at" in result.stdout and "quota used up" in result.stdout


def test_a_dead_chat_model_still_gives_the_rankings_in_json(ingested: Path, wire: Wire) -> None:
    wire.on("/chat/completions", lambda body: Reply({"error": "down"}, 400))
    result = run("ask", "dinner in France", "--json")
    assert result.exit_code == 1 and "error: chat (chat at" in result.stderr
    found = json.loads(result.stdout)
    assert len(found["candidates"]) == 5 and "answer" not in found
    assert found["error"].startswith("chat (chat at")


class TestLanguage:
    def test_the_terminal_speaks_the_language_of_its_environment(self, ingested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LANG", "zh_CN.UTF-8")
        text = run("search", "dinner in France").stdout
        assert "融合得分" in text and "重排得分" in text and "fused" not in text
        found = json.loads(run("search", "dinner in France", "--json").stdout)
        assert found["retrieval_score"] == {"name": "fused score", "format": ".3f"}

    @pytest.mark.parametrize(
        ("env", "language"),
        [
            ({"LANG": "zh_CN.UTF-8"}, "zh"),
            ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
            ({"LC_MESSAGES": "en_US.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
            ({"LANG": "en_US.UTF-8", "LANGUAGE": "tlh:zh"}, "zh"),
            ({"LC_ALL": "C", "LANGUAGE": "zh"}, "en"),
            ({"LANG": "POSIX"}, "en"),
        ],
        ids=["LANG", "LC_MESSAGES first", "LC_ALL first", "LANGUAGE is a list", "C", "POSIX"],
    )
    def test_the_order_is_that_of_gettext(self, env: dict[str, str], language: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        assert w().language == language

    def test_english_does_without_babel(self) -> None:
        code = "import sys; from rag_app.cli.terminal import printable as p; from rag_app.words import msg; "
        code += "print(p(msg('{n:,}', n=1000)), 'babel' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
        assert done.stdout == "1,000 False\n"


def test_an_error_is_a_record_on_stdout_with_json(settings: Settings) -> None:
    result = run("ingest", "", "--json")
    assert result.exit_code == 2 and "error: a path is empty: give a folder" in result.stderr
    assert json.loads(result.stdout) == {
        "error": "a path is empty",
        "remedy": "give a folder, or . for the current one",
        "values": {},
    }


def test_json_holds_text_as_it_is(settings: Settings, corpus: Path) -> None:
    (corpus / "signs.md").write_text("Signs :100: [bold]and[/bold] :key: \U0001f600 dinner")
    assert run("ingest", "docs").exit_code == 0
    texts = [c["text"] for c in json.loads(run("search", "signs", "--json").stdout)["candidates"]]
    assert "Signs :100: [bold]and[/bold] :key: \U0001f600 dinner" in texts


def test_reindex_replaces_the_collection_under_another_model(ingested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDDING_MODEL", "other")
    refused = run("ingest", "docs")
    assert refused.exit_code == 1 and "made with embedding model 'emb', not 'other'" in refused.stderr
    assert run("reindex").exit_code == 0
    assert json.loads(run("search", "dinner", "--json").stdout)["candidates"]


def test_a_dry_run_prints_the_plan_and_makes_nothing(settings: Settings, corpus: Path, wire: Wire) -> None:
    result = run("ingest", "docs", "--dry-run")
    assert "+ policies/travel.md" in result.stdout and "3 added, 0 changed" in result.stdout
    assert not Path("data").exists() and wire.sent == []
    assert json.loads(run("ingest", "docs", "--dry-run", "--json").stdout)["added"] == [
        "notes.txt",
        "parking.html",
        "policies/travel.md",
    ]


def test_documents_are_listed_forgotten_and_reset(ingested: Path) -> None:
    listed = json.loads(run("documents", "--json").stdout)
    assert [(d["document"], d["chunks"], d["language"], d["whole"]) for d in listed["documents"]] == [
        ("notes.txt", 1, "en", True),
        ("parking.html", 1, "en", True),
        ("policies/travel.md", 3, "en", True),
    ]
    assert listed["recipe"]["embedding_model"] == "emb" and listed["recipe"]["chunk_size"] == "1000"
    table = run("documents").stdout
    assert "policies/travel.md" in table and "3 documents, 5 chunks in handbook" in table
    assert "forgotten: policies/travel.md (3 chunks)" in run("forget", "policies").stdout
    assert run("forget", "policies").exit_code == 1
    kept = CliRunner().invoke(app, ["reset"], input="n\n")
    assert kept.exit_code == 1 and "nothing was deleted" in kept.stderr
    assert "handbook is deleted: 2 chunks" in run("reset", "--yes").stdout
    assert "is empty" in run("search", "dinner").stderr


def test_watch_ingests_what_changes_until_it_is_ended(settings: Settings, corpus: Path, wire: Wire) -> None:
    with command("ingest", "docs", "--watch", "--json") as process:
        try:
            assert process.stdout and process.stderr
            while "watching docs" not in process.stderr.readline():
                assert process.poll() is None
            time.sleep(0.5)
            (corpus / "more.md").write_text("More text.")
            deadline = time.monotonic() + 30
            while not any("More text." in text for request in wire.sent for text in request.body.get("input", [])):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        finally:
            # Else a failure would wait for it for ever.
            process.kill()
    assert process.returncode == 130


@pytest.mark.parametrize(
    "arg", ["--help", "--version", *(f"{name} --help" for name in ("ingest", "reindex", "forget", "ask", "search", "gateway"))]
)
def test_help_teaches_without_settings_being_right(arg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_NONSENSE", "x")
    result = run(*arg.split())
    assert result.exit_code == 0 and result.stdout.strip()


class TestWrongInput:
    """Each: one line on stderr, the right exit code, no traceback, nothing lost."""

    def fails(self, result: Any, code: int, *says: str) -> None:
        assert result.exit_code == code
        lines = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith("note:")]
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in result.output
        for part in says:
            assert part in errors[0]
        assert "sk-secret" not in result.output

    def test_an_empty_path(self, settings: Settings) -> None:
        result = run("ingest", "")
        assert result.exit_code == 2 and "a path is empty" in result.stderr

    def test_no_such_path(self, settings: Settings) -> None:
        self.fails(run("ingest", "nowhere"), 1, "no such file or folder: nowhere")

    def test_an_empty_folder(self, ingested: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        self.fails(run("ingest", "empty"), 1, "/empty: put files there")
        for path in ingested.rglob("*.*"):
            path.unlink()
        self.fails(run("ingest", "docs"), 1, "nothing is left to read in", "--force")
        assert len(json.loads(run("search", "dinner", "--json").stdout)["candidates"]) == 5

    def test_an_empty_collection(self, settings: Settings) -> None:
        self.fails(run("ask", "q"), 1, "is empty: run `rag-app ingest PATH` first")
        assert not Path("data").exists()

    def test_an_endpoint_that_is_down(self, ingested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAG_EMBEDDING_URL", "http://127.0.0.1:9/v1")
        self.fails(
            run("ask", "q"), 1, "embeddings (emb at http://127.0.0.1:9/v1): cannot be reached", "check RAG_EMBEDDING_URL"
        )

    def test_a_wrong_key(self, ingested: Path, wire: Wire) -> None:
        wire.on("/embeddings", lambda body: Reply({"error": {"message": "Invalid token"}}, 401))
        self.fails(run("ask", "q"), 1, "401 Unauthorized: Invalid token; check RAG_EMBEDDING_API_KEY or RAG_API_KEY")

    def test_an_unknown_model(self, ingested: Path, wire: Wire) -> None:
        wire.on("/chat/completions", lambda body: Reply({"error": {"message": "model not found"}}, 404))
        result = run("ask", "dinner")
        self.fails(result, 1, "chat (chat at", "check RAG_CHAT_MODEL")
        assert "policies/travel.md" in result.stdout

    def test_an_answer_that_is_not_json(self, ingested: Path, wire: Wire) -> None:
        wire.on("/embeddings", lambda body: Reply(b"<html>", kind="text/html"))
        self.fails(
            run("search", "q"), 1, "the reply is not JSON but text/html: a web page instead of JSON", "check RAG_EMBEDDING_URL"
        )

    def test_a_misspelt_setting(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAG_RERANKMODEL", "x")
        self.fails(run("ask", "q"), 2, "did you mean RAG_RERANK_MODEL?")

    def test_more_passages_than_candidates(self, ingested: Path) -> None:
        self.fails(
            run("ask", "q", "--passages", "9", "--candidates", "8"), 2, "RAG_N_PASSAGES (9) is above RAG_N_CANDIDATES (8)"
        )

    def test_an_address_without_a_scheme(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAG_BASE_URL", "localhost:8000")
        self.fails(run("ask", "q"), 2, "RAG_BASE_URL: not a complete URL")

    def test_a_dotenv_that_is_not_text(self, settings: Settings) -> None:
        Path(".env").write_bytes(b"\xff\xfeR\x00")
        self.fails(run("ask", "q"), 2, ".env cannot be read")


@pytest.mark.parametrize("folder", [Path("docs/locked"), Path("docs")], ids=["below", "itself"])
def test_an_unreadable_folder_is_named(settings: Settings, corpus: Path, folder: Path) -> None:
    if folder.name == "locked":
        folder.mkdir()
    folder.chmod(0)
    try:
        if os.access(folder, os.R_OK):
            pytest.skip("this user may read everything")
        result = run("ingest", "docs")
        assert result.exit_code == 1 and "cannot be read" in result.stderr
    finally:
        folder.chmod(0o755)


def test_ctrl_c_during_ingest_says_so_and_the_next_run_completes_it(settings: Settings, corpus: Path, wire: Wire) -> None:
    for i in range(40):
        (corpus / f"f{i}.txt").write_text(f"Text of file {i}.")

    def slow(body: Any) -> Reply:
        time.sleep(0.3)
        return embeddings(body)

    wire.on("/embeddings", slow)
    with command("ingest", "docs", RAG_EMBEDDING_BATCH_SIZE="1", RAG_EMBEDDING_CONCURRENCY="2") as process:
        deadline = time.monotonic() + 60
        while wire.count("/embeddings") < 8 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert (
        process.returncode == 130
        and "interrupted: nothing was left half-written; run the same" in stderr
        and "Traceback" not in stderr
    )
    wire.on("/embeddings", embeddings)
    report = json.loads(run("ingest", "docs", "--json").stdout)
    assert report["chunks"]["stored"] == 45 and 0 < report["chunks"]["embedded"] < 45


def test_a_full_disk_is_named_and_the_next_run_completes_the_work(settings: Settings, corpus: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        for i in range(400):
            (corpus / f"f{i}.txt").write_text(f"Text of file {i}. " + "More of it. " * 70)
        env = {"RAG_CHROMA_PATH": str(small / "chroma")}
        with command("ingest", "docs", **env) as process:
            _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1 and "Traceback" not in stderr
        assert "its disk has only" in stderr and "free some space and run the same command again" in stderr
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        with command("ingest", "docs", "--json", **env) as process:
            stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert json.loads(stdout)["chunks"]["stored"] == 405, stderr
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def test_python_m_ingest_is_the_same_command(settings: Settings, corpus: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "docs", "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["documents"]["added"] == 3


def test_a_document_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[31mb\u202ec\u00a0d\ne") == "a[31mbc d\ne"


def test_the_gateway_runs_alone_and_serves_another_process() -> None:
    with command("gateway", "--port", "0") as process:
        assert process.stdout
        assert process.stdout.readline().startswith("built-in models at http://127.0.0.1:")
        settings = dict(process.stdout.readline().strip().split("=", 1) for _ in range(4))
        listed = httpx.get(f"{settings['RAG_BASE_URL']}/models").json()["data"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert {model["id"] for model in listed} >= {settings[f"RAG_{name}_MODEL"] for name in ("EMBEDDING", "RERANK", "CHAT")}


def test_what_an_endpoint_says_does_not_drive_the_terminal(settings: Settings, corpus: Path, wire: Wire) -> None:
    ingest_into(settings, corpus)
    hostile = "\x1b[31mred\x9b2J\u202eback\u2028"
    wire.on("/rerank", lambda body: Reply({"error": {"message": hostile}}, 400))
    wire.on("/chat/completions", lambda body: chat(f"So {hostile} [1]."))
    for options in ([], ["--json"]):
        shown = command("ask", "dinner", *options)
        stdout, stderr = shown.communicate()
        assert not [c for c in stdout + stderr if not c.isprintable() and c not in "\n\t"]
        assert "RERANK FAILED" in stderr + stdout
    assert json.loads(stdout)["answer"]["text"] == f"So {hostile} [1]."
