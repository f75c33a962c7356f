"""The documentation against the program: links, paths, settings, commands, Python and diffs that it shows."""

import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from dotenv.parser import parse_stream
from typer.testing import CliRunner

from rag_app.cli.app import app
from rag_app.settings import PREFIX, Settings
from tests.helpers import ROOT
from tests.wire import Wire

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
# What these folders hold by the time the program has run is not in the repository.
MADE = ("data/chroma", "data/runs", "data/feedback", "data/uploads", "data/lexical")
BLOCK = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> list[Any]:
    """Return the code blocks in these languages, each under the name of its page and its number there."""
    found = []
    for page in PAGES:
        matching = [text for language, text in BLOCK.findall(page.read_text("utf-8")) if language in languages]
        found += [pytest.param(text, id=f"{page.name} {n}") for n, text in enumerate(matching, 1)]
    return found


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return BLOCK.sub("", page.read_text("utf-8"))


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def invocations(text: str) -> list[list[str]]:
    """Return the `rag-app …` calls of a shell block as words, without comments, redirections and what follows a `;` or `|`."""
    found = []
    for line in text.splitlines():
        for part in re.split(r"[;|]|&&", re.sub(r"(^|\s)#.*", "", line)):
            words = shlex.split(re.split(r"\s>", part)[0]) if "rag-app" in part else []
            if "rag-app" in words:
                found.append(words[words.index("rag-app") + 1 :])
    return found


def wrong_with(words: list[str]) -> str:
    """Return what the program would refuse in a call, or ""; nothing is run."""
    if not words or words[0] not in (known := commands()):
        return f"no command {words[:1]}"
    command = known[words[0]]
    try:
        command.make_context(words[0], words[1:], resilient_parsing=False)
    except (click.ClickException, typer.BadParameter) as error:
        return str(error)
    return ""


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 800


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_image_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    relative = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in relative if not (page.parent / link).exists()] == []


def test_every_page_of_the_docs_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", (ROOT / "README.md").read_text("utf-8")))
    assert linked == {str(page.relative_to(ROOT)) for page in PAGES[1:]}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_backticks_exists(page: Path) -> None:
    quoted = re.findall(r"`([^`\n]+)`", prose(page))
    # Also within a command, as in `python benchmarks/page.py`.
    paths = [
        word for text in quoted for word in text.split() if re.match(r"(rag_app|ingest|tests|benchmarks|data|docs)/", word)
    ]
    assert [path for path in paths if not path.startswith(MADE) and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("text", blocks("dotenv", "env"))
def test_every_block_of_settings_names_settings_only(text: str) -> None:
    bindings = [binding for binding in parse_stream(io.StringIO(text)) if binding.original.string.strip()]
    assert bindings and not [binding.original.string for binding in bindings if binding.error or binding.value is None]
    assert {binding.key for binding in bindings} <= SETTINGS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_in_the_text_is_one(page: Path) -> None:
    # RAG_PRICE_… stands for several.
    named = set(re.findall(r"\bRAG_[A-Z_]+\b(?!…)", prose(page)))
    assert {name for name in named if name not in SETTINGS} == set()


@pytest.mark.parametrize("text", blocks("python"))
def test_every_block_of_python_compiles(text: str) -> None:
    compile(text, "block", "exec")


def test_the_python_example_answers(settings: Settings, corpus: Path, wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    assert CliRunner().invoke(app, ["ingest", "docs"]).exit_code == 0
    [example] = [
        text for language, text in BLOCK.findall((ROOT / "docs" / "python.md").read_text("utf-8")) if language == "python"
    ]
    exec(compile(example, "docs/python.md", "exec"), {"__name__": "example"})  # noqa: S102
    answer, receipt, *candidates = capsys.readouterr().out.splitlines()
    assert answer == "It is so [1]."
    assert receipt.startswith("rerank applied · rr at ")
    # The scripted reranker counts shared words: this document's chunk on dinner has dinner, in and france.
    assert candidates[0].startswith("1 ") and candidates[0].endswith(" policies/travel.md") and len(candidates) == 5
    assert wire.count("/chat/completions") == 1


@pytest.mark.parametrize("text", blocks("sh", "console"))
def test_every_command_in_a_block_is_one_with_its_options(text: str) -> None:
    assert [(words, wrong) for words in invocations(text) if (wrong := wrong_with(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_text_is_one(page: Path) -> None:
    named = set(re.findall(r"`rag-app ([a-z]+)", prose(page)))
    assert named <= set(commands())


@pytest.mark.skipif(not shutil.which("git"), reason="git, which applies the diffs, is not here")
@pytest.mark.parametrize("text", blocks("diff"))
def test_every_diff_applies(text: str) -> None:
    def applies(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "apply", "--check", *options, "-"]
        return subprocess.run(command, input=text, cwd=ROOT, capture_output=True, text=True, check=False)

    # Or has been applied, in a fork that took it.
    assert (done := applies()).returncode == 0 or applies("--reverse").returncode == 0, done.stderr
