"""The REPL: reads lines, collects multi-line messages, hands commands to `slash.py`, sends the rest to the model."""

from __future__ import annotations

from pathlib import Path

from corral.cli.answer import AnswerPrinter, WordWrap, format_stats, print_answer
from corral.cli.api import ServerError, ServerNotRunning, ServerUnreachable, is_loopback
from corral.cli.attachments import UnusableFile, attach, candidates, tell_unseen
from corral.cli.completing import completions
from corral.cli.completion import stored_models
from corral.cli.context import Context
from corral.cli.editor import EditorFailed, EditRequested, LineEditor, QuietTerminal, edit_outside
from corral.cli.history import History
from corral.cli.session import Session, WireMessage
from corral.cli.slash import SlashCommands
from corral.cli.transfer import print_warnings

_BLOCK = '"""'
_SERVERS_OWN = 500  # from this status on it is not the request that is wrong


class Chat:
    """One interactive conversation; `run` is its whole life."""

    def __init__(self, context: Context, session: Session) -> None:
        self._context = context
        self._console = context.console
        self._session = session
        home, keep = context.settings.home, not context.settings.no_history
        self._history = History(home / "history", saving=keep)
        self._slash = SlashCommands(context, session, self._history)
        self._editor = LineEditor(self._console, self._history, self._complete)
        self._terminal = QuietTerminal(context.console)
        self._prefill = ""
        self._edits = False  # the next message takes the last one's place

    def run(self) -> int:
        """Converse until /bye or Ctrl+D; returns the exit status. Raises CorralError when the server fails."""
        self._print_loaded_messages()
        with self._terminal:
            return self._converse()

    def _converse(self) -> int:
        while True:
            try:
                line = self._editor.read(prefill=self._prefill)
                self._prefill = ""
                if not self._take(line):
                    return 0
            except (ServerNotRunning, ServerUnreachable) as error:  # a command's; messages tell of theirs
                self._console.note(f"Error: {error}")
            except EOFError:
                self._console.print()
                return 0
            except KeyboardInterrupt:
                self._prefill, self._edits = "", False
                self._console.print("\nUse Ctrl + d or /bye to exit.")
            except EditRequested as request:
                self._edit(request.text)

    def _take(self, line: str) -> bool:
        """One line; False ends the conversation."""
        if line.startswith(_BLOCK):
            self._send(self._block(line.removeprefix(_BLOCK)))
        elif line.split() == ["/regenerate"]:
            self._regenerate()
        elif line.split() == ["/edit"]:
            self._edit_last()
        elif line.startswith("/") and not self._is_file(line):
            system = self._slash.opens_block(line)
            if system is None:
                return self._slash.run(line)
            self._slash.set_system(self._block(system))
        elif line:
            self._send(line)
        return True

    def _block(self, first: str) -> str:
        """A text from after its opening quotes to the line that ends with the closing ones."""
        lines = [first]
        while not lines[-1].endswith(_BLOCK):
            lines.append(self._editor.read(more=True))
        return "\n".join(lines).removesuffix(_BLOCK)

    def _is_file(self, line: str) -> bool:
        """Whether a line that begins with a slash is a message that begins with a picture's path."""
        first = line.split()[0]
        return any(c.startswith(first) and (self._session.multimodal or Path(c).is_file()) for c in candidates(line))

    def _complete(self, line: str) -> list[str]:
        return completions(line, self._slash.names, self._slash.settings, lambda: stored_models(self._context.settings))

    def _regenerate(self) -> None:
        """Answer the last message anew."""
        messages = self._session.messages
        has_question = bool(messages) and messages[-1]["role"] == "user"  # its answer was stopped before it began
        if has_question or self._session.take_back("assistant") is not None:
            self._answer_or_tell()
        else:
            self._console.print("There is no answer yet.")

    def _edit_last(self) -> None:
        """Put the last message back into the line; sending it drops what it replaces, Ctrl+C leaves all as it was."""
        texts = [str(message["content"]) for message in self._session.messages if message["role"] == "user"]
        if not texts:
            self._console.print("There is no message yet.")
            return
        self._prefill, self._edits = texts[-1], True

    def _edit(self, text: str) -> None:
        try:
            with self._terminal.lent():
                edited = edit_outside(text, self._context.settings.editor)
        except (EditorFailed, OSError) as error:
            self._console.note(f"error: {error}")
            return
        self._prefill = edited if edited.strip() else ""

    def _send(self, text: str) -> None:
        if not text:
            return
        message: WireMessage = {"role": "user", "content": text}
        tell_unseen(text, self._console, self._session.model, sees=self._session.multimodal)
        if self._session.multimodal:
            try:
                message["content"], images = attach(text, self._console)
            except UnusableFile:
                return  # reported; the conversation goes on
            if images:
                message["images"] = images
        if self._edits:
            self._session.take_back("user")
            self._edits = False
        self._session.messages.append(message)
        if not self._answer_or_tell():
            self._session.take_back("user")
            self._prefill = text  # to be sent again

    def _answer_or_tell(self) -> bool:
        """Whether the message has had its chance; False when the server or the model's process went away meanwhile."""
        try:
            self._answer_from_somebody()
        except (ServerNotRunning, ServerUnreachable) as error:
            self._console.note(f"Error: {error}")
            return False
        except ServerError as error:
            if self._is_recoverable(error):
                return True
            if 0 < error.status < _SERVERS_OWN:
                raise
            self._console.note(f"Error: {error}")
            return False
        return True

    def _answer_from_somebody(self) -> None:
        """Answer; a server that is gone is started again, as `run` has started it."""
        try:
            self._answer()
        except ServerNotRunning:
            if not is_loopback(self._context.settings.host):
                raise
            from corral.cli.background import start_server

            start_server(self._context)
            self._answer()

    def _answer(self) -> None:
        session = self._session
        printer = AnswerPrinter(self._console, session.style)
        events = self._context.api.stream("/api/chat", session.chat_body())
        last, cancelled = print_answer(self._console, printer, events)
        if cancelled:
            self._console.print("\n(stopped)\n" if printer.content else "")
            if printer.content:
                session.messages.append({"role": "assistant", "content": printer.content})
            return
        self._console.print("\n")
        print_warnings(self._context, last.get("warnings") or [])
        if session.verbose:
            self._console.note(format_stats(last), end="")
        answer: WireMessage = {"role": "assistant", "content": printer.content}
        if printer.thinking:
            answer["thinking"] = printer.thinking
        session.messages.append(answer)

    def _is_recoverable(self, error: ServerError) -> bool:
        """Report an error that the conversation survives. These three are told apart by text, as Ollama's CLI does."""
        if "does not support thinking" in error.text or "invalid think value" in error.text:
            self._console.print(f"error: {error}")
        elif "upstream error" in error.text:
            self._console.print("An error occurred while processing your message. Please try again.\n")
        else:
            return False
        return True

    def _print_loaded_messages(self) -> None:
        for message in self._session.loaded_messages:
            content = str(message.get("content") or "")
            if message.get("role") == "user":
                self._console.print(f">>> {content}")
            elif message.get("role") == "assistant":
                columns = self._console.size().columns if self._session.word_wrap else 0
                self._console.print(WordWrap(columns).feed(content) + "\n")
