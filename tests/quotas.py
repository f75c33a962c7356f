"""Chroma Cloud as far as its quotas go: a proxy on loopback before a real `chroma run` server, which has none of them."""

import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

_COLUMNS = ("ids", "embeddings", "metadatas", "documents", "uris")
_SIDES = dict.fromkeys(("get", "query", "count"), "reads") | dict.fromkeys(("add", "update", "upsert", "delete"), "writes")
_OPEN = ("/api/v2/heartbeat", "/api/v2/healthcheck", "/api/v2/pre-flight-checks", "/api/v2/version")
# One collection is named by its name or its id; the last word is what is done with its records.
_PLACE = re.compile(r"/api/v2/tenants/([^/]+)(?:/databases/([^/]+)(?:/(\w+)(?:/([^/]+)(?:/(\w+))?)?)?)?")


@dataclass(frozen=True)
class Quotas:
    """The defaults of a tenant of Chroma Cloud; a test may take smaller ones. Sizes are bytes."""

    records: int = 300  # ids in one add, update, upsert, delete or get
    limit: int = 300  # records of one get: more may not be asked for, and no more come where no limit is given
    results: int = 300  # for each vector of a query
    queries: int = 20  # vectors of a query
    listed: int = 100  # collections in one list
    predicates: int = 8  # in each of `where` and `where_document`; an $in is one, however long
    searched: int = 130  # characters of a $contains in `where_document`
    document: int = 16_384
    value: int = 8_182  # one value in a record's metadata
    collection_value: int = 256  # one value in a collection's metadata
    keys: int = 32
    key: int = 36
    id: int = 128
    name: int = 128
    reads: int = 10  # of one collection at once
    writes: int = 10
    declared: int = 1000  # records in one call that pre-flight-checks promises, more than are taken
    # Chroma Cloud does not refuse a get without a limit: it leaves out what is too much, and does not say so.
    refuse_unlimited: bool = False


class Refusal(Exception):  # noqa: N818
    """An answer in place of the server's; `kind` is what it is counted by."""

    def __init__(self, kind: str, status: int, message: str, error: str = "ChromaError") -> None:
        super().__init__(message)
        self.kind, self.status = kind, status
        self.body = {"error": error, "message": message}


