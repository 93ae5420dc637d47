"""`make bench-peers`: other engines on the same files, in turns; writes the table and the plot of docs/performance.md.

Run as `python -m tests.bench.peers` with nothing else beside it. The peers' Python packages live in build/bench-venv
(requirements-bench.lock), the llama-server in build/bench-llama-server (llama_server.py).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench import llama_server
from tests.bench.contenders import (
    BEFORE,
    Contender,
    Speed,
    build_kernels,
    compare,
    from_the_runner,
    serve,
    settled,
    through_the_api,
)
from tests.bench.shapes import llama_1b
from tests.conftest import CACHE
from tests.e2e.conftest import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "pictures" / "peers.svg"
PORT = 11499  # of the llama-server
PYTHON = ROOT / "build" / "bench-venv" / "bin" / "python"
BEGIN, END = "<!-- made by make bench-peers -->", "<!-- end of what make bench-peers made -->"
OURS = "Corral, through the API"


@contextlib.contextmanager
def contenders(folder: Path, model: Path, title: str, kernels: Path) -> Iterator[dict[str, Contender]]:
    """All of them with the model, whose title this is, loaded. kernels: a home that has some."""
    with contextlib.ExitStack() as stack:

        def started(name: str, environ: Mapping[str, str]) -> ServerProcess:
            server = serve(folder / name, model, environ)
            stack.callback(server.stop)
            settled(server, title)
            return server

        shutil.copytree(kernels, folder / "corral" / "home")
        corral = started("corral", {"CORRAL_KERNELS": "auto"})
        found = {
            OURS: through_the_api(corral),
            "Corral's runner, bare": from_the_runner(corral),
            "the engine's wheel as it comes": from_the_runner(started("wheel", BEFORE)),
        }
        if llama_server.BINARY.exists():
            native = stack.enter_context(llama_server.for_one_client(model, PORT))
            found["llama-server built here, -np 1 -b 512"] = native
        found["ik_llama.cpp's wheel"] = stack.enter_context(_ik_llama(model))
        yield found


@contextlib.contextmanager
def _ik_llama(model: Path) -> Iterator[Contender]:
    command = [PYTHON, Path(__file__).with_name("ik_llama.py"), model]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        stdin, stdout = child.stdin, child.stdout
        assert stdin is not None
        assert stdout is not None

        def ask(text: str) -> tuple[float, float]:
            stdin.write(json.dumps(text) + "\n")
            stdin.flush()
            reading, answering = json.loads(stdout.readline())
            return reading, answering

        yield ask
        stdin.close()


def table(model: str, speeds: Mapping[str, Speed]) -> list[str]:
    """Rows of Markdown: ratios to ours, and the median speeds."""
    lines = [f"| {model} | reading | answering | tokens/s, medians |", "|---|---|---|---|"]
    for name, speed in speeds.items():
        ratios = " | ".join(f"{ratio:.2f}" for ratio in speed.against(speeds[OURS]))
        reading, answering = speed.medians
        lines.append(f"| {name} | {ratios} | {reading:.1f}, {answering:.1f} |")
    return [*lines, ""]


def write_page(lines: list[str]) -> None:
    """Put the tables where docs/performance.md has its marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "![the same as bars](pictures/peers.svg)", "", END]) + after)


def main() -> None:
    """Measure all models, write the page, draw the plot."""
    lines: list[str] = []
    drawn: dict[str, dict[str, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        build_kernels(Path(name) / "kernels")
        models = {
            "1B shape, Q4_K_M": llama_1b(Path(name) / "1b.gguf"),
            "Gemma 3 270M, Q4_K_M": CACHE / "gemma3.gguf",
            "SmolLM2 135M, Q4_1": CACHE / "smollm2.gguf",
        }
        for number, (title, model) in enumerate(models.items()):
            with contenders(Path(name) / str(number), model, title, Path(name) / "kernels") as found:
                speeds = compare(found, title)
            lines += table(title, speeds)
            drawn[title] = {peer: speed.medians for peer, speed in speeds.items()}
            print("\n".join(lines), flush=True)
    about = "A prompt read (500 tokens, of SmolLM2 1,400), an answer begun, in turns"
    write_page([f"{about}; medians of the rounds' ratios, Corral is 1.", "", *lines])
    subprocess.run([PYTHON, Path(__file__).with_name("plot.py"), PLOT], input=json.dumps(drawn), text=True, check=True)


if __name__ == "__main__":
    main()
