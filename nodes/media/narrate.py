"""Narrate: a text read aloud by eSpeak NG, a small synthesiser of formants that needs no weights.

It is a program of its own (Debian: `apt-get install espeak-ng`) and is run as one. Voices that sound like people are
models: `diffusion.speak`.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Annotated, Any, Literal

from graph_engine import Audio, NodeContext, NodeError, Widget, node

LONGEST = 20_000
PROGRAM = "espeak-ng"
VOICES = {"English": "en", "Chinese": "cmn", "German": "de", "French": "fr", "Spanish": "es", "Italian": "it"}


@node(id="media.narrate", category="media/audio")
def narrate(
    context: NodeContext,
    text: Annotated[str, Widget(multiline=True)],
    language: Literal[
        "by its script", "English", "Chinese", "German", "French", "Spanish", "Italian"
    ] = "by its script",
    words_per_minute: Annotated[int, Widget(min=80, max=400, step=5)] = 165,
    pitch: Annotated[int, Widget(min=0, max=99)] = 50,
) -> Audio:
    """Read a text aloud: AUDIO "1 1 T" of 22,050 Hz. `by its script` is Chinese for Chinese characters, else English."""
    if not text.strip():
        raise NodeError("there is nothing to say.", remedy="Give it a text.", code="empty_text", port="text")
    if len(text) > LONGEST:
        raise NodeError(
            f"the text has {len(text):,} characters, more than the limit of {LONGEST:,}.",
            remedy="Split it, and put the sounds together by media.concat_audio.",
            code="too_large",
            port="text",
        )
    program = shutil.which(PROGRAM)
    if program is None:
        raise NodeError(
            "eSpeak NG is not installed on the machine of the server.",
            remedy="Install it (Debian: apt-get install espeak-ng), or read the text by diffusion.speak.",
            code="program_missing",
        )
    if language == "by its script":
        language = "Chinese" if sum("\u3400" <= sign <= "\u9fff" for sign in text) * 3 > len(text) else "English"
    return _spoken(context, program, text, VOICES[language], words_per_minute, pitch)


def _spoken(context: NodeContext, program: str, text: str, voice: str, words_per_minute: int, pitch: int) -> Any:
    """The program reads standard input, so no text can be taken for an option or a file."""
    from nodes.media.audio_file import read_audio

    path = context.scratch() / "speech.wav"
    command = [
        program,
        "--stdin",
        "-b",
        "1",
        "-v",
        voice,
        "-s",
        str(words_per_minute),
        "-p",
        str(pitch),
        "-w",
        str(path),
    ]
    pending: bytes | None = text.replace("\0", " ").encode()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            while True:
                try:
                    _, said = process.communicate(pending, timeout=0.1)
                    break
                except subprocess.TimeoutExpired:
                    pending = None
                    context.check()
        finally:
            process.kill()
    if process.returncode != 0 or not path.exists():
        reason = said.decode(errors="replace").strip().splitlines()
        raise NodeError(
            f"eSpeak NG gave no sound (exit status {process.returncode}): {reason[-1] if reason else 'it says nothing'}.",
            remedy="Is its voice data installed (Debian: espeak-ng-data)?",
            code="program_failed",
        )
    waveform, rate = read_audio(path)
    return {"waveform": waveform, "sample_rate": rate}