@dataclass
class Cloud:
    """The proxy: where it is, what it lets pass, and what it has seen."""

    upstream: str
    quotas: Quotas
    token: str
    tenant: str
    database: str
    prefix: str
    url: str = ""
    # Seconds that each call takes at least, so that calls meet.
    hold: float = 0.0
    # What came, by what it does (add, get, ..., collections); and what was refused, by Chroma's name of the quota, or by
    # "token", "place" (another tenant or database), "rate" (too many at once), "hnsw" (its settings cannot be changed).
    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    # Gets without a limit that left records out.
    cut: int = 0
    # "reads" and "writes" of one collection at once, with the one that was refused.
    most: Counter[str] = field(default_factory=Counter)
    _now: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, client: httpx.Client, method: str, target: str, token: str | None, raw: bytes) -> httpx.Response:
        """Return the server's answer, as Chroma Cloud gives it. Refusal where Chroma Cloud would not ask its server."""
        parts = urlsplit(target)
        path, query = parts.path.removeprefix(self.prefix), dict(parse_qsl(parts.query))
        if not parts.path.startswith(f"{self.prefix}/api/v2"):
            raise Refusal("path", 404, f"no such path {parts.path}", "NotFoundError")
        place = _PLACE.match(path)
        tenant, database, kind, name, done = place.groups() if place else (None,) * 5
        done = done or kind or ("database" if database else "tenant" if tenant else path.rpartition("/")[2])
        with self._lock:
            self.asked[done] += 1
        if path not in _OPEN and token != self.token:
            raise Refusal("token", 401, "Permission denied.")
        if path not in (*_OPEN, "/api/v2/auth/identity") and (tenant != self.tenant or database not in (None, self.database)):
            raise Refusal("place", 403, "Permission denied.")
        with self._at_once(name, _SIDES.get(done)):
            time.sleep(self.hold)
            body = json.loads(raw) if raw else {}
            if done == "collections" and method == "GET" and not name:
                body["limit"] = int(query.setdefault("limit", str(self.quotas.listed)))
            self._check(method, done, body)
            unlimited = done == "get" and body.get("limit") is None
            if unlimited:
                # One more tells whether something is left out.
                raw = json.dumps(body | {"limit": self.quotas.limit + 1}).encode()
            url = f"{self.upstream}{path}?{urlencode(query)}"
            reply = client.request(method, url, headers={"content-type": "application/json"}, content=raw)
        return self._changed(reply, path, unlimited)

    @contextmanager
    def _at_once(self, name: str | None, side: str | None) -> Iterator[None]:
        if name is None or side is None:
            yield
            return
        with self._lock:
            self._now[name, side] += 1
            now = self._now[name, side]
            self.most[side] = max(self.most[side], now)
        try:
            if now > (self.quotas.reads if side == "reads" else self.quotas.writes):
                raise Refusal("rate", 429, "Too many requests; backoff and try again")
            yield
        finally:
            with self._lock:
                self._now[name, side] -= 1

    def _check(self, method: str, done: str, body: dict[str, Any]) -> None:
        action = done.capitalize()
        if done == "collections":
            action = {"GET": "List Collections", "POST": "Create Collection"}.get(method, "Update Collection")
        for quota, usage, limit in self._usages(done, body):
            if usage > limit:
                text = f"exceeded quota limit for action '{action}': current usage of {usage} exceeds limit of {limit}"
                raise Refusal(quota, 422, f"Quota exceeded: '{quota}' {text}")
        if (body.get("new_configuration") or {}).get("hnsw"):
            raise Refusal("hnsw", 500, "failed to merge config into schema", "InternalError")

    def _usages(self, done: str, body: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
        """Yield each quota that a call touches: its name, what the call takes of it, and how much there is."""
        quotas, ids = self.quotas, body.get("ids") or []
        if done == "query":
            yield "Number of query embeddings", len(body.get("query_embeddings") or []), quotas.queries
            yield "Number of results", body.get("n_results") or 0, quotas.results
        else:
            yield "Number of records", len(ids), quotas.records
        yield "Limit value", body.get("limit") or 0, quotas.listed if done == "collections" else quotas.limit
        yield "ID size (bytes)", max(map(_size, ids), default=0), quotas.id
        yield "Document size (bytes)", max(map(_size, body.get("documents") or []), default=0), quotas.document
        yield "Name size (bytes)", _size([body.get("name"), body.get("new_name")]), quotas.name
        of_collection = [(body.get(which), quotas.collection_value) for which in ("metadata", "new_metadata")]
        for metadata, most in [*((record, quotas.value) for record in body.get("metadatas") or []), *of_collection]:
            yield "Number of metadata dictionary keys", len(metadata or {}), quotas.keys
            for key, value in (metadata or {}).items():
                yield "Size of metadata dictionary key (bytes)", _size(key), quotas.key
                yield "Size of metadata dictionary value (bytes)", _size(value), most
        yield "Number of where clause predicates", len(list(_predicates(body.get("where")))), quotas.predicates
        searched = list(_predicates(body.get("where_document")))
        yield "Number of where document predicates", len(searched), quotas.predicates
        yield "Length of where document value", max(map(len, searched), default=0), quotas.searched

    def _changed(self, reply: httpx.Response, path: str, unlimited: bool) -> httpx.Response:
        if reply.is_error or not (unlimited or path.endswith(("/auth/identity", "/pre-flight-checks"))):
            return reply
        told, most = reply.json(), self.quotas.limit
        if path.endswith("/auth/identity"):
            told = {"user_id": "user", "tenant": self.tenant, "databases": [self.database]}
        elif path.endswith("/pre-flight-checks"):
            told["max_batch_size"] = self.quotas.declared
        elif len(told["ids"]) > most:
            if self.quotas.refuse_unlimited:
                self._check("POST", "get", {"limit": len(told["ids"])})
            with self._lock:
                self.cut += 1
            told |= {column: told[column][:most] for column in _COLUMNS if told.get(column)}
        return httpx.Response(reply.status_code, json=told)


def _size(value: Any) -> int:
    """Return the bytes of a text, or of all texts of a list."""
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value.encode()) if isinstance(value, str) else 0


def _predicates(where: Any) -> Iterator[Any]:
    """Yield what each predicate of a filter compares with."""
    for name, value in (where or {}).items():
        if name in ("$and", "$or"):
            for part in value:
                yield from _predicates(part)
        else:
            yield value


@contextmanager
def cloud(
    upstream: str,
    quotas: Quotas | None = None,
    *,
    token: str = "ck-test",  # noqa: S107
    tenant: str = "tenant-1",
    database: str = "database-1",
    prefix: str = "",
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[Cloud]:
    """Run the proxy before a server for as long as the block lasts; its tenant and database are made there, if need be."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: else each reply waits 40 ms for an acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            try:
                reply = proxy.answer(client, self.command, self.path, self.headers.get("x-chroma-token"), raw)
            except Refusal as refusal:
                with proxy._lock:
                    proxy.refused[refusal.kind] += 1
                reply = httpx.Response(refusal.status, json=refusal.body)
            self.send_response(reply.status_code)
            self.send_header("content-type", reply.headers.get("content-type", "application/json"))
            self.send_header("content-length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    proxy = Cloud(upstream, quotas or Quotas(), token, tenant, database, prefix)
    with httpx.Client(timeout=60, trust_env=False) as client, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        # A thread waits for the next call of a connection that a client keeps.
        server.daemon_threads = True
        for path, name in (("tenants", tenant), (f"tenants/{tenant}/databases", database)):
            made = client.post(f"{upstream}/api/v2/{path}", json={"name": name})
            assert made.is_success or made.status_code == 409, made.text
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        proxy.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}{prefix}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown()
