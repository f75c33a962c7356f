"""Uploads and the runs that the page starts: safe names, limits, zips, jobs that go on by themselves."""

import io
import stat
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest import jobs, uploads
from ingest.jobs import Job, Jobs
from ingest.lock import collection_lock
from rag_app.errors import RagError
from rag_app.settings import Settings, load_settings
from rag_app.store.opening import open_store
from rag_app.store.stored import StoredDocument
from tests.wire import Reply, Wire, embeddings


def zipped(files: dict[str, bytes]) -> io.BytesIO:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return content


def names(settings: Settings) -> list[str]:
    folder = uploads.root(settings)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestSafeNames:
    @pytest.mark.parametrize(
        ("name", "safe"),
        [
            ("notes.txt", "notes.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\x\\plan.docx", "plan.docx"),
            ("/etc/cron.d/job", "job"),
            (".env", "env"),
            ("...", "unnamed"),
            ("", "unnamed"),
            ("a\x00b\n.md", "ab.md"),
            ("invoice\u202egnp.exe", "invoicegnp.exe"),
            ('a<b>:"|?*.md', "a_b______.md"),
            ("con.txt", "_con.txt"),
            ("预算 2026.pdf", "预算 2026.pdf"),
            ("trailing. . ", "trailing"),
        ],
    )
    def test_a_name_becomes_one_that_is_safe(self, name: str, safe: str) -> None:
        assert uploads.safe_name(name) == safe

    def test_a_long_name_keeps_its_ending_and_fits(self) -> None:
        safe = uploads.safe_name("文" * 200 + ".pdf")
        assert safe.endswith(".pdf") and len(safe.encode()) <= uploads.MAX_NAME


