"""The batch interface of OpenAI: a file of requests that a server answers within a day, for about half the price."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """A batch as the server tells it: requests done, of how many, the files of answers and of errors, why it failed."""

    id: str
    status: str
    done: int
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
            # Not tried again without a look: it may have begun, and is paid for.
            made = self._client.with_options(max_retries=0).batches.create(
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
                done=(counts.completed or 0) if counts else 0,
                of=(counts.total or 0) if counts else 0,
                files=tuple(name for name in (batch.output_file_id, batch.error_file_id) if name),
                reason=self.endpoint.masked("; ".join(error.message or error.code or "" for error in errors))[:300],
            )

    @contextmanager
    def answers(self, batch: Batch, folder: Path) -> Iterator[Iterator[tuple[str, Any]]]:
        """Lend the id of each request that was answered with its reply, or None where it was refused, once all is there.

        What the batch did not come to before it expired or was cancelled is left out. `folder` has room for the answers.
        """
        # On disk: a million vectors are gigabytes as text.
        with tempfile.TemporaryFile(dir=folder) as content:
            with self._told():
                for name in batch.files:
                    openai_client.download(self._client, name, content)
            content.seek(0)
            yield filter(None, map(_answer, content))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what goes wrong into our one error."""
        try:
            with openai_client.translated(self.endpoint):
                yield
        except (AttributeError, TypeError, ValueError) as error:
            # A page in place of the answer is a text to the package.
            raise self.endpoint.error("reply", msg("the reply tells of no batch ({reason})", reason=error), _LEAVE) from error


def _answer(line: bytes) -> tuple[str, Any] | None:
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        row = orjson.loads(line)
        said = row.get("response")
        if said:
            return str(row["custom_id"]), said["body"] if int(said["status_code"]) == 200 else None
        if (row.get("error") or {}).get("code") not in ("batch_expired", "batch_cancelled"):
            return str(row["custom_id"]), None
    return None


_LEAVE: Message = msg("if the server has no batches, ingest without --batch")
