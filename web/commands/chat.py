"""`anyloom chat`: a conversation in the terminal, one run of a workflow per turn.

The chat holds no more than names of files: the history of each turn is a file that its run wrote, and the next run goes
on from it. So undo is going back to an earlier name, and a chat on a server survives the server.

The person's lines are read in the main thread, where Ctrl-C arrives; engine and connection live on a loop in a thread.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from graph_engine.client import Result
from graph_engine.errors import AnyloomError, NotFoundError
from web.commands.chat_line import ATTACH, Command, Dropped, Words, is_medium, path_of, understand
from web.commands.chat_screen import Screen
from web.commands.chat_shelf import Shelf
from web.commands.chat_workflow import ChatWorkflow
from web.commands.flags import settings_of
from web.commands.loop import Loop
from web.commands.progress import describe
from web.commands.run import find, literals
from web.commands.session import Session, opened

HELP = f"""A line is a message; a line of nothing but paths (a file dropped here) attaches the files to the next message.
  {", ".join(f"/{name} PATH" for name in ATTACH)}
                     attach a file to the next message; <{ATTACH[0]}> in the message says where it stands
  /text WORDS        a message that would otherwise be taken for a command or a path
  /again             the last message once more, with new seeds
  /undo              take back the last message and its answer
  /clear             begin anew
  /history           what was said so far
  /trace             why the last answer has the media that it has
  /set INPUT VALUE   change an input of the workflow (/set temperature 0.7, /set draw.steps 20); /set alone lists them
  /save NAME         write the chat to NAME.zip; /load NAME goes on from there
  /quit              leave, as Ctrl-D does; Ctrl-C stops an answer"""


class Attachment(NamedTuple):
    name: str
    """As the workflow knows it."""
    read_as: str


class Message(NamedTuple):
    text: str
    attached: tuple[Attachment, ...]
    before: str
    """The history that it goes on from."""


class Turn(NamedTuple):
    message: Message
    after: str
    """The history with the answer."""


def chat(arguments: argparse.Namespace) -> int:
    """Until the input ends. 1 if nobody sat there and something went wrong, else 0."""
    screen, loop = Screen(arguments.plain), Loop()
    place = opened(arguments, settings_of(arguments), "anyloom chat")
    try:
        session = loop.do(place.__aenter__())
        try:
            document = loop.do(find(session, arguments.workflow))
            workflow = ChatWorkflow(document, loop.do(session.nodes()))
            workflow.values |= loop.do(literals(session, document, arguments.set))
            loop.do(session.validate(document, workflow.values))
            talk = Chat(session, workflow, screen, loop, Path(arguments.out))
            if screen.asks:
                _complete(talk.commands)
                screen.note(f"{document.get('title') or arguments.workflow}: type a message, or /help. /quit ends.")
                if workflow.is_tiny:
                    screen.note(
                        "The models are tiny and untrained: the answers are noise. `/set preset NAME` takes others."
                    )
            return talk.go_on()
        finally:
            loop.do(place.__aexit__(None, None, None))
    finally:
        loop.close()


class Chat:
    """`turns` are those of this sitting; before them lies `base`, a loaded history or none."""

    def __init__(self, session: Session, workflow: ChatWorkflow, screen: Screen, loop: Loop, out: Path) -> None:
        self.session, self.workflow, self.screen, self.loop, self.out = session, workflow, screen, loop, out
        self.shelf = Shelf(session, loop, out)
        self.base = ""
        self.turns: list[Turn] = []
        self.attached: list[Attachment] = []
        self.last: Message | None = None
        self.trace = ""
        self.faults = 0
        self.commands: dict[str, Callable[[str], None]] = {
            **{name: self._attaching(name) for name in ATTACH},
            "text": self.say,
            "again": self.again,
            "undo": self.undo,
            "clear": self.clear,
            "history": self.tell,
            "trace": self.why,
            "set": self.set,
            "save": self.keep,
            "load": self.load,
            "help": lambda rest: screen.note(HELP),
        }

    @property
    def history(self) -> str:
        return self.turns[-1].after if self.turns else self.base

    def go_on(self) -> int:
        """Line by line; a line that fails leaves the chat as it was."""
        while True:
            try:
                line = self.screen.ask(f"you +{len(self.attached)}> " if self.attached else "you> ")
                if line is None or not self._take(line):
                    break
            except KeyboardInterrupt:
                self.screen.answer("")
                if not self.screen.asks:
                    return 130
                self.screen.note("/quit or Ctrl-D ends the chat.")
            except AnyloomError as error:
                self._fault(error)
            except BrokenPipeError:  # the reader of our output has seen enough
                raise
            except OSError as error:
                self._fault(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
        return 1 if self.faults and not self.screen.asks else 0

    def _take(self, line: str) -> bool:
        """False when the person leaves."""
        match understand(line):
            case Words(text):
                self.say(text)
            case Dropped(paths):
                for path in paths:
                    self._attach(path, "")
            case Command(("quit" | "exit"), _):
                return False
            case Command(name, rest) if name in self.commands:
                self.commands[name](rest)
            case Command(name, _):
                known = ", ".join(f"/{word}" for word in (*self.commands, "quit"))
                raise NotFoundError(f"there is no command /{name}.", remedy=f"There are {known}.", code="no_command")
        return True

    def _fault(self, error: object) -> None:
        self.faults += 1
        self.screen.error(error)

    # --- what goes in -------------------------------------------------------------------------------------------

    def _attaching(self, modality: str) -> Callable[[str], None]:
        return lambda rest: self._attach(path_of(rest), modality)

    def _attach(self, path: Path, modality: str) -> None:
        if not modality and not is_medium(path):
            raise NotFoundError(
                f"{path} is no picture, video or sound.", remedy="Say what it is: /image, /video, /audio."
            )
        name = self.loop.do(self.session.upload(path))
        self.attached.append(Attachment(name, modality))
        self.screen.note(f"attached {path.name}; it goes with the next message.")

    def say(self, text: str) -> None:
        """A message with what was attached; kept attached when there is no answer."""
        if not text and not self.attached:
            self.screen.note("say something, or attach a file.")
            return
        self.last = Message(text, tuple(self.attached), self.history)
        self.attached.clear()
        if after := self._answer(self.last, {}):
            self.turns.append(Turn(self.last, after))

    def again(self, rest: str = "") -> None:
        if self.last is None:
            self.screen.note("there is nothing to repeat yet.")
            return
        seed = int(rest) if rest.isdecimal() else random.randrange(1 << 32)
        self.screen.note(f"seed {seed}")
        if after := self._answer(self.last, self.workflow.seeds(seed)):
            if self.turns and self.turns[-1].message is self.last:
                self.turns.pop()
            self.turns.append(Turn(self.last, after))

    def undo(self, rest: str = "") -> None:
        if not self.turns:
            self.screen.note("there is nothing to take back.")
            return
        turn = self.turns.pop()
        self.last = self.turns[-1].message if self.turns else None
        self.screen.note(f"taken back: {_short(turn.message.text) or 'the files'}")

    def clear(self, rest: str = "") -> None:
        self._begin("")
        self.screen.note("a new chat begins.")

    def _begin(self, history: str) -> None:
        self.base, self.last, self.trace = history, None, ""
        self.turns.clear()
        self.attached.clear()

    def set(self, rest: str) -> None:
        """An input for all turns to come; refused at once when the workflow would refuse it."""
        name, _, text = rest.replace("=", " ", 1).strip().partition(" ")
        if not name:
            for input, value in self.workflow.settings():
                self.screen.note(f"  {input} = {value!r}")
            return
        found = self.workflow.setting(name, text.strip())
        self.loop.do(self.session.validate(self.workflow.document, {**self.workflow.values, **found}))
        self.workflow.values |= found
        self.screen.note(", ".join(f"{input} = {value!r}" for input, value in found.items()))

    # --- the answer ---------------------------------------------------------------------------------------------

    def _answer(self, message: Message, seeds: dict[str, int]) -> str:
        """Run a turn and show it; the history with the answer, empty if there is none."""
        names, kinds = [each.name for each in message.attached], [each.read_as for each in message.attached]
        values = {**self.workflow.turn(message.text, names, kinds, message.before), **seeds}
        result, spoke = self._run(self.workflow.document, values, message.text)
        self.screen.answered()
        if result.status == "cancelled":
            self.faults += 1
            self.screen.note("stopped; the chat goes on where it was. /again repeats the message.")
            return ""
        reply = self.workflow.text_of(result, self.workflow.reply)
        if reply and not spoke:
            self.screen.answer(reply)
        media = self.workflow.media_of(result)
        for path, facts in zip(self.loop.do(self.session.save(media, self.out)), media.files, strict=True):
            self.screen.file(path, facts)
        self.trace = self.workflow.text_of(result, self.workflow.trace)
        for error in result.errors:
            what = f"{self.workflow.title(error['node'])}: " if error.get("node") else ""
            self._fault(f"{what}{describe(error)}")
        after = self.workflow.file_of(result)
        if not after and result.errors and (spoke or reply):
            after = self._keep_what_there_is(values, result)
        if after and not media.files:
            self.screen.note("words only" + ("; /trace says why." if self.trace else "."))
        return after

    def _keep_what_there_is(self, values: dict[str, Any], result: Result) -> str:
        """The turn without what failed: the same run with those steps muted, most of it from the cache."""
        document = self.workflow.without(error["node"] for error in result.errors if error.get("node"))
        try:
            run = self.loop.do(self.session.submit(document, values, "chat: what there is"))
            kept = self.loop.do(_ended(self.session, run))
        except AnyloomError:  # without the failed steps there is nothing to remember
            return ""
        after = self.workflow.file_of(kept)
        if after:
            self.screen.note("the rest of the answer is kept.")
        return after

    def _run(self, document: Any, values: dict[str, Any], name: str) -> tuple[Result, bool]:
        """Submit, show what happens, wait for the end; whether words were streamed."""
        run = self.loop.do(self.session.submit(document, values, f"chat: {_short(name)}"))
        spoke = False
        with self._stopping(run):
            events = self.session.events(run)
            while (event := self.loop.do(_next(events))) is not None:
                node = event.get("node", "")
                if event["type"] == "chunk" and self.workflow.speaks(node):
                    spoke = True
                    self.screen.words(event["text"])
                    continue
                if event["type"] == "done" and self.workflow.speaks(node):
                    self.screen.answered()
                self._show(event, self.workflow.title(node))
        return self.loop.do(self.session.result(run)), spoke

    def _show(self, event: dict[str, Any], title: str) -> None:
        match event["type"]:
            case "running":
                self.screen.status(f"{title} ...")
            case "progress":
                note = f" ({event['message']})" if event.get("message") else ""
                self.screen.status(f"{title}{note} {event['done']:g}/{event['total']:g}")
            case "log":
                self.screen.note(f"{title}: {event['message']}")
            case "retrying":
                self.screen.note(f"{title}: once more")

    @contextlib.contextmanager
    def _stopping(self, run: str) -> Iterator[None]:
        """Ctrl-C stops the run, whose end is waited for; a second one leaves at once."""
        asked = False

        def interrupt(*_: object) -> None:
            nonlocal asked
            if asked:
                os._exit(130)
            asked = True
            asyncio.run_coroutine_threadsafe(self.session.cancel(run), self.loop.loop)

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # --- what was said ------------------------------------------------------------------------------------------

    def why(self, rest: str = "") -> None:
        self.screen.note(self.trace or "there is no trace of an answer yet.")

    def tell(self, rest: str = "") -> None:
        if not self.history:
            self.screen.note("nothing was said yet.")
            return
        for line in self.shelf.told(self.history):
            self.screen.note(line)

    def keep(self, rest: str) -> None:
        if not self.history:
            self.screen.note("nothing was said yet.")
            return
        target = self.shelf.keep(self.history, rest)
        self.screen.answer(f"  {target}  ({target.stat().st_size:,} bytes)")

    def load(self, rest: str) -> None:
        """Go on from a saved chat; what was said here is left behind."""
        self._begin(self.shelf.load(rest))
        self.tell()


async def _next(events: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    return await anext(events, None)


async def _ended(session: Session, run: str) -> Result:
    async for _ in session.events(run):
        pass
    return await session.result(run)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def _complete(commands: Any) -> None:
    """Line editing, and Tab for commands and paths, where the system has it."""
    try:
        import readline
    except ImportError:  # Windows
        return
    import glob

    def complete(text: str, state: int) -> str | None:
        if text.startswith("/") and text.count("/") == 1 and readline.get_begidx() == 0:
            found = [f"/{name} " for name in sorted((*commands, "quit")) if name.startswith(text[1:])]
        else:
            found = [path + "/" * Path(path).is_dir() for path in sorted(glob.glob(f"{os.path.expanduser(text)}*"))]
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" \t\n")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    if "libedit" in (readline.__doc__ or ""):
        readline.parse_and_bind("bind ^I rl_complete")
