"""`corral top`: what the server is doing, live. Textual draws it; figures and rows are made by pure functions below.

Asks once a second, in a thread, so that keys answer while the server does not. Fits 40 by 10: what has no room there
(plots, keys, columns of less weight) is left out, never cut in the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, Sparkline, Static

from corral.cli.api import Api, ServerError
from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.formats import human_bytes, human_time, parse_time
from corral.cli.samples import Look, Samples, look
from corral.errors import CorralError

_EVERY_S = 1.0
_NOT_FOUND = 404
_GAP = "  "
_NAME_COLUMNS, _NARROW_NAME = 30, 12
_SOON_S = 0.5  # a rate over less says little
_HIGH = 16  # lines from which plots and keys have room
_WIDE = 72  # columns from which tables have all their columns
Format = Callable[[float], str]
_PLOTS: tuple[tuple[str, str, Format], ...] = (
    ("made_rate", "made", lambda value: f"{value:.0f} tok/s"),
    ("read_rate", "read", lambda value: f"{value:.0f} tok/s"),
    ("memory_bytes", "models", lambda value: human_bytes(int(value))),
    ("waiting", "waiting", lambda value: f"{value:.0f}"),
)
Row = tuple[str, ...]


def top(context: Context) -> int:
    """`corral top`."""
    if not (context.console.shows_progress and context.console.reads_terminal):  # Textual writes to stderr
        raise UsageError("top draws on a terminal; for scripts there is `corral ps --json`")
    Top(context.api).run()
    return 0


class Top(App[None]):
    """The screen; `api` is asked, `seen` is what it said last."""

    TITLE = "corral top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("k,delete", "stop_request", "Stop the request"),
        Binding("p,space", "pause", "Pause"),
    ]
    CSS = """
    Screen { background: ansi_default; }
    #figures, #models, #problem { height: auto; }
    #figures { text-style: bold; }
    #problem { color: ansi_red; display: none; }
    #problem.-shown { display: block; }
    #models { max-height: 6; margin-bottom: 1; }
    #plots { height: 4; margin: 1 0; }
    #plots Vertical { width: 1fr; margin-right: 2; }
    Sparkline { height: 3; width: 100%; }
    Sparkline > .sparkline--min-color, Sparkline > .sparkline--max-color { color: ansi_green; }
    DataTable { height: 1fr; scrollbar-size: 1 1; background: ansi_default; }
    .-low #plots, .-low Footer { display: none; }
    .-low #models { max-height: 2; margin-bottom: 0; }
    """

    def __init__(self, api: Api) -> None:
        super().__init__(ansi_color=True)
        self.VERTICAL_BREAKPOINTS = [(0, "-low"), (_HIGH, "-high")]
        self.theme = "ansi-dark"
        self._api = api
        self._samples = Samples()
        self._seen: Look | None = None
        self._shown: list[str] = []  # the requests' ids, as the table's rows
        self._paused = False

    def compose(self) -> ComposeResult:
        """Figures, plots, models, requests; all of them filled by `_draw`."""
        yield Static(id="figures", markup=False)
        yield Static(id="problem", markup=False)
        with Horizontal(id="plots"):
            for key, _, _ in _PLOTS:
                with Vertical():
                    yield Static(id=f"{key}-title", markup=False)
                    yield Sparkline([], id=key)
        yield Static(id="models", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=False, show_cursor=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to ask."""
        self.run_worker(self._follow(), exclusive=True)

    def on_resize(self) -> None:
        """Another width has other columns."""
        self._draw()

    async def _follow(self) -> None:
        while True:
            if not self._paused:
                await self._ask()
            await asyncio.sleep(_EVERY_S)

    async def _ask(self) -> None:
        try:
            self._seen = await asyncio.to_thread(look, self._api)
        except CorralError as error:
            self._tell(str(error))
            return
        self._tell("")
        self._samples.add(self._seen)
        self._draw()

    def _tell(self, problem: str) -> None:
        line = self.query_one("#problem", Static)
        line.update(problem)
        line.set_class(bool(problem), "-shown")

    def action_pause(self) -> None:
        """Hold the picture, or go on."""
        self._paused = not self._paused
        self._tell("paused" if self._paused else "")

    async def action_stop_request(self) -> None:
        """Stop the request under the cursor; one that has just ended by itself is as good."""
        place = self.query_one(DataTable).cursor_row
        if not 0 <= place < len(self._shown):
            return
        try:
            await asyncio.to_thread(self._api.remove, f"/api/requests/{self._shown[place]}", {})
        except ServerError as error:
            if error.status != _NOT_FOUND:
                self._tell(str(error))
        except CorralError as error:
            self._tell(str(error))
        await self._ask()

    def _draw(self) -> None:
        seen = self._seen
        if seen is None:
            return
        wide = self.size.width >= _WIDE
        self.query_one("#figures", Static).update(packed(figures(seen, self._samples, wide=wide), self.size.width))
        for key, name, form in _PLOTS:
            values = self._samples.series(key)
            self.query_one(f"#{key}", Sparkline).data = [
                0.0,
                *values[-max(self.size.width // 4, 8) :],
            ]  # 0 is the floor
            self.query_one(f"#{key}-title", Static).update(f"{name} {form(values[-1] if values else 0)}")
        self.query_one("#models", Static).update("\n".join(model_lines(seen, datetime.now(UTC), self.size.width)))
        self._draw_requests(seen, wide=wide)

    def _draw_requests(self, seen: Look, *, wide: bool) -> None:
        table = self.query_one(DataTable)
        under_cursor = self._shown[table.cursor_row] if 0 <= table.cursor_row < len(self._shown) else ""
        table.clear(columns=True)
        table.add_columns(*(REQUEST_COLUMNS if wide else NARROW_COLUMNS))
        for request in seen.requests:
            table.add_row(*(Text(cell) for cell in request_row(request, wide=wide)))  # a bare str would be markup
        self._shown = [str(request.get("id") or "") for request in seen.requests]
        if under_cursor in self._shown:
            table.move_cursor(row=self._shown.index(under_cursor))


REQUEST_COLUMNS = ("REQUEST OF", "ROUTE", "STATE", "PROMPT", "MADE", "TIME")
NARROW_COLUMNS = ("REQUEST OF", "STATE", "MADE")


def figures(seen: Look, samples: Samples, *, wide: bool) -> list[str]:
    """The line at the top, part by part."""
    slots = sum(int(model.get("slots") or 0) for model in seen.models)
    active = sum(int(model.get("active") or 0) for model in seen.models)
    wait_s = max((float(request.get("wait_s") or 0) for request in seen.waiting), default=0)
    parts = [
        f"{samples.mean('made_rate'):.1f} tok/s",
        f"read {samples.mean('read_rate'):.0f}/s",
        f"slots {active}/{slots}",
        f"waiting {len(seen.waiting)}" + (f" ≤{wait_s:.0f}s" if seen.waiting else ""),
    ]
    prompts = seen.tokens("prompt")
    if prompts:
        parts.append(f"cached {100 * seen.tokens('cached') / prompts:.0f}%")
    memory = (seen.status.get("host") or {}).get("memory") or {}
    if memory.get("total"):
        parts.append(
            f"free {human_bytes(memory['available'])}" + (f" of {human_bytes(memory['total'])}" if wide else "")
        )
    if wide and (seen.status.get("server") or {}).get("memory"):
        parts.append(f"server {human_bytes(seen.status['server']['memory'])}")
    return parts


def packed(parts: Sequence[str], columns: int) -> str:
    """The parts on as few lines as hold them, none broken."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}{_GAP}{part}" if lines[-1] else part
        if lines[-1] and len(longer) > columns:
            lines.append(part)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def model_lines(seen: Look, now: datetime, columns: int) -> list[str]:
    """A line a loaded model: slots, memory now of what was planned, how long it stays, and more where it fits."""
    if not seen.models:
        return [packed(("No model is loaded.", "The first request for one loads it."), columns).partition("\n")[0]]
    return [packed(_model_parts(model, now), columns).partition("\n")[0] for model in seen.models]


def _model_parts(model: Mapping[str, Any], now: datetime) -> list[str]:
    """What is said of a model, the weightiest first."""
    slots, active = int(model.get("slots") or 0), int(model.get("active") or 0)
    squares = "■" * active + "□" * max(slots - active, 0)
    memory, planned = model.get("memory") or {}, model.get("planned") or {}
    taken = human_bytes(int(memory.get("rss") or model.get("size") or 0))
    plan = int(planned.get("total") or 0)
    parts = [
        f"{str(model['name'])[:_NAME_COLUMNS]} {squares}",
        f"{taken} of {human_bytes(plan)}" if plan else taken,
        "in use" if active else human_time(parse_time(model.get("expires_at")), now),
        f"window {int(model.get('context_length') or 0)}",
        f"{model['threads']} threads" if model.get("threads") else "",
        str(model.get("state") or ""),
    ]
    return [part for part in parts if part]


def request_row(request: Mapping[str, Any], *, wide: bool) -> Row:
    """A row of the table of requests."""
    running = request.get("state") == "running"
    made, running_s = int(request.get("eval_tokens") or 0), float(request.get("running_s") or 0)
    place = f"place {request.get('position')}, ~{float(request.get('wait_s') or 0):.0f}s"
    state = str(request.get("state") or "") if running else (f"{request.get('state')}, {place}" if wide else place)
    speed = f" {made / running_s:.1f}/s" if running and made and running_s > _SOON_S else ""
    name = str(request.get("model") or "")
    if not wide:
        return (name[:_NARROW_NAME], state, f"{made} {made / running_s:.0f}/s" if speed else str(made or ""))
    time_s = running_s if running else float(request.get("waited_s") or 0)
    made_text = f"{made}{speed}" if running else ""
    return (name, str(request.get("route") or ""), state, _prompt(request), made_text, f"{time_s:.0f} s")


def _prompt(request: Mapping[str, Any]) -> str:
    """The prompt's tokens; how many of them are read while it is being read."""
    total, read = int(request.get("prompt_tokens") or 0), int(request.get("processed_tokens") or 0)
    if not total:
        return ""
    return str(total) if read >= total else f"{read}/{total}"
