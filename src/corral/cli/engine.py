"""`corral engine status|build`: which kernels compute here and why; making those that suit this processor."""

from __future__ import annotations

from typing import NamedTuple

from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.config import Settings
from corral.runner.hugepages import offered_way
from corral.runner.kernels import PROVED, KernelsUnusable, check_pack, engine_version, pack_folder, read_pack
from corral.runner.processor import beyond_the_wheel, features

_ACTIONS = ("status", "build")
_BY_ZIG = "corral engine build --zig, which fetches a compiler"


def engine(context: Context) -> int:
    """`corral engine ACTION`; build exits 1 when the pack was refused."""
    action = context.words[0]
    if action not in _ACTIONS:
        raise UsageError(f'unknown action "{action}" for "corral engine": {" or ".join(_ACTIONS)}')
    return _status(context) if action == "status" else _build(context)


def _status(context: Context) -> int:
    settings = context.settings
    rows = [("engine", settings.llama_server or f"xllamacpp {engine_version()}")]
    rows.append(
        ("processor", ", ".join(beyond_the_wheel(features())) or "nothing that the engine's wheel leaves unused")
    )
    rows.append(("kernels", _kernels(settings)))
    rows.append(("huge pages", _huge_pages(context)))
    for label, text in rows:
        context.console.print(f"{label:<11} {text}")
    return 0


class KernelsInUse(NamedTuple):
    """Which kernels the next load computes with; better: the command that gives better ones, "" where there is none.

    made: whether they were made for this processor.
    """

    text: str
    better: str = ""
    made: bool = False


def _kernels(settings: Settings) -> str:
    found = kernels_in_use(settings)
    return f"{found.text}; better ones: {found.better}" if found.better else found.text


def kernels_in_use(settings: Settings) -> KernelsInUse:
    """What is used now, and what could be. Reads files below Corral's home."""
    from corral.kernels.build import find_compiler

    if settings.llama_server:
        return KernelsInUse("those of the external engine")
    if settings.kernels == "off":
        return KernelsInUse("built-in, since CORRAL_KERNELS is off")
    pack = read_pack(pack_folder(settings.home))
    if pack is not None:
        try:
            check_pack(pack)
        except KernelsUnusable as error:
            return KernelsInUse(f"built-in, since the made ones are not used: {error}")
        better = "" if "zig" in pack.compiler else _BY_ZIG
        text = f"made for this processor by {pack.compiler}: {', '.join(pack.features)}"
        return KernelsInUse(text, better, made=True)
    if not beyond_the_wheel(features()):
        return KernelsInUse("built-in; they use all that this processor has")
    if find_compiler() is None:
        return KernelsInUse("built-in, and no C++ compiler to make better ones", _BY_ZIG)
    return KernelsInUse("built-in", "corral engine build; an idle server does it by itself")


def _huge_pages(context: Context) -> str:
    if context.settings.huge_pages == "off":
        return "off, since CORRAL_HUGE_PAGES is off"
    if offered_way(execs=bool(context.settings.llama_server)):
        return "on for weights and KV caches on the CPU"
    return "not possible: the host's policy is 'never', or it has neither Linux 6.1 nor glibc 2.35, or later ones"


def _build(context: Context) -> int:
    from corral.kernels.build import build

    pack = build(context.settings.home, context.console.note, use_zig=context.parsed.flag("zig"))
    if pack.state != PROVED:
        context.console.note(f"the kernels are not used: {pack.why}")
        return 1
    context.console.print(f"kernels for {', '.join(pack.features)} are used from the next load on")
    return 0
