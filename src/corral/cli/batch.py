"""`corral batch IN -o OUT`: a file of requests answered by the server when nobody else wants anything.

The server keeps what is done, so this command only uploads, watches and fetches. What it has begun stands in a file
beside OUT (`OUT.corral-batch`), written before the batch is made: killed at any moment and run again, it finds its
batch by the mark in there. OUT is written whole, with a line for each line of IN, in IN's order.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from corral.cli.api import ServerError, ServerLost, ServerNotRunning, ServerUnreachable
from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.progress import Progress

ENDPOINT = "/v1/chat/completions"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_MARK = "corral_run"
_LOOK_S = 0.5
_PATIENCE_S = 120.0  # for a server that does not answer: it may be starting anew
_PAGE = 100
_T = TypeVar("_T")


def batch(context: Context) -> int:
    """`corral batch IN -o OUT [--endpoint PATH] [--model NAME] [--cancel]`: exit 1 when a line has no answer."""
    source, target = Path(context.words[0]), Path(context.parsed.text("output"))
    if not context.parsed.text("output"):
        raise UsageError("name the file for the results: corral batch IN -o OUT")
    endpoint = context.parsed.text("endpoint") or ENDPOINT
    work = _Work(context, source, target, endpoint, context.parsed.text("model"))
    if context.parsed.flag("cancel"):
        return work.cancel()
    return work.follow()


class _Work:
    """One run of the command. IN is completed on its way to the server: lines may be bare bodies."""

    def __init__(self, context: Context, source: Path, target: Path, endpoint: str, model: str) -> None:
        self._context = context
        self._api = context.api
        self._source = source
        self._target = target
        self._state = target.with_name(target.name + ".corral-batch")
        self._endpoint = endpoint
        self._model = model
        self._answered = False  # whether the server was ever there

    def follow(self) -> int:
        """Begin or go on, and wait for the end."""
        digest = self._digest()
        found = self._patiently(lambda: self._join(digest))
        try:
            ended = self._wait(found)
        except KeyboardInterrupt:
            self._leave(str(found["id"]))
            raise
        return self._fetch(ended)

    def cancel(self) -> int:
        """Cancel what this command has begun, and fetch what there is."""
        found = self._begun(self._digest())
        if found is None:
            raise UsageError(f"no batch of {self._source} for {self._target} is under way")
        if found["status"] not in _ENDED:
            self._api.post(f"/v1/batches/{found['id']}/cancel", {})
        return self._fetch(self._wait(found))

    # ---- what has begun

    def _join(self, digest: str) -> dict[str, Any]:
        """The batch of an earlier run that goes on or is done, else a new one; again and again does no harm."""
        found = self._begun(digest)
        if found is None or found["status"] in {"failed", "cancelled"}:
            return self._begin(digest)
        self._context.console.note(f"going on with {found['id']} ({found['status']})")
        return found

    def _patiently(self, act: Callable[[], _T]) -> _T:
        """Try again while a server that was there is gone; one that never was is said at once."""
        began, was_there = time.monotonic(), self._answered
        while True:
            try:
                result = act()
                self._answered = True
                return result
            except (ServerNotRunning, ServerUnreachable) as error:
                was_there = was_there or isinstance(error, ServerLost)
                if not was_there or time.monotonic() - began > _PATIENCE_S:
                    raise
                time.sleep(_LOOK_S)

    def _digest(self) -> str:
        """Of all that decides what is asked."""
        digest = hashlib.sha256(f"{self._endpoint}\n{self._model}\n".encode())
        with self._source.open("rb") as file:
            while data := file.read(2**20):
                digest.update(data)
        return digest.hexdigest()

    def _begun(self, digest: str) -> dict[str, Any] | None:
        """The batch of an earlier run over the same input, if the server still has it."""
        try:
            state = json.loads(self._state.read_text())
            mark, known = state["mark"], state["input"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if known != digest:
            raise UsageError(f"{self._state} is of another input or other flags: finish that, or delete it")
        return next((each for each in self._batches() if (each.get("metadata") or {}).get(_MARK) == mark), None)

    def _batches(self) -> Iterator[dict[str, Any]]:
        after = ""
        while True:
            page = self._api.get(f"/v1/batches?limit={_PAGE}{after}")
            yield from page["data"]
            if not page["has_more"]:
                return
            after = f"&after={page['last_id']}"

    def _begin(self, digest: str) -> dict[str, Any]:
        mark = secrets.token_hex(16)
        _write_whole(self._state, json.dumps({"mark": mark, "input": digest}).encode())
        file = self._api.upload_file("/v1/files", self._source.name, self._lines(), {"purpose": "batch"})
        body = {
            "input_file_id": file["id"],
            "endpoint": self._endpoint,
            "completion_window": "24h",
            "metadata": {_MARK: mark},
        }
        return self._api.post("/v1/batches", body)

    def _lines(self) -> Iterator[bytes]:
        """The input's lines, completed: ids, method, url and model where they are missing; bad ones as they are."""
        with self._source.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield self._completed(raw, number) + b"\n" if raw.strip() else b"\n"

    def _completed(self, raw: bytes, number: int) -> bytes:
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            return raw.rstrip(b"\r\n")
        if not isinstance(line, dict):
            return raw.rstrip(b"\r\n")
        if "body" not in line:
            line = {"body": line}
        if self._model and isinstance(line["body"], dict):
            line["body"].setdefault("model", self._model)
        whole = {"custom_id": f"line-{number}", "method": "POST", "url": self._endpoint, **line}
        return json.dumps(whole, ensure_ascii=False).encode("utf-8", "surrogatepass")

    # ---- the wait

    def _wait(self, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """The batch at its end; a server that is gone for a while is waited for."""
        with Progress(self._context.console) as progress:
            while found["status"] not in _ENDED:
                counts = found["request_counts"]
                done = counts["completed"] + counts["failed"]
                failed = f", {counts['failed']} failed" if counts["failed"] else ""
                told = f": {done} of {counts['total']} lines{failed}" if self._context.console.shows_progress else ""
                progress.status(f"{found['status']}{told}")
                time.sleep(_LOOK_S)
                found = self._patiently(functools.partial(self._api.get, f"/v1/batches/{found['id']}"))
        return found

    def _leave(self, batch_id: str) -> None:
        """After Ctrl+C: the batch goes on without us, unless a person says that it shall not."""
        console = self._context.console
        if console.reads_terminal and console.shows_progress:
            console.note(f"\nCancel the batch? Otherwise {batch_id} goes on at the server. [y/N] ", end="")
            answer = console.stdin.readline()
            if answer.strip().lower() in {"y", "yes"}:
                self._api.post(f"/v1/batches/{batch_id}/cancel", {})
                console.note("cancelled; the same command with --cancel fetches what there is")
                return
        console.note(f"\n{batch_id} goes on at the server; the same command fetches its results, --cancel ends it")

    # ---- the results

    def _fetch(self, ended: Mapping[str, Any]) -> int:
        """Write the results; 0 = every line has its answer."""
        temporary = self._target.with_name(f".{self._target.name}.corral-tmp")
        results = self._patiently(lambda: self._results(ended))
        with temporary.open("wb") as file:
            failed = self._write(file, results)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._target)
        self._patiently(lambda: self._forget(ended))
        counts, errors = ended["request_counts"], (ended.get("errors") or {}).get("data") or []
        for error in errors[:10]:
            place = f"line {error['line']}: " if error.get("line") else ""
            self._context.console.note(f"{place}{error['code']}: {error['message']}")
        self._context.console.note(
            f"{ended['status']}: {counts['completed']} answered, {counts['failed']} failed, of {counts['total']} lines"
        )
        return 0 if ended["status"] == "completed" and not failed else 1

    def _results(self, ended: Mapping[str, Any]) -> dict[str, bytes]:
        """By id; of results without one, by a key of their own."""
        found: dict[str, bytes] = {}
        for file_id in (ended.get("output_file_id"), ended.get("error_file_id")):
            if file_id:
                for raw in self._api.lines(f"/v1/files/{file_id}/content"):
                    result = json.loads(raw)
                    line = (result.get("error") or {}).get("line")
                    custom_id = result.get("custom_id")
                    found[f"#{line}" if line or custom_id is None else str(custom_id)] = raw
        return found

    def _write(self, file: IO[bytes], results: Mapping[str, bytes]) -> int:
        """Results in the input's order; how many of them are none."""
        failed = 0
        for number, raw in enumerate(self._lines(), start=1):
            if not raw.strip():
                continue
            result = results.get(f"#{number}") or results.get(_id_of(raw))
            if result is None:
                failed += 1
                continue
            response = json.loads(result).get("response")
            failed += not response or response["status_code"] != 200
            file.write(result.rstrip(b"\n") + b"\n")
        return failed

    def _forget(self, ended: Mapping[str, Any]) -> None:
        """The results are here: what was only made for this run goes, at the server and beside them."""
        for key in ("input_file_id", "output_file_id", "error_file_id"):
            if ended.get(key):
                try:
                    self._api.remove(f"/v1/files/{ended[key]}", {})
                except ServerError:
                    continue  # it went by itself, or a person deleted it
        self._state.unlink(missing_ok=True)


def _id_of(raw: bytes) -> str:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    return str(found.get("custom_id")) if isinstance(found, dict) else ""


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.corral-tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
