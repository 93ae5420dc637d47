"""What the REPL's help prints: own words, Ollama's commands."""

from __future__ import annotations

from collections.abc import Iterable


def _listing(title: str, rows: Iterable[tuple[str, str]], width: int) -> str:
    return f"{title}:\n" + "".join(f"  {name:<{width}} {doc}\n" for name, doc in rows)


def main(*, multimodal: bool) -> str:
    """The answer to `/?`."""
    attach = "Write the path of a .jpg, .png or .webp image or a .wav file to attach it.\n" if multimodal else ""
    return f'{_COMMANDS}\nBegin and end a message of several lines with """.\n{attach}'


_COMMANDS = _listing(
    "Available Commands",
    (
        ("/set", "Set session variables"),
        ("/show", "Show model information"),
        ("/load <model>", "Change to a model, with an empty conversation"),
        ("/model <model>", "Change to a model, keeping the conversation"),
        ("/regenerate", "Answer the last message anew"),
        ("/edit", "Change the last message and send it again"),
        ("/system [text]", "Show or set the system message"),
        ("/save <model>", "Save the session as a model; /save! replaces one"),
        ("/save <file>", "Save the conversation as JSON (name ending in .json)"),
        ("/load <file>", "Load a saved conversation"),
        ("/list", "List models"),
        ("/clear", "Clear session context"),
        ("/bye, /quit", "Exit"),
        ("/?, /help", "Help for a command"),
        ("/? shortcuts", "Help for keyboard shortcuts"),
    ),
    15,
)

SET = _listing(
    "Available Commands",
    (
        ("/set parameter ...", "Set a parameter"),
        ("/set system <string>", "Set system message"),
        ("/set history", "Save history"),
        ("/set nohistory", "Do not save history"),
        ("/set wordwrap", "Wrap lines between words"),
        ("/set nowordwrap", "Do not wrap lines"),
        ("/set format json", "Answer in JSON"),
        ("/set noformat", "Answer freely"),
        ("/set markdown", "Show answers as Markdown, block by block"),
        ("/set nomarkdown", "Show answers as they are written"),
        ("/set verbose", "Show statistics"),
        ("/set quiet", "Do not show statistics"),
        ("/set think [level]", "Let the model think"),
        ("/set nothink", "Do not let the model think"),
    ),
    22,
)

SHOW = _listing(
    "Available Commands",
    (
        ("/show info", "Show details for this model"),
        ("/show license", "Show model license"),
        ("/show modelfile", "Show Modelfile for this model"),
        ("/show parameters", "Show parameters for this model"),
        ("/show system", "Show system message"),
        ("/show template", "Show prompt template"),
    ),
    18,
)

PARAMETERS = _listing(
    "Available Parameters",
    (
        ("/set parameter seed <int>", "Random number seed"),
        ("/set parameter num_predict <int>", "Most tokens to predict"),
        ("/set parameter top_k <int>", "Pick from this many tokens"),
        ("/set parameter top_p <float>", "Pick from tokens that make up this probability"),
        ("/set parameter min_p <float>", "Pick from tokens at least this probable, relative to the best"),
        ("/set parameter num_ctx <int>", "Size of the context window"),
        ("/set parameter temperature <float>", "Degree of randomness"),
        ("/set parameter repeat_penalty <float>", "How strongly repetitions are penalized"),
        ("/set parameter repeat_last_n <int>", "How far back repetitions are looked for"),
        ("/set parameter num_gpu <int>", "Layers to send to the GPU"),
        ("/set parameter stop <string> ...", "Texts that end an answer"),
    ),
    38,
)

_SHORTCUTS = _listing(
    "Available keyboard shortcuts",
    (
        ("Ctrl + a, Home", "Start of the line"),
        ("Ctrl + e, End", "End of the line"),
        ("Alt + b, Alt + f", "One word left, right"),
        ("Ctrl + k", "Delete to the end"),
        ("Ctrl + u", "Delete to the start"),
        ("Ctrl + w", "Delete the word before the cursor"),
        ("Up, Down", "Earlier and later lines"),
        ("Tab", "Complete a command, its words, a model, a path"),
        ("Ctrl + j, Alt + Enter", "New line inside the message"),
        ("Ctrl + g", "Write the message in an editor"),
        ("Ctrl + l", "Clear the screen"),
        ("Ctrl + c", "Stop the answer, or drop the line"),
        ("Ctrl + d", "Exit"),
    ),
    18,
)

TOPICS = {"set": SET, "show": SHOW, "shortcut": _SHORTCUTS, "shortcuts": _SHORTCUTS}