class TestReceive:
    def test_files_land_in_a_folder_of_their_own_whole(self, settings: Settings) -> None:
        received = uploads.receive(settings, [("../a.md", io.BytesIO(b"# A")), ("b.md", io.BytesIO(b"# B"))])
        assert names(settings) == ["uploads/a.md", "uploads/b.md"] and not received.refused
        assert [path.read_bytes() for path in received.kept] == [b"# A", b"# B"]

    def test_of_two_of_one_name_in_one_upload_neither_is_lost(self, settings: Settings) -> None:
        uploads.receive(settings, [("a.md", io.BytesIO(b"1")), ("x/a.md", io.BytesIO(b"2"))])
        assert names(settings) == ["uploads/a (2).md", "uploads/a.md"]
        # Uploaded again, it is the same document.
        uploads.receive(settings, [("a.md", io.BytesIO(b"3"))])
        assert (uploads.root(settings) / "uploads" / "a.md").read_bytes() == b"3" and len(names(settings)) == 2

    def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(self, settings: Settings) -> None:
        small = settings.model_copy(update={"upload_mb": 1})
        received = uploads.receive(small, [("big.txt", io.BytesIO(b"x" * 1_000_001)), ("ok.txt", io.BytesIO(b"x" * 1_000_000))])
        assert names(small) == ["uploads/ok.txt"]
        assert [(failure.path, "more than 1 MB" in failure.reason) for failure in received.refused] == [("big.txt", True)]

    def test_a_zip_is_unpacked_into_a_folder_of_its_name(self, settings: Settings) -> None:
        content = zipped({"a/one.md": b"1", "two.md": b"2", ".hidden": b"", "__MACOSX/a": b"", "a/.DS_Store": b""})
        assert not uploads.receive(settings, [("pack.zip", content)]).refused
        assert names(settings) == ["uploads/pack/a/one.md", "uploads/pack/two.md"]

    @pytest.mark.parametrize("path", ["../evil.md", "/etc/evil.md", "a/../../evil.md", "C:/evil.md", "..\\evil.md"])
    def test_a_path_that_leads_out_of_its_zip_is_refused(self, settings: Settings, path: str) -> None:
        received = uploads.receive(settings, [("pack.zip", zipped({path: b"x", "good.md": b"y"}))])
        assert names(settings) == ["uploads/pack/good.md"]
        assert [failure.reason for failure in received.refused] == ["its path points outside the ZIP"]

    def test_a_link_in_a_zip_is_refused(self, settings: Settings) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            link = zipfile.ZipInfo("link.md")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
        received = uploads.receive(settings, [("pack.zip", content)])
        assert names(settings) == [] and [failure.reason for failure in received.refused] == ["it is a link"]

    def test_a_bomb_stops_at_its_limit_whatever_its_header_says(self, settings: Settings) -> None:
        small = settings.model_copy(update={"upload_mb": 1})
        content = zipped({f"{n:02}.txt": b"\0" * 900_000 for n in range(15)} | {"99.txt": b"\0" * 5_000_000})
        received = uploads.receive(small, [("bomb.zip", content)])
        # 12 of 0.9 MB are the first to cross ten times the limit of one file; what follows is refused unread.
        assert len(names(small)) == 12 and len(received.refused) == 4
        assert "more than 10 MB" in received.refused[0].reason

    def test_members_that_lie_about_their_size_use_up_the_limit_too(self, settings: Settings) -> None:
        small = settings.model_copy(update={"upload_mb": 1})
        body = bytearray(zipped({f"{n:02}.txt": b"\0" * 2_000_000 for n in range(40)}).getvalue())
        # In the directory each says that it has ten bytes.
        at = 0
        while (at := body.find(b"PK\x01\x02", at)) >= 0:
            body[at + 24 : at + 28] = (10).to_bytes(4, "little")
            at += 4
        received = uploads.receive(small, [("liar.zip", io.BytesIO(bytes(body)))])
        assert names(small) == [] or sum(p.stat().st_size for p in uploads.root(small).rglob("*") if p.is_file()) < 1_000_000
        assert len(received.refused) + len(names(small)) == 40

    def test_too_many_files_and_too_deep_ones_are_refused(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uploads, "MAX_FILES", 3)
        received = uploads.receive(settings, [("many.zip", zipped({f"{n}.md": b"x" for n in range(4)}))])
        assert "more than 3 files" in received.refused[0].reason and names(settings) == []
        received = uploads.receive(settings, [("deep.zip", zipped({"a/" * 8 + "x.md": b"x"}))])
        assert "folders deep" in received.refused[0].reason

    def test_a_broken_member_is_refused_and_the_others_kept(self, settings: Settings) -> None:
        content = zipped({"a.md": b"good" * 100, "b.md": b"bad" * 100})
        body = bytearray(content.getvalue())
        at = body.rindex(b"b.md", 0, body.index(b"PK\x01\x02")) + 4
        body[at : at + 6] = b"\xff" * 6
        received = uploads.receive(settings, [("pack.zip", io.BytesIO(bytes(body)))])
        assert names(settings) == ["uploads/pack/a.md"] and "cannot be unpacked" in received.refused[0].reason

    @pytest.mark.parametrize(
        ("encoding", "member"),
        [
            ("gb18030", "制度/报告.md"),
            ("utf-8", "制度/报告.md"),
            ("big5", "制度/報告.md"),
            ("cp932", "規程/カタログ.md"),
            ("cp949", "여행 정책/회의록과 보고서.md"),
            ("cp850", "Größe/Übersicht.md"),
        ],
    )
    def test_names_in_a_zip_are_read_in_the_encoding_of_the_windows_that_wrote_it(
        self, settings: Settings, encoding: str, member: str
    ) -> None:
        # Python writes the name as it stands if it is bytes of the old encoding, and no mark of UTF-8.
        raw = member.encode(encoding)
        body = zipped({"x" * len(raw): b"text"}).getvalue().replace(b"x" * len(raw), raw)
        received = uploads.receive(settings, [("pack.zip", io.BytesIO(body))])
        assert not received.refused and names(settings) == [f"uploads/pack/{member}"]

    def test_a_zip_that_says_how_its_names_are_written_is_believed(self, settings: Settings) -> None:
        received = uploads.receive(settings, [("pack.zip", zipped({"Größe.md": b"1", "报告.md": b"2"}))])
        assert not received.refused and names(settings) == ["uploads/pack/Größe.md", "uploads/pack/报告.md"]
        received = uploads.receive(settings, [("odd.zip", zipped({"a.md": b"1", "b\nc.md": b"2"})), ("none.zip", zipped({}))])
        assert [(one.path, one.reason) for one in received.refused] == [("none.zip", "it holds no files")]
        assert "uploads/odd/a.md" in names(settings) and "uploads/odd/bc.md" in names(settings)

    def test_a_zip_in_a_zip_is_unpacked_into_its_own_folder(self, settings: Settings) -> None:
        inner = zipped({"a.md": b"1", "deeper.zip": zipped({"b.md": b"2"}).getvalue(), "no.zip": b"not one"}).getvalue()
        received = uploads.receive(settings, [("pack.zip", zipped({"sub/inner.zip": inner, "c.md": b"3"}))])
        assert not received.refused
        found = ["uploads/pack/c.md", "uploads/pack/sub/inner/a.md", "uploads/pack/sub/inner/deeper/b.md"]
        assert names(settings) == [*found, "uploads/pack/sub/inner/no.zip"]

    def test_zips_in_zips_share_the_limits_of_the_outermost(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        small = settings.model_copy(update={"upload_mb": 1})
        inner = {f"{n:02}.zip": zipped({f"{m}.txt": b"\0" * 900_000 for m in range(5)}).getvalue() for n in range(5)}
        received = uploads.receive(small, [("bomb.zip", zipped(inner))])
        assert len(names(small)) == 12 and "more than 10 MB" in received.refused[0].reason
        monkeypatch.setattr(uploads, "MAX_FILES", 8)
        received = uploads.receive(small, [("many.zip", zipped(inner))])
        assert "more than 8 files" in received.refused[0].reason
        monkeypatch.undo()
        deep = zipped({"x.md": b"x"})
        for _ in range(10):
            deep = zipped({"z.zip": deep.getvalue()})
        received = uploads.receive(small, [("deep.zip", deep)])
        assert "folders deep" in received.refused[0].reason

    def test_an_office_file_is_no_zip_to_unpack(self, settings: Settings) -> None:
        uploads.receive(settings, [("plan.docx", zipped({"word/document.xml": b"<x/>"}))])
        assert names(settings) == ["uploads/plan.docx"]

    def test_removing_an_upload_takes_its_empty_folders_and_nothing_else(self, settings: Settings, corpus: Path) -> None:
        uploads.receive(settings, [("pack.zip", zipped({"a/one.md": b"1"})), ("two.md", io.BytesIO(b"2"))])
        one = uploads.root(settings) / "uploads" / "pack" / "a" / "one.md"
        assert uploads.remove(settings, one) and names(settings) == ["uploads/two.md"]
        assert not one.parent.exists()
        outside = corpus / "notes.txt"
        assert not uploads.remove(settings, outside) and outside.exists()


class TestServerFolder:
    def test_only_what_lies_below_the_setting_can_be_ingested(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "data" / "corpus").mkdir(parents=True)
        (tmp_path / "secret").mkdir()
        (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
        assert uploads.server_folder(settings, "corpus") == tmp_path / "data" / "corpus"
        (tmp_path / "data" / ".git").mkdir()
        (tmp_path / "data" / "feedback").mkdir()
        (tmp_path / "data" / "uploads" / "x").mkdir(parents=True)
        assert uploads.server_folders(settings) == ["corpus"]
        for name in ("../secret", "/etc", "link", "nothing", ".", "uploads", "uploads/x", ".git", "feedback"):
            with pytest.raises(RagError):
                uploads.server_folder(settings, name)


def documents(settings: Settings) -> dict[str, StoredDocument]:
    with open_store(settings) as store:
        return store.documents()


def ended(job: Job) -> Job:
    deadline = time.monotonic() + 60
    while job.ended is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job


class TestJobs:
    @pytest.fixture
    def start(self, settings: Settings) -> Callable[[], Job]:
        runs = Jobs()

        def begin() -> Job:
            return ended(
                runs.start(
                    "handbook", "upload", lambda progress: jobs.ingest_folder(settings, uploads.root(settings), progress)
                )
            )

        return begin

    def test_an_upload_is_ingested_as_the_command_does_with_every_files_state(
        self, settings: Settings, start: Callable[[], Job]
    ) -> None:
        uploads.receive(settings, [("a.md", io.BytesIO(b"# A\n\nDinner is 32 EUR.")), ("empty.md", io.BytesIO(b""))])
        uploads.receive(settings, [("picture.png", io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"\0" * 20))])
        job = start()
        assert job.error is None
        assert {name: file.state for name, file in job.files.items()} == {
            "uploads/a.md": "added",
            "uploads/empty.md": "empty",
            "uploads/picture.png": "skipped",
        }
        assert job.files["uploads/a.md"].chunks == job.files["uploads/a.md"].done == 1
        assert "0 bytes" in job.files["uploads/empty.md"].reason
        assert list(documents(settings)) == ["uploads/a.md"]
        again = start()
        assert again.unchanged == 1 and again.report is not None and again.report.chunks.embedded == 0

    def test_runs_on_one_collection_wait_for_each_other(self, settings: Settings) -> None:
        runs, order = Jobs(), []

        def slow(progress: object) -> Any:
            order.append("begins")
            time.sleep(0.2)
            order.append("ends")

        found = [runs.start("handbook", str(n), slow) for n in range(3)]
        for job in found:
            ended(job)
        assert order == ["begins", "ends"] * 3

    def test_a_run_while_another_holds_the_lock_ends_with_its_reason(
        self, settings: Settings, start: Callable[[], Job]
    ) -> None:
        uploads.receive(settings, [("a.md", io.BytesIO(b"# A\n\ntext"))])
        with open_store(settings, create=True) as store, collection_lock(store):
            job = start()
        assert job.error is not None and "is being changed by" in str(job.error)

    def test_an_endpoint_that_fails_ends_the_run_and_the_next_completes_it(
        self, settings: Settings, wire: Wire, start: Callable[[], Job]
    ) -> None:
        uploads.receive(settings, [("a.md", io.BytesIO(b"# A\n\ntext"))])
        wire.on("/embeddings", lambda body: Reply({"error": {"message": "bad key"}}, 401))
        job = start()
        assert job.error is not None and "RAG_EMBEDDING_API_KEY" in str(job.error)
        wire.on("/embeddings", embeddings)
        assert start().files["uploads/a.md"].state == "added"

    def test_an_error_of_ours_in_a_run_is_told_too(self) -> None:
        def broken(progress: object) -> object:
            raise ZeroDivisionError("by zero")

        job = ended(Jobs().start("handbook", "label", broken))  # type: ignore[arg-type]
        assert job.error is not None and "ZeroDivisionError: by zero" in str(job.error)

    def test_embedding_again_replaces_what_is_unchanged(self, settings: Settings, wire: Wire, start: Callable[[], Job]) -> None:
        uploads.receive(settings, [("a.md", io.BytesIO(b"# A\n\none")), ("b.md", io.BytesIO(b"# B\n\ntwo"))])
        start()
        before = documents(settings)
        sent = wire.count("/embeddings")
        job = ended(Jobs().start("handbook", "again", lambda p: jobs.embed_again(settings, ["uploads/a.md"], p)))
        assert job.error is None and job.files["uploads/a.md"].state == "changed"
        assert wire.count("/embeddings") == sent + 1 and wire.sent[-1].body["input"] == ["A\none"]
        after = documents(settings)
        assert set(after) == set(before) and all(d.whole and d.chunks == 1 for d in after.values())
        assert after["uploads/a.md"].version.when > before["uploads/a.md"].version.when
        assert after["uploads/b.md"].version.when == before["uploads/b.md"].version.when

    def test_embedding_again_what_is_gone_is_an_error_and_loses_nothing(
        self, settings: Settings, start: Callable[[], Job]
    ) -> None:
        uploads.receive(settings, [("a.md", io.BytesIO(b"# A\n\none"))])
        start()
        (uploads.root(settings) / "uploads" / "a.md").unlink()
        job = ended(Jobs().start("handbook", "again", lambda p: jobs.embed_again(settings, ["uploads/a.md"], p)))
        assert "its file is missing" in str(job.error)
        assert list(documents(settings)) == ["uploads/a.md"]

    def test_a_reindex_takes_the_new_chunk_size(
        self, settings: Settings, start: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uploads.receive(settings, [("a.md", io.BytesIO(b"# A\n\n" + b"A sentence of some words. " * 8))])
        start()
        monkeypatch.setenv("RAG_CHUNK_SIZE", "60")
        changed = load_settings()
        job = ended(Jobs().start("handbook", "all", lambda p: jobs.reindex(changed, p)))
        assert job.error is None and documents(settings)["uploads/a.md"].chunks > 2
