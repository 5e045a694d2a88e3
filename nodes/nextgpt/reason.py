"""Reason: the language model reads the conversation and answers, in words and in signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from graph_engine import Conversation, Effect, LanguageModel, Needs, NodeContext, NodeError, Widget, node
from nodes.control.seed import MAX_SEED
from nodes.nextgpt.kinds import Generation
from nodes.nextgpt.lora import speaker, speakers
from nodes.nextgpt.modality import SPOKEN, stamped
from nodes.nextgpt.per_modality import Port, per_modality
from nodes.nextgpt.refusal import refusals
from nodes.nextgpt.working import speaking, tokens

Want = Literal["auto", "always", "never"]
Most = Annotated[int, Widget(min=1, max=16)]


@node(
    id="nextgpt.reason",
    version=stamped("1.3.0"),
    category="NExT-GPT/stages",
    effect=Effect.SEEDED,
    needs=Needs(device=True, working_bytes=speaking, passes=tokens, models=lambda values: speakers(values["model"])),
)
@per_modality(
    wishes=lambda row: Port(row.name, Want, "auto"),
    limits=lambda row: Port(row.limit, Most, 1),
)
def reason(
    context: NodeContext,
    conversation: Conversation,
    model: LanguageModel,
    seed: Annotated[int, Widget(min=0, max=MAX_SEED, step=1, control="seed")] = 0,
    max_new_tokens: Annotated[int, Widget(min=1, max=4096)] = 150,
    temperature: Annotated[float, Widget(min=0, max=5, step=0.05)] = 0.4,
    top_p: Annotated[float, Widget(min=0.01, max=1, step=0.01)] = 1.0,
    top_k: Annotated[int, Widget(min=0, max=1000)] = 0,
    repetition_penalty: Annotated[float, Widget(min=0.1, max=10, step=0.05)] = 1.0,
    template: Literal["auto", "legacy", "current", "model"] = "auto",
    complete_runs: bool = True,
    stop: Annotated[str, Widget(multiline=True)] = "",
    *,
    wishes: Mapping[str, str],
    limits: Mapping[str, int],
) -> Generation:
    """Answer a conversation. The words stream while they are said; `nextgpt.route` takes the answer apart.

    temperature: 0 always takes the most likely token. template: how the prompt is laid out, `auto` as the model was
    trained, `model` by the chat template in its folder. stop: texts that end the answer and are not part of it, one per
    line. image, video, audio: `auto` leaves it to the model, `always` adds one before the end if the model gave none,
    `never` forbids it. max_images, max_videos, max_sounds: how many one answer may have. complete_runs: a run of
    signals that was begun is completed for the model; without it the model says each token, and a broken run is lost.
    """
    from nodes.nextgpt.model.generation import GenerateOptions, generate
    from nodes.nextgpt.model.prompts import PromptTooLong, build_inputs
    from nodes.nextgpt.model.signals import SignalPolicy
    from nodes.nextgpt.speech import Speech
    from nodes.nextgpt.words import words_of

    facts = model.extras
    words = words_of(facts, context.models_dir, template)
    tokenizer, vocabulary = words.tokenizer, words.vocabulary
    module = speaker(context, model)
    turns = _turns(conversation, module.hidden_size)
    with refusals("bad_prompt", "conversation"):
        try:
            prompt = build_inputs(module, tokenizer, turns, words.layout, vocabulary, reserve_tokens=max_new_tokens)
        except PromptTooLong as error:
            raise NodeError(
                f"{error}".partition("; ")[0] + ".",
                remedy="Drop early turns, lower max_new_tokens, or use a projector with fewer tokens per medium.",
                code="prompt_too_long",
                port="conversation",
            ) from error
    # A modality that this model has no tokens for may stay `auto` or `never`; `always` is refused below.
    wishes = {name: wish for name, wish in wishes.items() if name in vocabulary.tokens or wish == "always"}
    said = Speech(tokenizer, vocabulary, words.stop, context.chunk, [line for line in stop.splitlines() if line])

    def settled(token: int, position: int) -> None:
        said.push(token)
        context.progress(position + 1, max_new_tokens)

    with refusals("bad_options"):
        options = GenerateOptions(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
            # Random weights choose among all tokens alike: only whole words, so that it reads as words.
            suppress_ids=tokenizer.unreadable_ids(whole_words=True) if facts.get("untrained") else (),
        )
    with refusals("bad_options", "max_new_tokens"):
        policy = SignalPolicy(wishes, limits, complete_runs=complete_runs)
        generation = generate(
            module,
            prompt,
            options,
            vocabulary,
            policy,
            words.stop,
            on_token=settled,
            cancelled=lambda: context.cancelled,
            enough=lambda: said.ended,
        )
    context.check()
    answer = len(generation.answer)
    said.close(answer)
    return {
        "ids": list(generation.answer),
        "pieces": said.pieces,
        "hidden": generation.hidden[:answer].float().cpu(),
        "embeds": generation.embeds[:answer].float().cpu(),
        "runs": [asdict(run) for run in generation.trace],
        "vocabulary": vocabulary.to_json(),
        "wishes": wishes,
        "limits": {name: limits[name] for name in wishes},
        "stop_length": generation.stop_length,
        "finished": generation.finished,
        "prompt_length": prompt.shape[1],
        "confidence": generation.confidence[:answer],
        "signal_mass": {name: mass[:answer] for name, mass in generation.signal_mass.items()},
    }


def _turns(conversation: Any, width: int) -> list[Any]:
    """The conversation as the prompt builder wants it. Made media are for people; the model sees signals, features."""
    from nodes.nextgpt.model.prompts import FeaturePart, SignalPart, TextPart, Turn

    turns = []
    for turn in conversation:
        parts: list[Any] = []
        for part in turn["parts"]:
            if part["type"] == "text":
                parts.append(TextPart(part["text"]))
            elif part["type"] == "features":
                if part["tensor"].shape[-1] != width:
                    raise NodeError(
                        f"the {part['modality']} in the conversation is {part['tensor'].shape[-1]} wide, "
                        f"the language model {width}.",
                        remedy="Load input projector and language model from the same preset.",
                        code="wrong_width",
                        port="conversation",
                    )
                parts.append(FeaturePart(part["tensor"]))
            elif part["type"] == "signal":
                parts.append(SignalPart(part["modality"]))
            elif part["type"] not in SPOKEN:
                raise NodeError(
                    f"a turn has a part of the unknown type {part['type']!r}.",
                    remedy=f"Use text, features, signal or {', '.join(SPOKEN)}.",
                    code="bad_part",
                    port="conversation",
                )
        turns.append(Turn(turn["role"], tuple(parts)))
    return turns
