"""`Settings`: everything that can be configured, read once from flags, environment and `corral.toml`.

Order, strongest first: command-line flags, `CORRAL_X`, `OLLAMA_X`, `corral.toml`, the default. But for what runners
are to see of it (runner/environment.py), nobody else reads the environment. Ollama's variables keep Ollama's leniency
where a script may rely on it (a bad unsigned number or duration means the default, as in envconfig/config.go); it is
reported in `Settings.notices`. A bad `CORRAL_*` value or `corral.toml` entry raises SettingsError naming variable,
value and accepted form.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any

from corral.address import Address
from corral.durations import FOREVER
from corral.settingvalues import (
    AS_OLLAMA,
    UNREADABLE,
    SettingsError,
    choice,
    read_bool,
    read_bytes,
    read_cluster,
    read_host,
    read_keys,
    read_list,
    read_pins,
    read_seconds,
    read_stall,
    read_uint,
    setting,
    without_effect,
)


@dataclass(frozen=True)
class Settings:
    """All settings; units stand in the names. `docs/configuration.md` and `serve --help` are made from these fields."""

    host: Address = setting(Address(), "HOST", read_host, "address to listen on, or to connect to", guarded=True)
    models: Path = setting(Path("~/.corral/models"), "MODELS", Path, "the model store (Ollama's layout)", guarded=True)
    keep_alive_s: float = setting(300.0, "KEEP_ALIVE", read_seconds, "how long an idle model stays loaded")
    keep_alive_min_s: float = setting(0.0, "KEEP_ALIVE_MIN", read_seconds, "shortest keep_alive a request may ask for")
    keep_alive_max_s: float = setting(
        FOREVER, "KEEP_ALIVE_MAX", read_seconds, "longest keep_alive a request may ask for"
    )
    pinned: tuple[str, ...] = setting((), "PIN", read_list, "models that are never unloaded when idle")
    preload: tuple[str, ...] = setting((), "PRELOAD", read_list, "models to load at start")
    restore_loaded: bool = setting(False, "RESTORE", read_bool, "load at start what was loaded at the last stop")
    load_timeout_s: float = setting(300.0, "LOAD_TIMEOUT", read_stall, "how long a load may make no progress")
    hang_timeout_s: float = setting(30.0, "HANG_TIMEOUT", read_stall, "how long a busy engine may make no progress")
    ping_interval_s: float = setting(
        10.0, "PING_INTERVAL", read_stall, "how long a stream of /v1 may be silent before a ping keeps it alive"
    )
    drain_timeout_s: float = setting(
        8.0, "DRAIN_TIMEOUT", read_seconds, "how long SIGTERM waits for requests in flight"
    )
    context_length: int = setting(0, "CONTEXT_LENGTH", read_uint, "default num_ctx; 0 = automatic")
    num_parallel: int = setting(0, "NUM_PARALLEL", read_uint, "slots per model; 0 = automatic (4, 2 or 1 by memory)")
    max_loaded_models: int = setting(0, "MAX_LOADED_MODELS", read_uint, "models loaded at once; 0 = automatic")
    max_queue: int = setting(512, "MAX_QUEUE", read_uint, "requests that may wait for a model or a slot")
    max_transfer_streams: int = setting(4, "MAX_TRANSFER_STREAMS", read_uint, "ranges of a blob fetched at once")
    max_body_bytes: int = setting(256 * 2**20, "MAX_BODY", read_bytes, "largest request body")
    origins: tuple[str, ...] = setting(
        (), "ORIGINS", read_list, "browser origins allowed besides the local ones", guarded=True
    )
    flash_attention: bool | None = setting(None, "FLASH_ATTENTION", read_bool, "flash attention; unset = automatic")
    kv_cache_type: str = setting(
        "",
        "KV_CACHE_TYPE",
        choice("", "f16", "f32", "bf16", "q8_0", "q4_0"),
        "type of the KV cache",
        "f16, q8_0 or q4_0",
    )
    go_template: bool | None = setting(
        None, "GO_TEMPLATE", read_bool, "prefer a model's Go template over its Jinja one"
    )
    runner_room_bytes: int = setting(
        0,
        "RUNNER_ROOM",
        read_bytes,
        "memory that a runner may take beside what was planned for it; 0 = 1 GiB, with images 2 GiB",
    )
    gpu_overhead_bytes: int = setting(0, "GPU_OVERHEAD", read_uint, "bytes to leave free per GPU")
    sched_spread: bool = without_effect(
        False, "SCHED_SPREAD", read_bool, "a model is spread over all GPUs anyway, unless `main_gpu` names one"
    )
    cluster_placement: str = setting(
        "spread",
        "CLUSTER_PLACEMENT",
        choice("spread", "pack"),
        "where a cluster loads models: on the emptiest nodes, or on the fullest that hold them",
        "spread or pack",
    )
    cluster_pin: tuple[str, ...] = setting(
        (),
        "CLUSTER_PIN",
        read_pins,
        "the only nodes of a cluster that these models are loaded on; a model may have several",
        "model=node, separated by commas",
    )
    llm_library: str = without_effect(
        "", "LLM_LIBRARY", str, "an engine has one backend; install another build of it, or name one with LLAMA_SERVER"
    )
    no_prune: bool = setting(False, "NOPRUNE", read_bool, "keep unreferenced blobs")
    debug: int = setting(
        0, "DEBUG", lambda text: int(text) if text.isdecimal() else int(read_bool(text)), "1 debug, 2 trace"
    )
    no_cloud: bool = without_effect(True, "NO_CLOUD", read_bool, "Corral has no cloud features")
    no_history: bool = setting(False, "NOHISTORY", read_bool, "do not keep the REPL's history")
    defaults: str = setting(
        "ollama", "DEFAULTS", choice("ollama", "guide"), "table of option defaults", "ollama or guide"
    )
    on_overflow: str = setting(
        "truncate", "ON_OVERFLOW", choice("truncate", "error"), "a prompt over the context window", "truncate or error"
    )
    strict: bool = setting(False, "STRICT", read_bool, "refuse unknown or unsupported parameters")
    generic_tools: bool = setting(False, "GENERIC_TOOLS", read_bool, "prompted tools for models that have none")
    fetch_images: bool = setting(False, "FETCH_IMAGES", read_bool, "let clients name images by http URL", guarded=True)
    limit_rate: int = setting(0, "LIMIT_RATE", read_bytes, "bytes per second of all downloads; 0 = no limit")
    mirrors: tuple[str, ...] = setting(
        (), "MIRRORS", read_list, "registry mirrors to try first, in order", guarded=True
    )
    threads: int = setting(0, "THREADS", read_uint, "threads per runner; 0 = measured")
    tune: str = setting(
        "auto", "TUNE", choice("auto", "off"), "measure a model's launch settings once, while idle", "auto or off"
    )
    saved_conversations_bytes: int = setting(
        4 * 2**30, "SAVED_CONVERSATIONS", read_bytes, "bytes of conversations kept on disk over unloads; 0 = none"
    )
    files_bytes: int = setting(
        4 * 2**30, "FILES_MAX", read_bytes, "bytes of files kept for batches (/v1/files), for each key"
    )
    files_keep_s: float = setting(30 * 86400.0, "FILES_KEEP", read_seconds, "how long files and ended batches are kept")
    batch_parallel: int = setting(
        0, "BATCH_PARALLEL", read_uint, "lines of batches asked at once; 0 = as many as a model has slots"
    )
    sandbox: bool = setting(
        True, "SANDBOX", read_bool, "confine runners (Landlock, seccomp) where the kernel can", guarded=True
    )
    kernels: str = setting(
        "auto",
        "KERNELS",
        choice("auto", "off"),
        "make kernels for this processor while idle, where a C++ compiler is",
        "auto or off",
        guarded=True,
    )
    speculation: str = setting(
        "auto", "SPECULATION", choice("auto", "off"), "draft what the text repeats of itself, on CPU", "auto or off"
    )
    huge_pages: str = setting(
        "auto", "HUGE_PAGES", choice("auto", "off"), "huge pages for weights and KV cache on CPU", "auto or off"
    )
    llama_server: str = setting(
        "", "LLAMA_SERVER", str, "an external llama-server binary to run instead of xllamacpp", guarded=True
    )
    api_keys: tuple[str, ...] = setting(
        (), "API_KEYS", read_keys, "keys to demand of clients; unset = none", guarded=True
    )
    share_cache: bool = setting(
        False, "SHARE_CACHE", read_bool, "let the holders of several keys find each other's prompts", guarded=True
    )
    share: bool = setting(
        False, "SHARE", read_bool, "let others pull the models from here, as from a registry (/v2)", guarded=True
    )
    share_upstream: tuple[str, ...] = setting(
        (),
        "SHARE_UPSTREAM",
        read_list,
        "names (as library/*) that a sharing server fetches from their registry when asked; unset = none",
        guarded=True,
    )
    cluster: str = setting("", "CLUSTER", read_cluster, "a Ray cluster to run models on; unset = here", guarded=True)
    open: bool = setting(False, "OPEN", read_bool, "without keys, serve clients at public addresses too", guarded=True)
    home: Path = setting(Path("~/.corral"), "HOME", Path, "keys, history, logs, tuning results", guarded=True)
    markdown: bool = setting(False, "MARKDOWN", read_bool, "draw answers on a terminal as Markdown, block by block")
    editor: str = setting("", "EDITOR", str, "editor for Ctrl+G in the REPL", guarded=True)
    color: bool = True  # off by NO_COLOR, whatever its value (no-color.org)
    notices: tuple[str, ...] = ()

    @property
    def separates_keys(self) -> bool:
        """Whether what was asked with one key must not be found with another."""
        return len(set(self.api_keys)) > 1 and not self.share_cache

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
        """Read everything once. `flags` are field names with final values. Raises SettingsError."""
        environ = os.environ if environ is None else environ  # noqa: TID251  the one place that may
        notices: list[str] = []
        table = _read_tables(environ, notices)
        values: dict[str, Any] = {}
        for item in fields(cls):
            if "env" not in item.metadata:
                continue
            value = _find(item.metadata, item.name, environ, table, notices)
            if value is MISSING:
                continue
            values[item.name] = value
            if item.name == "host" and value.bad_port:
                notices.append(f"{item.metadata['env']}: {value.bad_port} is no port, {value.port} is used")
            if value != item.default and not item.metadata["effect"]:
                notices.append(f"{item.metadata['env']} is set and has {item.metadata['doc']}")
        values |= flags or {}
        home = Path(environ.get("HOME", "/"))
        for name in ("models", "home"):
            path = values.get(name, cls.__dataclass_fields__[name].default)
            text = str(path)
            values[name] = home / text[2:] if text.startswith("~/") else Path(text)
        if not values.get("editor"):
            values["editor"] = environ.get("VISUAL") or environ.get("EDITOR") or "vi"
        known = [item for item in fields(cls) if "env" in item.metadata]
        unknown = set(table) - {item.name for item in known} - {item.metadata["env"].lower() for item in known}
        if unknown:
            raise SettingsError("corral.toml", ", ".join(sorted(unknown)), "settings named in docs/configuration.md")
        return cls(**{"color": not environ.get("NO_COLOR"), **values}, notices=tuple(notices))


def _find(
    meta: Mapping[str, Any], name: str, environ: Mapping[str, str], table: Mapping[str, Any], notices: list[str]
) -> Any:
    read, accepted = meta["read"], meta["accepted"]
    for prefix in ("CORRAL_", "OLLAMA_"):
        variable = prefix + meta["env"]
        text = environ.get(variable, "").strip().strip("\"'").strip()
        if not text and not (read is read_keys and variable in environ):
            continue
        try:
            return (AS_OLLAMA.get(read, read) if prefix == "OLLAMA_" else read)(text)
        except UNREADABLE as error:
            if prefix == "CORRAL_":
                raise SettingsError(variable, text, accepted) from error
            notices.append(f"{variable}={text!r} ignored: expected {accepted}")
            return MISSING
    key = name if name in table else meta["env"].lower()
    if key not in table:
        return MISSING
    value = table[key]
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        return read(text)
    except UNREADABLE as error:
        raise SettingsError(f"corral.toml: {key}", text, accepted) from error


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with some variables set: for a program that takes this process's place."""
    return {**os.environ, **variables}  # noqa: TID251  the one place that may


