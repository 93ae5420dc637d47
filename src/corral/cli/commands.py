"""The command table: names, arguments, flags, help, and where the code is. No command's code is imported here."""

from __future__ import annotations

from dataclasses import dataclass

from corral.cli.flags import Count, Flag

_HOST = ("HOST",)


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `code`: `module:function` below corral.cli; `variables`: settings shown in its help, no prefix."""

    use: str
    short: str
    code: str
    count: Count = Count()
    flags: tuple[Flag, ...] = ()
    aliases: tuple[str, ...] = ()
    needs_server: bool = True
    starts_server: bool = False  # start one in the background when none answers
    variables: tuple[str, ...] = _HOST
    shows_usage: bool = False  # when arguments are missing: the first command that people type
    detail: str = ""  # printed below the description in the command's help

    @property
    def name(self) -> str:
        """The first word of its usage."""
        return self.use.partition(" ")[0]


_INSECURE = Flag("insecure", "bool", "Use an insecure registry")
_SERVE_FLAGS = (
    Flag("cluster", "string", "Run models on a Ray cluster: auto, local:N, ray://host:port or host:port"),
    Flag("share", "bool", "Let others pull the models of this server, as from a registry"),
)
_JSON = Flag("json", "bool", "Print the server's answer as JSON")
_SHOW_FLAGS = (
    Flag("insecure", "bool", "With --remote: use an insecure registry"),
    _JSON,
    Flag("license", "bool", "Show license of a model"),
    Flag("modelfile", "bool", "Show Modelfile of a model"),
    Flag("parameters", "bool", "Show parameters of a model"),
    Flag("remote", "bool", "Show what pulling the model would fetch"),
    Flag("system", "bool", "Show system message of a model"),
    Flag("template", "bool", "Show template of a model"),
    Flag("verbose", "bool", "Show detailed model information", short="v"),
)
_RUN_FLAGS = (
    Flag("dimensions", "int", "Truncate output embeddings to this many dimensions (embedding models only)"),
    Flag("format", "string", "Response format: json, or a JSON schema"),
    Flag("hidethinking", "bool", "Hide thinking output"),
    _INSECURE,
    Flag("keepalive", "string", "Duration to keep a model loaded (e.g. 5m)"),
    Flag("nowordwrap", "bool", "Don't wrap words to the next line automatically"),
    Flag("think", "string", "Thinking mode: true, false, or high, medium, low, max", bare="true"),
    Flag("truncate", "bool", "Truncate inputs over the context length; =false is an error instead (embedding models)"),
    Flag("verbose", "bool", "Show timings for response"),
)
_CREATE_FLAGS = (
    Flag("draft-quantize", "string", "Quantize draft model to this level"),
    Flag("file", "string", 'Name of the Modelfile (default "Modelfile")', short="f"),
    Flag("quantize", "string", "Quantize model to this level (e.g. q4_K_M)", short="q"),
)
ROOT_FLAGS = (
    Flag("nowordwrap", "bool", "Don't wrap words to the next line automatically"),
    Flag("verbose", "bool", "Show timings for response"),
    Flag("version", "bool", "Show version information", short="v"),
)
ROOT_SHORT = "Large language model runner"

COMMANDS = (
    Command(
        "serve",
        "Start the server",
        "serve:serve",
        Count(0, 0),
        _SERVE_FLAGS,
        aliases=("start",),
        needs_server=False,
        variables=("*",),
    ),
    Command("create MODEL", "Create a model", "create:create", Count(1, 1), _CREATE_FLAGS, starts_server=True),
    Command("show MODEL", "Show information for a model", "show:show", Count(1, 1), _SHOW_FLAGS, starts_server=True),
    Command(
        "run MODEL [PROMPT]",
        "Run a model",
        "run:run",
        Count(1),
        _RUN_FLAGS,
        starts_server=True,
        shows_usage=True,
        variables=("EDITOR", "HOST", "MARKDOWN", "NOHISTORY"),
    ),
    Command(
        "ui",
        "Open the server's page in the browser",
        "ui:open_page",
        Count(0, 0),
        starts_server=True,
        detail="Chat, models and what the server is doing, at /ui on the server's own port; also of a remote server.",
    ),
    Command(
        "stop [MODEL]",
        "Stop a running model, or the server",
        "models:stop",
        Count(0, 1),
        (Flag("server", "bool", "Stop the server itself, when it is on this machine"),),
    ),
    Command(
        "pull MODEL", "Pull a model from a registry", "transfer:pull", Count(1, 1), (_INSECURE,), starts_server=True
    ),
    Command("push MODEL", "Push a model to a registry", "transfer:push", Count(1, 1), (_INSECURE,)),
    Command(
        "login HOST",
        "Keep a key for another Corral, or a registry, that asks for one",
        "login:login",
        Count(1, 1),
        needs_server=False,
        variables=("HOME",),
        detail="The key is typed unseen, or read from the input. It is shown to this host and port only.",
    ),
    Command("logout HOST", "Forget a key", "login:logout", Count(1, 1), needs_server=False, variables=("HOME",)),
    Command(
        "list",
        "List models",
        "models:list_models",
        flags=(_JSON, Flag("available", "bool", "List what pull takes from the Python package index")),
        aliases=("ls",),
        starts_server=True,
    ),
    Command(
        "ps",
        "List running models",
        "models:list_running",
        flags=(_JSON, Flag("watch", "bool", "Show it anew every second until Ctrl+C", short="w")),
    ),
    Command(
        "top",
        "Watch models, slots, queue, speed and memory live",
        "top:top",
        Count(0, 0),
        detail="k stops the request under the cursor, p pauses, q quits.",
    ),
    Command(
        "launch [PROGRAM] [-- ARGUMENTS]",
        "Start a coding agent with a model of this server (claude, codex, opencode, aider, copilot)",
        "launch:launch",
        flags=(
            Flag("dry-run", "bool", "Only say what would be set, written and run"),
            Flag("model", "string", "Model to use; remembered for the next time"),
            Flag("num-ctx", "int", "Use the model with a window of this many tokens"),
            Flag("yes", "bool", "Take the first model instead of asking", short="y"),
        ),
        needs_server=False,  # but it starts one before it starts a program
        detail=(
            "All goes by variables and arguments; no file of the program's own is changed: there is nothing to undo.\n"
            "Without PROGRAM: what is installed."
        ),
    ),
    Command(
        "batch FILE",
        "Answer a file of requests when nobody else wants anything",
        "batch:batch",
        Count(1, 1),
        (
            Flag("cancel", "bool", "Ask no more lines, and fetch what there is"),
            Flag("endpoint", "string", 'What the lines ask (default "/v1/chat/completions")'),
            Flag("model", "string", "Model of the lines that name none"),
            Flag("output", "string", "File for the results", short="o"),
        ),
        starts_server=True,
        detail=(
            "FILE has a request a line, as OpenAI's batches have it, or just the request's body. Killed and\n"
            "run again, the command goes on where it was. Exit status 1 when a line has no answer."
        ),
    ),
    Command("cp SOURCE DESTINATION", "Copy a model", "models:copy", Count(2, 2)),
    Command("rm MODEL [MODEL...]", "Remove a model", "models:remove", Count(1)),
    Command(
        "tune MODEL",
        "Measure which launch settings suit a model on this host",
        "tune:tune",
        Count(1, 1),
        detail=(
            "Tries numbers of threads, and flash attention off; takes up to a minute, and memory for a second copy of\n"
            "the model. The best is remembered and used from the next load on."
        ),
    ),
    Command(
        "import SOURCE [DIRECTORY]",
        "Take over models of another program",
        "care:import_models",
        Count(1, 2),
        (Flag("copy", "bool", "Copy files that cannot be linked"),),
        needs_server=False,
        variables=("MODELS",),
        detail=(
            "SOURCE is ollama, lmstudio or hf-cache; DIRECTORY is where its models are when not in the usual place.\n"
            "Or it is a file that export wrote, of which all models are taken.\n"
            "Files are linked where the file system can, so nothing is stored twice."
        ),
    ),
    Command(
        "export MODEL [MODEL...]",
        "Write models to one file, for machines without a network",
        "care:export_models",
        Count(1),
        (Flag("output", "string", "File to write", short="o"),),
        needs_server=False,
        variables=("MODELS",),
        detail="The file is an OCI archive; `corral import FILE` takes all models of one, skopeo and others read it.",
    ),
    Command(
        "fsck",
        "Check every model and blob of the store",
        "care:fsck",
        Count(0, 0),
        (Flag("repair", "bool", "Move damaged files aside so that pull fetches them again"),),
        needs_server=False,
        variables=("MODELS",),
    ),
    Command(
        "prune",
        "Delete blobs that no model uses",
        "care:prune",
        Count(0, 0),
        needs_server=False,
        variables=("MODELS",),
    ),
    Command(
        "doctor",
        "Look at the server, the engine and this machine, and say what is slow or wrong",
        "doctor:doctor",
        Count(0, 0),
        (Flag("json", "bool", "Print the findings as JSON"),),
        needs_server=False,
        variables=("HOST", "MODELS"),
    ),
    Command(
        "engine ACTION",
        "Say which kernels compute here, or make those that suit this processor (status or build)",
        "engine:engine",
        Count(1, 1),
        (Flag("zig", "bool", "Fetch a compiler from the package index (about 100 MB)"),),
        needs_server=False,
        variables=("HOME", "HUGE_PAGES", "KERNELS"),
        detail=(
            "build compiles one library of the engine's own sources, fetched through pip and checked by digest, and\n"
            "uses it only after a process of its own has given the same answers with it. A minute or two, once."
        ),
    ),
    Command(
        "completion SHELL",
        "Print a script that completes commands and model names (bash, zsh or fish)",
        "completion:script",
        Count(1, 1),
        needs_server=False,
        detail=(
            'bash: eval "$(corral completion bash)"        zsh: eval "$(corral completion zsh)"\n'
            "fish: corral completion fish | source"
        ),
    ),
)
HELP_SHORT = "Help about any command"


def find_command(word: str) -> Command | None:
    """The command of this name or alias."""
    return next((command for command in COMMANDS if word == command.name or word in command.aliases), None)


def suggestions(word: str) -> list[str]:
    """Command names close to a mistyped word: two edits away at most, or beginning with it."""
    names = [command.name for command in COMMANDS] + ["help"]
    typed = word.lower()
    return [name for name in names if _distance(typed, name) <= 2 or name.startswith(typed)]


def _distance(left: str, right: str) -> int:
    """Levenshtein's edit distance."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
