"""What many questions do to the application, and failing endpoints to questions.

    python benchmarks/reliability.py [failures|many|growth]

`failures`: 1,000 questions, eight at once, to endpoints that fail at random in all three stages. Each has to end with a whole
answer, with an answer that says what is missing, or with one error; a part that is shown as the whole, a rerank that failed
unsaid, a hang or an exception of another kind is wrong. `many`: 64 questions at once through one process, to a gateway that
serves SLOTS answers at a time; their rate against the gateway's. `growth`: open files, threads and memory after 2,000 questions
against those after 500 (Linux alone). All three by default; exit 1 if a limit is crossed.
"""

import logging
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fixed_gateway
from question import fill
from rich.progress import track
from typing_extensions import override

from rag_app.errors import RagError
from rag_app.pipeline import Pipeline
from rag_app.settings import load_settings

QUESTIONS, FAILING = 1000, 0.2
AT_ONCE, ROUNDS, SLOTS, ANSWER_SECONDS, LEAST_RATIO = 64, 6, 16, 1.0, 0.9
WARM, ALL = 500, 2000
# Chroma opens a connection to its SQLite file now and then, up to the size of its pool.
POOL, MOST_MORE_MB = 4, 10
N_CHUNKS = 2000
ANSWER = " ".join(fixed_gateway.WORDS)


class Failing(fixed_gateway.Handler):
    """Fails one request in five, in the ways in which gateways do."""

    dice = random.Random(1)

    @override
    def do_POST(self) -> None:
        way = self.dice.choice(WAYS) if self.dice.random() < FAILING else ""
        if not way:
            super().do_POST()
            return
        self.rfile.read(int(self.headers["content-length"]))
        if way == "reset":
            self.close_connection = True
        elif way == "cut":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream" if "chat" in self.path else "application/json")
            self.send_header("content-length", "5000")
            self.end_headers()
            event = next(fixed_gateway.events())
            self.wfile.write(f"data: {event}\n\n".encode() if "chat" in self.path else b'{"data": [{"index": 0, "em')
            self.close_connection = True
        elif way == "error in the stream" and "chat" in self.path:
            content = "".join(
                f"data: {event}\n\n" for event in [*list(fixed_gateway.events())[:3], '{"error": {"message": "GPU lost"}}']
            )
            self.answered(200, content, "text/event-stream")
        elif way == "a page":
            self.answered(502, "<html><body>502 Bad Gateway</body></html>", "text/html")
        elif way == "nothing":
            self.answered(200, "{}" if "chat" not in self.path else "data: [DONE]\n\n", "application/json")
        elif way == "refused":
            self.answered(400, '{"error": {"message": "bad luck"}}')
        else:
            self.answered(503 if way == "overloaded" else 429, '{"error": {"message": "later"}}')

    def answered(self, status: int, content: str, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(content.encode())


WAYS = ["overloaded", "overloaded", "rate", "reset", "cut", "error in the stream", "a page", "nothing", "refused"]


class Limited(fixed_gateway.Handler):
    """Writes so many answers at a time; who comes then waits."""

    slots = threading.Semaphore(SLOTS)

    @override
    def do_POST(self) -> None:
        if "chat" not in self.path:
            super().do_POST()
            return
        with self.slots:
            super().do_POST()


def main(parts: list[str]) -> int:
    """Run the parts, print what they found, and return the exit code."""
    # What a failed rerank writes into the log is counted here.
    logging.disable()
    rng = random.Random(0)
    texts = [" ".join(f"w{rng.randrange(5000)}" for _ in range(100)) for _ in range(N_CHUNKS)]
    good = True
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), N_CHUNKS, texts)
        for name in parts:
            handler, seconds = {
                "failures": (Failing, 0.0),
                "many": (Limited, ANSWER_SECONDS),
                "growth": (fixed_gateway.Handler, 0.0),
            }[name]
            here, there = multiprocessing.Pipe()
            server = multiprocessing.Process(target=serve, args=(there, handler, seconds), daemon=True)
            server.start()
            settings = load_settings(
                base_url=here.recv(),
                embedding_model="fixed",
                rerank_model="m",
                chat_model="m",
                chroma_path=folder,
                collection="bench",
            )
            with Pipeline.open(settings) as pipeline:
                good &= {"failures": failures, "many": many, "growth": growth}[name](pipeline)
            server.terminate()
    return int(not good)


