"""A server with OpenAI's batch interface, on loopback: files, batches and embeddings, answered as a test says."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.wire import vector


class BatchServer:
    """`ends` is the status a batch ends in; it ends at the `looks`-th look, having answered all but `skips` requests."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.ends, self.looks, self.skips = "completed", 2, 0
        # Texts that a request fails for; statuses that looks get instead of an answer, in turn.
        self.refuses: set[str] = set()
        self.down: list[int] = []
        # Downloads that are cut off; begun batches of which the answer is lost; the numbers of a vector, where not all.
        self.cut = self.lost = 0
        self.length: int | None = None
        self.live = self.looked = 0

    def begin(self, body: Any) -> dict[str, Any]:
        name = f"batch_{len(self.batches)}"
        rows = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        counts = {"total": len(rows), "completed": 0, "failed": 0}
        made = {"id": name, "object": "batch", "endpoint": body["endpoint"], "completion_window": "24h", "created_at": 1}
        made |= {"input_file_id": body["input_file_id"], "status": "in_progress", "request_counts": counts}
        self.batches[name] = made | {"metadata": body.get("metadata"), "rows": rows, "looked": 0}
        return self.shown(name)

    def shown(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.batches[name].items() if key not in ("rows", "looked")}

    def look(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        batch["looked"] += 1
        self.looked += 1
        if batch["looked"] >= self.looks and batch["status"] == "in_progress":
            self.end(name, batch)
        return self.shown(name)

    def end(self, name: str, batch: dict[str, Any]) -> None:
        batch["status"] = self.ends
        if self.ends == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "limit", "message": "Enqueued token limit reached"}]}
            return
        answers, errors = [], []
        for row in batch["rows"][self.skips :]:
            texts = row["body"]["input"]
            refused = self.refuses & set(texts)
            data = [{"index": i, "embedding": vector(text)[: self.length]} for i, text in enumerate(texts)]
            body = {"error": {"message": "no"}} if refused else {"data": data[::-1]}
            answer = {"custom_id": row["custom_id"], "response": {"status_code": 400 if refused else 200, "body": body}}
            (errors if refused else answers).append(json.dumps(answer).encode())
        for row in batch["rows"][: self.skips]:
            error = {"code": f"batch_{self.ends}", "message": "not executed"}
            errors.append(json.dumps({"custom_id": row["custom_id"], "response": None, "error": error}).encode())
        # In any order.
        for kind, lines in (("output", answers[::-1]), ("error", errors)):
            if lines:
                self.files[f"{kind}-{name}"] = b"\n".join(lines) + b"\n"
                batch[f"{kind}_file_id"] = f"{kind}-{name}"
        batch["request_counts"] = {"total": len(batch["rows"]), "completed": len(answers), "failed": len(errors)}


@contextmanager
def serve_batches() -> Iterator[BatchServer]:
    """Run a server for as long as the block lasts."""
    server = BatchServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            if self.path.endswith("/files"):
                name = f"file-{len(server.files)}"
                boundary = re.search("boundary=(.+)", self.headers["content-type"])
                assert boundary
                parts = [part for part in raw.split(b"--" + boundary[1].encode()) if b"filename=" in part]
                server.files[name] = parts[0].partition(b"\r\n\r\n")[2].rstrip(b"\r\n")
                self.reply({"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "r", "purpose": "batch"})
            elif self.path.endswith("/batches"):
                begun = server.begin(json.loads(raw))
                if server.lost:
                    server.lost -= 1
                    self.close_connection = True
                    return
                self.reply(begun)
            else:
                server.live += 1
                texts = json.loads(raw)["input"]
                self.reply({"data": [{"index": i, "embedding": vector(text)} for i, text in enumerate(texts)]})

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.endswith("/content"):
                self.reply(server.files[path.split("/")[-2]])
            elif path.endswith("/batches"):
                self.reply({"object": "list", "data": [server.shown(name) for name in server.batches], "has_more": False})
            elif server.down:
                self.reply({"error": {"message": "down"}}, server.down.pop(0))
            else:
                self.reply(server.look(path.split("/")[-1]))

        def reply(self, body: Any, status: int = 200) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
            for name, value in (("content-type", kind), ("content-length", str(len(content)))):
                self.send_header(name, value)
            self.end_headers()
            if server.cut and isinstance(body, bytes):
                server.cut -= 1
                self.close_connection = True
                content = content[: len(content) // 2]
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
