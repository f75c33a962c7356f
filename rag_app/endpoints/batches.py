"""The batch interface of OpenAI: a file of requests that a server answers within a day, for about half the price."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from rag_app.endpoints import openai_client
from rag_app.endpoints.endpoint import Endpoint
from rag_app.words import Message, msg

# What a server takes in one batch: inputs of all its requests together, and bytes of its file.
MOST_INPUTS, MOST_BYTES = 50_000, 100_000_000
# As the request names what is asked, whatever the base URL is.
EMBEDDINGS: Literal["/v1/embeddings"] = "/v1/embeddings"
_MARK = "rag_app"
# Batches of the account that are looked through for one of ours.
_LISTED = 500
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True)
class Batch:
    """A batch as the server tells it: requests done and failed, of how many, and the files of answers and of errors."""

    id: str
    status: str
    done: int
    failed: int
    of: int
    files: tuple[str, ...]
    reason: str

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it; of one that expired or was cancelled, what was answered by then is there."""
        return self.status in _ENDED


class Batches:
    """A client of an endpoint's `/files` and `/batches`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client = openai_client.connect(endpoint, whole_files=True)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def submit(self, requests: Path, mark: str) -> str:
        """Upload a file of requests and begin its batch; return the batch's id. `mark` finds it again."""
        with self._told():
            with requests.open("rb") as content:
                sent = self._client.files.create(file=(requests.name, content), purpose="batch")
            made = self._client.batches.create(
                input_file_id=sent.id, endpoint=EMBEDDINGS, completion_window="24h", metadata={_MARK: mark}
            )
            return str(made.id)

    def find(self, mark: str) -> str:
        """Return the id of the batch that was begun with a mark, by a run that ended before it could note the id; or ""."""
        with self._told():
            for n, batch in enumerate(self._client.batches.list(limit=100)):
                if (batch.metadata or {}).get(_MARK) == mark:
                    return str(batch.id)
                if n == _LISTED:
                    break
        return ""

    def look(self, batch_id: str) -> Batch:
        """Return how far a batch is."""
        with self._told():
            batch = self._client.batches.retrieve(batch_id)
            counts = batch.request_counts
            errors = (batch.errors.data if batch.errors else None) or []
            return Batch(
                id=batch_id,
                status=str(batch.status),
                done=counts.completed if counts else 0,
                failed=counts.failed if counts else 0,
                of=counts.total if counts else 0,
                files=tuple(name for name in (batch.output_file_id, batch.error_file_id) if name),
                reason=self.endpoint.masked("; ".join(error.message or error.code or "" for error in errors))[:300],
            )

    def answers(self, batch: Batch) -> Iterator[tuple[str, Any]]:
        """Yield the id of each request that was answered, and the reply; of those that failed, None."""
        for name in batch.files:
            with ExitStack() as opened:
                # On disk: a million vectors are gigabytes as text.
                content = opened.enter_context(tempfile.TemporaryFile())
                with self._told(), self._client.files.with_streaming_response.content(name) as response:
                    for piece in response.iter_bytes():
                        content.write(piece)
                content.seek(0)
                for line in content:
                    with suppress(ValueError, LookupError, TypeError, AttributeError):
                        row = orjson.loads(line)
                        said = row.get("response") or {}
                        yield str(row["custom_id"]), said["body"] if said.get("status_code") == 200 else None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what goes wrong into our one error."""
        try:
            with openai_client.translated(self.endpoint):
                yield
        except (AttributeError, TypeError, ValueError) as error:
            # A page in place of the answer is a text to the package.
            raise self.endpoint.error("reply", msg("the reply tells of no batch ({reason})", reason=error), _LEAVE) from error


_LEAVE: Message = msg("if the server has no batches, ingest without --batch")
