"""`corral show`: a model's description as tables, one field of it, or what a registry has under its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.formats import format_g, human_number
from corral.cli.models import print_json
from corral.cli.sections import TEXT_COLUMNS, Row, head, section
from corral.cli.table import width_of

_SELECTORS = ("license", "modelfile", "parameters", "system", "template")
_WITHOUT_NEWLINE = frozenset(["system", "template"])
_LIST_COLUMNS = 10  # a list in Metadata is cut to about this


def show(context: Context) -> None:
    """`corral show MODEL`: at most one selector flag."""
    chosen = [name for name in _SELECTORS if context.parsed.flag(name)]
    if len(chosen) > 1:
        raise UsageError(
            "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
        )
    verbose = context.parsed.flag("verbose")
    name = context.words[0]
    if context.parsed.flag("remote"):
        from corral.cli.remote import ask_registry, describe_remote

        remote = ask_registry(context.settings, name, insecure=context.parsed.flag("insecure"))
        context.console.print(describe_remote(remote), end="")
        return
    answer = context.api.show_model(name, verbose=verbose)
    if context.parsed.flag("json"):
        print_json(context, answer)
    elif chosen:
        end = "" if chosen[0] in _WITHOUT_NEWLINE else "\n"
        context.console.print(str(answer.get(chosen[0]) or ""), end=end)
    else:
        context.console.print(describe(answer, verbose=verbose), end="")
        for warning in answer.get("warnings") or []:
            context.console.note(f"Warning: {warning.get('message', '')}")


def describe(answer: Mapping[str, Any], *, verbose: bool = False) -> str:
    """All sections of a `/api/show` answer; the REPL's /show info prints it too."""
    info, projector = answer.get("model_info"), answer.get("projector_info")
    out = section("Model", _model_rows(answer))
    if answer.get("capabilities"):
        out += section("Capabilities", [(str(item),) for item in answer["capabilities"]])
    if projector is not None:
        out += section("Projector", _projector_rows(projector))
    if answer.get("parameters"):
        lines = str(answer["parameters"]).split("\n")
        out += section("Parameters", [tuple(line.split()) for line in lines if line])
    if verbose and info is not None:
        out += section("Metadata", [(key, _metadata_value(info[key])) for key in sorted(info)])
    if verbose and answer.get("tensors"):
        rows = ((t["name"], t["type"], f"[{' '.join(map(str, t['shape']))}]") for t in answer["tensors"])
        out += section("Tensors", rows)
    for title in ("System", "License"):
        if answer.get(title.lower()):
            out += section(title, head(str(answer[title.lower()])), wrap=TEXT_COLUMNS)
    return out


def _model_rows(answer: Mapping[str, Any]) -> list[Row]:
    details, info = answer.get("details") or {}, answer.get("model_info")
    rows: list[Row] = []
    if answer.get("remote_host"):
        rows += [("Remote model", str(answer.get("remote_model", ""))), ("Remote URL", str(answer["remote_host"]))]
    if info is None:
        rows += [("architecture", details.get("family", "")), ("parameters", details.get("parameter_size", ""))]
    else:
        arch = info.get("general.architecture") or ""
        count = info.get("general.parameter_count")
        size = details.get("parameter_size") or (human_number(int(count)) if _is_number(count) else "")
        rows += [(label, text) for label, text in (("architecture", arch), ("parameters", size)) if text]
        for label in ("context length", "embedding length"):
            value = info.get(f"{arch}.{label.replace(' ', '_')}")
            if _is_number(value):
                rows.append((label, _plain_number(value)))
    rows.append(("quantization", str(details.get("quantization_level", ""))))
    if answer.get("requires"):
        rows.append(("requires", str(answer["requires"])))
    return rows


def _projector_rows(info: Mapping[str, Any]) -> list[Row]:
    arch = str(info.get("general.architecture") or "")
    rows: list[Row] = [("architecture", arch)] if arch else []
    if _is_number(info.get("general.parameter_count")):
        rows.append(("parameters", human_number(int(info["general.parameter_count"]))))
    for label, key in (("embedding length", "embedding_length"), ("dimensions", "projection_dim")):
        values = (info.get(f"{arch}.{modality}.{key}") for modality in ("vision", "audio"))
        value = next((value for value in values if _is_number(value)), None)
        if value is not None:
            rows.append((label, _plain_number(value)))
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain_number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)


# Go type names of JSON values that Metadata has no form for.
_OTHER: tuple[tuple[type, str], ...] = ((dict, "map[string]interface {}"), (type(None), "<nil>"))


def _metadata_value(value: Any) -> str:
    if isinstance(value, list):
        return _cut_list(value)
    kind = next((name for type_, name in _OTHER if isinstance(value, type_)), "")
    return kind or _go_value(value)


def _go_value(value: Any) -> str:
    printers: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
        (bool, lambda item: "true" if item else "false"),
        ((int, float), format_g),
        (list, lambda item: f"[{' '.join(_go_value(child) for child in item)}]"),
        (type(None), lambda _: "<nil>"),
    )
    return next((show_as(value) for kind, show_as in printers if isinstance(value, kind)), str(value))


def _cut_list(values: list[Any]) -> str:
    """The first items, about ten columns of them, in Go's form."""
    columns, shown = 1, 0
    for i, value in enumerate(values):
        width = width_of(_go_value(value)) + (2 if i else 0)
        if i and columns + width > _LIST_COLUMNS:
            break
        columns += width
        shown += 1
    text = " ".join(_go_value(value) for value in values[:shown])
    more = len(values) - shown
    return f"[{text} ...+{more} more]" if more else f"[{text}]"