def _read_tables(environ: Mapping[str, str], notices: list[str]) -> dict[str, Any]:
    """`$CORRAL_CONFIG`, else `~/.corral/corral.toml` and over it what `./corral.toml` may set."""
    named = environ.get("CORRAL_CONFIG", "")
    if named:
        table = _read_toml(Path(named))
        if table is None:
            raise SettingsError("CORRAL_CONFIG", named, "a file that exists")
        return table
    guarded = {key for item in fields(Settings) if item.metadata.get("guarded") for key in _keys(item)}
    local = _read_toml(Path("corral.toml")) or {}
    for key in sorted(guarded & local.keys()):
        why = "a file in the current folder cannot set it; set it in ~/.corral/corral.toml, or name the file in"
        notices.append(f"./corral.toml: {key} ignored: {why} CORRAL_CONFIG")
        del local[key]
    table = _read_toml(Path(environ.get("HOME", "/")) / ".corral/corral.toml") or {}
    for item in fields(Settings):
        if "env" in item.metadata and any(key in local for key in _keys(item)):
            for key in _keys(item):
                table.pop(key, None)  # whichever of the two spellings it has
    return table | local


def _keys(item: Field[Any]) -> tuple[str, str]:
    """The two spellings of a setting in corral.toml."""
    return item.name, item.metadata["env"].lower()


def _read_toml(path: Path) -> dict[str, Any] | None:
    """A file's table; None when there is no file."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:  # bad TOML, or no UTF-8
        raise SettingsError(str(path), str(error), "TOML") from error
    except OSError as error:
        raise SettingsError(str(path), error.strerror or "", "a file that can be read") from error