def serve(connection: Any, handler: type[fixed_gateway.Handler], seconds: float) -> None:
    """Serve, in a process of its own, with answers that take so long."""
    fixed_gateway.EMBED = fixed_gateway.RERANK = 0.0
    fixed_gateway.FIRST_TOKEN = seconds
    server = fixed_gateway.Server(("127.0.0.1", 0), handler)
    server.request_queue_size = 256
    connection.send(f"http://127.0.0.1:{server.server_port}/v1")
    server.serve_forever()


def failures(pipeline: Pipeline) -> bool:
    """Ask while endpoints fail; print how the questions ended, and whether none ended wrong."""

    def one(n: int) -> str:
        try:
            ask = pipeline.ask(f"What about number {n}?")
        except RagError as error:
            return (
                f"error: {getattr(error, 'kind', type(error).__name__)}"
                if error.remedy or error.happened
                else "WRONG: empty error"
            )
        except Exception as error:
            return f"WRONG: {type(error).__name__}: {error}"
        whole = ask.answer.text == ANSWER
        if ask.answer.finish == "stop" and not whole:
            return f"WRONG: shown as whole: {ask.answer.text!r}"
        if ask.rerank.status == "fallback" and not ask.rerank.reason:
            return "WRONG: a rerank failed unsaid"
        if ask.rerank.status == "applied" and [c.retrieval.rank for c in ask.reranked] != list(
            range(1, len(ask.candidates) + 1)
        ):
            return "WRONG: another order"
        told = "" if ask.rerank.status == "applied" else f", rerank {ask.rerank.status} and said"
        return ("answered whole" if whole else f"answered in part, said to be {ask.answer.finish}") + told

    with ThreadPoolExecutor(8) as pool:
        ends = Counter(track(pool.map(one, range(QUESTIONS)), "failing endpoints", total=QUESTIONS))
    print(f"{QUESTIONS} questions, {FAILING:.0%} of all requests fail:")
    for end, n in ends.most_common():
        print(f"  {n:5} {end}")
    return not any(end.startswith("WRONG") for end in ends)


def many(pipeline: Pipeline) -> bool:
    """Ask many at once; print their rate against the gateway's."""
    pipeline.ask("What about the first?")
    n = AT_ONCE * ROUNDS
    start = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(track(pool.map(lambda n: pipeline.ask(f"What about number {n}?"), range(n)), "many at once", total=n))
    rate, most = n / (time.perf_counter() - start), SLOTS / ANSWER_SECONDS
    print(
        f"{AT_ONCE} at once: {rate:.1f} of the gateway's {most:.1f} questions a second: {rate / most:.2f} "
        f"(at least {LEAST_RATIO})"
    )
    return rate / most >= LEAST_RATIO


def growth(pipeline: Pipeline) -> bool:
    """Ask on and on; print what the process holds after a while and at the end."""
    held = []
    for n in track(range(1, ALL + 1), "one after the other"):
        pipeline.ask(f"What about number {n}?")
        if n in (WARM, ALL):
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            files = len(list(Path("/proc/self/fd").iterdir()))
            held.append((files, int(status["Threads"]), int(status["VmRSS"].removesuffix("kB")) / 1000))
    (files, threads, mb), (files_then, threads_then, mb_then) = held
    print(
        f"after {WARM} and {ALL} questions: {files} and {files_then} open files, {threads} and {threads_then} threads, "
        f"{mb:.0f} and {mb_then:.0f} MB (at most {POOL} files, {POOL} threads and {MOST_MORE_MB} MB more)"
    )
    return files_then - files <= POOL and threads_then - threads <= POOL and mb_then - mb <= MOST_MORE_MB


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["failures", "many", "growth"]))
