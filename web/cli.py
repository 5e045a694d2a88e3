"""The command line: `anyloom serve`, `run`, `chat`, `plan`, `demo`, `nodes`, `workflows`, `models`, `convert`, `train`,
`evaluate`, `runs`, `cancel`, `inspect`, `reset-queue`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import graph_engine
from graph_engine.errors import AnyloomError
from graph_engine.record import STATUSES
from web.commands import values
from web.commands.flags import add_engine_flags, add_server_flags

EXIT_USAGE = 64
"""Not argparse's 2, which says here that a run ended partially."""
LOCAL = "http://127.0.0.1:8188"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Every command with its flags. `command` of the result names the coroutine function to call."""
    root = Parser(prog="anyloom", description="Run workflows of any-to-any multimodal AI.")
    root.add_argument("--version", action="version", version=f"anyloom {graph_engine.__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    serve = commands.add_parser(
        "serve",
        help="start the server",
        description="Start the server. It stops on Ctrl-C; runs that have not ended go on at the next start.",
    )
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    serve.add_argument(
        "--port", type=values.port, default=8188, help="port to listen on (default: 8188; 0: any free one)"
    )
    serve.add_argument(
        "--token",
        default=os.environ.get("ANYLOOM_TOKEN"),
        help="what clients have to show (default: none on loopback, else a random one)",
    )
    serve.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[], help="a further name that this server goes by"
    )
    serve.add_argument(
        "--workers",
        choices=("none", "process"),
        default="none",
        help="where models compute: in threads of the server (none), or in a process per device, which may die without it",
    )
    add_engine_flags(serve)

    run = commands.add_parser(
        "run",
        help="run a workflow",
        description="Run a workflow and write its files. Results go to standard output, progress to standard error.",
        epilog="Exit codes: 0 succeeded, 2 partial (some branch failed), 1 failed, 130 cancelled, 64 wrong use.",
    )
    run.add_argument(
        "workflow",
        help="a saved workflow's name, a .json or .anyloom file, or a picture, sound or video that carries one",
    )
    run.add_argument(
        "--set",
        type=values.setting,
        metavar="NODE.INPUT=VALUE",
        action="append",
        default=[],
        help="text or JSON for an input; @FILE brings a file in (@@ for a text that starts with @)",
    )
    run.add_argument("--out", type=Path, metavar="DIR", default=Path("out"), help="where the files go (default: ./out)")
    run.add_argument("--name", default="", help="what the run is called in lists")
    run.add_argument(
        "--timeline", type=Path, metavar="FILE", help="when every step waited and computed, for chrome://tracing"
    )
    run.add_argument("--plain", action="store_true", help="plain lines, on a terminal too")
    add_server_flags(run)
    add_engine_flags(run)

    share = commands.add_parser(
        "share",
        help="write a workflow and the files that it reads as one file",
        description="Write a workflow and the files that it reads as one file. `anyloom run` and the editor open it anywhere.",
    )
    share.add_argument("workflow", help="a saved workflow's name, or a .json file")
    share.add_argument("--out", type=Path, metavar="FILE", help="where to (default: ./NAME.anyloom)")
    add_server_flags(share)
    add_engine_flags(share)

    chat = commands.add_parser(
        "chat",
        help="talk with a model",
        description="Talk with a model: words, pictures, sounds and videos in both directions, one run of a workflow per "
        "turn. Answers and the files they come with go to standard output. /help lists what else can be typed.",
        epilog="Exit codes: 0; 1 if the chat could not begin, or if lines from a pipe went wrong; 130 interrupted; "
        "64 wrong use.",
    )
    chat.add_argument(
        "--workflow",
        default="chat",
        help="a saved workflow's name or a file with one (default: chat)",
        metavar="WORKFLOW",
    )
    chat.add_argument(
        "--set",
        type=values.setting,
        metavar="NODE.INPUT=VALUE",
        action="append",
        default=[],
        help="text or JSON for an input, for all turns; @FILE brings a file in",
    )
    chat.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("out"), help="where the files go (default: ./out)"
    )
    chat.add_argument("--plain", action="store_true", help="plain lines, on a terminal too")
    add_server_flags(chat)
    add_engine_flags(chat)

    plan = commands.add_parser(
        "plan",
        help="see what a workflow needs in memory",
        description="Say before a run whether its models fit into memory, what is kept and what is copied when.",
        epilog="Exit codes: 0 it can run, 1 it cannot, 64 wrong use. Computing times are known once it ran with this --data.",
    )
    plan.add_argument(
        "workflow", help="a saved workflow's name, a .json file, or a picture, sound or video that carries one"
    )
    plan.add_argument(
        "--set",
        type=values.setting,
        metavar="NODE.INPUT=VALUE",
        action="append",
        default=[],
        help="text or JSON for an input",
    )
    plan.add_argument(
        "--bandwidth",
        type=values.size,
        metavar="SIZE",
        help="bytes a second of copies to the device, 55GB for example (default: of files measured, of a bus assumed)",
    )
    plan.add_argument("--json", action="store_true", help="as JSON")
    add_engine_flags(plan)

    demo = commands.add_parser(
        "demo",
        help="see it work",
        description="Start a server, run the any-to-any workflow over its websocket, show what happens, stop.",
    )
    demo.add_argument("--out", type=Path, metavar="DIR", default=Path("out/demo"), help="where the files go")

    nodes = commands.add_parser(
        "nodes", help="list node types", description="List the node types, or show one with its ports."
    )
    nodes.add_argument("node", nargs="?", metavar="NAME", help="show this one")
    nodes.add_argument("--json", action="store_true", help="as JSON")
    add_engine_flags(nodes)

    workflows = commands.add_parser(
        "workflows", help="list saved workflows", description="List saved workflows and what they ask for."
    )
    add_server_flags(workflows)
    add_engine_flags(workflows)

    models = commands.add_parser(
        "models",
        help="what presets need and what is there",
        description="List what each preset needs, where it is looked for, what is there and what to do about the rest.",
        epilog="Exit code 1 if the preset that was named is not complete.",
    )
    models.add_argument("preset", nargs="?", metavar="PRESET", help="only this one, with its files")
    models.add_argument("--json", action="store_true", help="as JSON")
    models.add_argument("--hash", action="store_true", help="read every file and say its SHA-256")
    models.add_argument("--check", action="store_true", help="compare names and shapes in the files with the models")
    add_engine_flags(models)

    convert = commands.add_parser(
        "convert",
        help="turn .pt, .pth, .bin or .ckpt weights into safetensors",
        description="Turn pickled weights into safetensors, in a child process that runs no code of the file.",
    )
    convert.add_argument("source", metavar="SOURCE", help="the file; or *.bin.index.json for all its shards")
    convert.add_argument("target", nargs="?", metavar="DEST", help="file or folder (default: beside the source)")
    convert.add_argument(
        "--preset", metavar="NAME", help="put it where this preset looks for it; takes its delta apart"
    )
    convert.add_argument("--part", metavar="NAME", help="it is this part of the preset")
    convert.add_argument("--force", action="store_true", help="write over what is there")
    add_engine_flags(convert)

    train = commands.add_parser(
        "train",
        help="train the models of a recipe",
        description="Follow a recipe, a workflow of nextgpt.train nodes, stage by stage. What was done is kept; stopped "
        "anywhere, it goes on with --resume to the same losses.",
        epilog="Exit codes: 0 the recipe is done, 2 a limit was reached before its end, 1 failed, 130 interrupted, "
        "64 wrong use. See docs/training.md.",
    )
    train.add_argument("recipe", metavar="RECIPE", help="a name (mini, nextgpt-7b-tiva-v0 ...) or a .json file")
    train.add_argument("--resume", action="store_true", help="go on from the last snapshot")
    train.add_argument("--steps", type=int, metavar="N", help="no more than N steps in this call")
    train.add_argument("--minutes", type=float, metavar="N", help="no longer than N minutes in this call")
    train.add_argument("--only", action="append", default=[], metavar="STAGE", help="only this stage (may be repeated)")
    train.add_argument("--list", action="store_true", help="list the stages and stop")
    train.add_argument("--folder", type=Path, metavar="DIR", help="where it is kept (default: MODELS/training/RECIPE)")
    train.add_argument("--device", metavar="NAME", help="cpu, cuda:0 ... (default: the first that is there)")
    train.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="train up to N stages at a time, those that do not wait for each other",
    )
    train.add_argument("--tensorboard", type=Path, metavar="DIR", help="losses for TensorBoard")
    train.add_argument(
        "--publish", action="store_true", help="at the end, put the weights where the preset looks for them"
    )
    train.add_argument("--json", action="store_true", help="the reports as JSON, on standard output")
    add_engine_flags(train)

    evaluate = commands.add_parser(
        "evaluate",
        help="judge what a trained preset answers",
        description="Let a preset answer prompts whose combinations were withheld from training; rules judge the answers.",
        epilog="Exit code 1 if a bar is missed.",
    )
    evaluate.add_argument("preset", metavar="PRESET", help="mini, for example")
    evaluate.add_argument("--folder", type=Path, metavar="DIR", help="a training folder whose weights come first")
    evaluate.add_argument("--prompts", type=Path, metavar="FILE", help="other prompts, a JSON list of text and wishes")
    evaluate.add_argument(
        "--scale", type=float, default=1.0, metavar="X", help="of the number of prompts (default: 1, 366)"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures, one flat object")
    evaluate.add_argument("--page", type=Path, metavar="DIR", help="write a report with sample sheets")
    evaluate.add_argument("--device", metavar="NAME", help="cpu, cuda:0 ... (default: the first that is there)")
    evaluate.add_argument(
        "--processes", type=int, default=1, metavar="N", help="on the CPU, answer N prompts at a time"
    )
    evaluate.add_argument("--quiet", action="store_true", help="only the figures")
    add_engine_flags(evaluate)

    runs = commands.add_parser(
        "runs",
        help="list the runs of a server",
        description="List the latest runs of a server; show one of them, or write its timeline.",
    )
    runs.add_argument("run", nargs="?", metavar="ID", help="show this run: its times, nodes, errors and results")
    runs.add_argument("--timeline", type=Path, metavar="FILE", help="write when every step of ID waited and computed")
    runs.add_argument("--limit", type=values.runs, default=20, help="how many (default: 20)")
    runs.add_argument("--status", choices=STATUSES, help="only these")
    add_server_flags(runs, LOCAL)

    cancel = commands.add_parser("cancel", help="cancel a run of a server", description="Cancel a run of a server.")
    cancel.add_argument("run", metavar="ID", help="the run's id, as `anyloom runs` shows it")
    add_server_flags(cancel, LOCAL)

    inspect = commands.add_parser(
        "inspect",
        help="show the workflow inside a media file",
        description="Show the workflow inside a picture, sound or video.",
    )
    inspect.add_argument("file", metavar="FILE")

    reset = commands.add_parser(
        "reset-queue",
        help="put a damaged queue aside",
        description="Put the queue and the history of a data folder aside, under another name in the same folder: the next "
        "start makes an empty one. For a queue that is damaged. Stop the server first.",
    )
    reset.add_argument("--data", type=Path, metavar="DIR", help="the data folder (default: ./data)")
    return root


async def dispatch(arguments: argparse.Namespace) -> int:
    """Only what the command needs is imported."""
    if arguments.command == "serve":
        from web.commands.serve import serve

        return await serve(arguments)
    if arguments.command == "run":
        from web.commands.run import run

        return await run(arguments)
    if arguments.command == "share":
        from web.commands.share import share

        return await share(arguments)
    if arguments.command == "plan":
        from web.commands.plan import plan

        return await plan(arguments)
    if arguments.command == "demo":
        from web.commands.demo import demo

        return await demo(arguments)
    if arguments.command == "models":
        from web.commands.models import models

        return await models(arguments)
    if arguments.command == "convert":
        from web.commands.convert import convert_weights

        return await convert_weights(arguments)
    if arguments.command == "reset-queue":
        from web.commands.reset_queue import reset_queue

        return reset_queue(arguments)
    from web.commands import look

    code: int = await getattr(look, arguments.command)(arguments)
    return code


def main(words: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(words)
    try:
        # These three run where Ctrl-C arrives, in the main thread.
        if arguments.command == "chat":
            from web.commands.chat import chat

            return chat(arguments)
        if arguments.command == "train":
            from web.commands.train import train

            return train(arguments)
        if arguments.command == "evaluate":
            from web.commands.evaluate import evaluate

            return evaluate(arguments)
        return asyncio.run(dispatch(arguments))
    except AnyloomError as error:
        print(f"anyloom: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise  # of no file: a mistake of ours
        where, why = os.fsdecode(error.filename), error.strerror
        print(f"anyloom: {where!r} cannot be used: {why}. Check its rights and room, or name another.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
