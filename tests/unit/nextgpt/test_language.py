"""The language model, its tokenizer and the generation loop, on a small real Llama."""

import json

import pytest
import torch

from nodes.nextgpt.model.generation import GenerateOptions, choose_token, generate
from nodes.nextgpt.model.language import TINY_BASE_SIZE, LanguageConfig, LanguageModel
from nodes.nextgpt.model.signals import Broken, Media, SignalPolicy, SignalVocabulary, scan
from nodes.nextgpt.model.tokenizer import TINY_PATH, TextStream, Tokenizer, TokenizerError

torch.set_num_threads(1)

CONFIG = LanguageConfig.tiny()
TOKENIZER = Tokenizer.tiny()
SIGNALS = SignalVocabulary.create(TINY_BASE_SIZE)
GREEDY = GenerateOptions(max_new_tokens=24, greedy=True)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.random(CONFIG, 0)


@pytest.fixture(scope="module")
def prompt(model) -> torch.Tensor:
    return model.embed([TOKENIZER.bos_id, *TOKENIZER.encode("Draw a red fox in the snow.")])[None]


# ---- tokenizer


@pytest.mark.parametrize(
    "text",
    [
        "Draw a red fox.",
        "  two  spaces\n\n\ttab ",
        "你好，世界 🦊 é ▁",
        "</s> <s> <unk> <0x41> [IMG0] <Img>",
        "",
        "\ufffd",
    ],
)
def test_tiny_tokenizer_round_trips_any_text_by_ordinary_tokens(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert not {TOKENIZER.bos_id, TOKENIZER.eos_id} & set(ids)
    assert max(ids, default=0) < TINY_BASE_SIZE


def test_tiny_tokenizer_is_small_and_speaks_in_words():
    assert TOKENIZER.size == TINY_BASE_SIZE
    assert TINY_PATH.stat().st_size < 60_000
    assert [TOKENIZER.decode([i]) for i in TOKENIZER.encode("Draw a quiet picture")] == [
        "Draw",
        " a",
        " quiet",
        " picture",
    ]
    unreadable = set(TOKENIZER.unreadable_ids())
    said = [TOKENIZER.decode([i]) for i in range(TOKENIZER.size) if i not in unreadable and i != TOKENIZER.eos_id]
    assert not any("\ufffd" in piece for piece in said)
    assert sum(len(piece) > 3 for piece in said) > 0.7 * len(said)
    whole = set(TOKENIZER.unreadable_ids(whole_words=True))
    assert unreadable < whole
    assert TOKENIZER.encode(" fox")[0] not in whole
    assert TOKENIZER.eos_id not in whole


def test_marked_encoding_is_the_encoding_of_the_whole():
    marked = TOKENIZER.encode_marked([("Tell me: ", False), ("a story", True), ("\n", False)])
    assert [i for i, _ in marked] == TOKENIZER.encode("Tell me: a story\n")
    assert TOKENIZER.decode([i for i, spoken in marked if spoken]) == " a story"


def test_decode_spells_signals_only_when_asked():
    ids = [*TOKENIZER.encode("here"), *SIGNALS.run("image"), TOKENIZER.eos_id]
    assert TOKENIZER.decode(ids) == "here"
    assert TOKENIZER.decode(ids, SIGNALS) == "here[IMG0][IMG1][IMG2][IMG3]"


def test_text_stream_says_whole_characters_and_everything():
    text = "Snow is 雪雪雪雪雪雪雪雪雪 and fox is 🦊, again and again in one little story about the wild sea."
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(i) for i in TOKENIZER.encode(text)]
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + stream.flush() == text
    stream.push(TOKENIZER.encode("雪")[0])
    assert stream.flush() == ""  # half a character is never said
    assert stream.flush() == ""


def llama_like(folder, added):
    """A folder with a byte-pair tokenizer.json of Llama's build: the space mark is put before every text."""
    from tokenizers import AddedToken, decoders, models, normalizers
    from tokenizers import Tokenizer as Backend

    vocabulary = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>", "▁", "h", "i", "▁h", "▁hi", "#", "[", "I", "]"])}
    backend = Backend(
        models.BPE(vocabulary, [("▁", "h"), ("▁h", "i")], unk_token="<unk>", byte_fallback=False, fuse_unk=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    backend.add_tokens(added)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>"}}))


def test_a_model_folder_gives_its_own_tokenizer_and_signals_stay_ids(tmp_path):
    vocabulary = SignalVocabulary.create(12, counts={"image": 1})
    llama_like(tmp_path, ["<Img>", "</Img>", "[IMG0]"])
    tokenizer = Tokenizer.from_folder(tmp_path, vocabulary)
    assert (tokenizer.size, tokenizer.bos_id, tokenizer.eos_id) == (12, 1, 2)
    assert tokenizer.encode("hi hi") == [7, 7]
    assert tokenizer.decode([7, 7]) == "hi hi"
    assert not {14, 2} & set(tokenizer.encode("[IMG0] </s>"))
    stream = TextStream(tokenizer)
    assert [stream.push(i) for i in (7, 7)] == ["hi", " hi"]


def test_a_wrong_folder_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(TokenizerError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        Tokenizer.from_folder(tmp_path)
    llama_like(tmp_path, ["[IMG0]"])
    with pytest.raises(TokenizerError, match="belongs to the checkpoint"):
        Tokenizer.from_folder(tmp_path, SignalVocabulary.create(12, counts={"image": 1}))


# ---- model


def test_published_sizes():
    counts = {}
    with torch.device("meta"):
        for name, config in {
            "7b": LanguageConfig.vicuna_7b(),
            "7b_legacy": LanguageConfig.vicuna_7b(32038),
            "13b": LanguageConfig.vicuna_13b(),
        }.items():
            counts[name] = sum(p.numel() for p in LanguageModel(config).parameters())
    assert counts["7b"] == 6_738_415_616
    assert counts["7b_legacy"] == 6_738_415_616 + 2 * 38 * 4096
    assert counts["13b"] == 13_015_864_320


def test_config_round_trips_through_json():
    for config in (CONFIG, LanguageConfig.vicuna_7b(32038, 1e-6)):
        assert LanguageConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    options = GenerateOptions(7, 0.5, suppress_ids=(1, 2))
    assert GenerateOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_random_weights_depend_on_the_seed_alone(model):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again, other = LanguageModel.random(CONFIG, 0), LanguageModel.random(CONFIG, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again.causal.lm_head.weight, model.causal.lm_head.weight)
    assert not torch.equal(other.causal.lm_head.weight, model.causal.lm_head.weight)


def test_meta_then_assign_speaks_like_the_model_built_directly(model, prompt):
    with torch.device("meta"):
        empty = LanguageModel(CONFIG)
    with pytest.raises(RuntimeError, match="assign=True"):
        empty.reset_buffers("cpu")
    empty.load_state_dict(model.state_dict(), assign=True)
    empty.reset_buffers()
    ours, theirs = generate(empty, prompt, GREEDY), generate(model, prompt, GREEDY)
    assert ours.ids == theirs.ids
    assert torch.equal(ours.hidden, theirs.hidden)


def test_half_precision_keeps_the_rotary_frequencies_whole(model):
    half = LanguageModel.random(CONFIG, 0).half()
    half.reset_buffers()
    assert torch.equal(half.causal.model.rotary_emb.inv_freq, model.causal.model.rotary_emb.inv_freq)
    assert half.dtype == torch.float16


def test_another_architecture_is_only_another_config(prompt):
    config = LanguageConfig(
        "gpt2", {"vocab_size": 50, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 0}
    )
    other = LanguageModel.random(config, 0)
    assert (other.hidden_size, other.vocab_size, other.context_length) == (64, 50, 64)
    said = generate(other, other.embed([1, 2, 3])[None], GenerateOptions(5, greedy=True))
    assert len(said.ids) == 5
    assert said.hidden.shape == (5, 64)


def test_growing_the_vocabulary_appends_means(model):
    grown = LanguageModel.random(LanguageConfig.tiny(vocab_size=TINY_BASE_SIZE), 0)
    old = grown.causal.lm_head.weight.clone()
    grown.grow_vocabulary(TINY_BASE_SIZE + 38)
    assert grown.vocab_size == TINY_BASE_SIZE + 38 == grown.config.options["vocab_size"]
    assert torch.equal(grown.causal.lm_head.weight[:TINY_BASE_SIZE], old)
    torch.testing.assert_close(grown.causal.lm_head.weight[-1], old.mean(0))
    with pytest.raises(ValueError, match="would lose"):
        grown.grow_vocabulary(10)


# ---- generation


def test_greedy_agrees_with_transformers_token_by_token(model, prompt):
    mask = torch.ones(prompt.shape[:2], dtype=torch.long)
    theirs = model.causal.generate(inputs_embeds=prompt, attention_mask=mask, do_sample=False, max_new_tokens=64)
    ours = generate(model, prompt, GenerateOptions(64, temperature=0), stop_ids=[TOKENIZER.eos_id])
    assert list(ours.ids) == theirs[0].tolist()
    assert len(set(ours.ids)) > 10  # an answer that repeats one token would prove little


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")
def test_repetition_penalty_agrees_with_transformers(model, prompt):
    mask = torch.ones(prompt.shape[:2], dtype=torch.long)
    common = {"inputs_embeds": prompt, "attention_mask": mask, "max_new_tokens": 32}
    theirs = model.causal.generate(**common, do_sample=False, repetition_penalty=1.8)
    ours = generate(model, prompt, GenerateOptions(32, greedy=True, repetition_penalty=1.8), stop_ids=[2])
    assert list(ours.ids) == theirs[0].tolist()
    assert ours.ids != generate(model, prompt, GenerateOptions(32, greedy=True), stop_ids=[2]).ids


def test_states_are_those_at_each_token_also_at_the_last_one(model, prompt):
    said = generate(model, prompt, GREEDY)
    whole = torch.cat([prompt, model.embed(said.ids)[None]], dim=1)
    with torch.no_grad():
        reference = model.causal.model(inputs_embeds=whole).last_hidden_state[0, prompt.shape[1] :]
    assert said.hidden.shape == (24, model.hidden_size) == said.embeds.shape
    torch.testing.assert_close(said.hidden, reference, atol=1e-4, rtol=1e-4)
    assert torch.equal(said.embeds, model.embed(said.ids))


def test_runs_are_complete_and_their_states_can_be_cut_out(model, prompt):
    policy = SignalPolicy({"video": "always", "image": "always", "audio": "never"})
    options = GenerateOptions(40, seed=5, suppress_ids=TOKENIZER.unreadable_ids())
    said = generate(model, prompt, options, SIGNALS, policy, [TOKENIZER.eos_id])
    runs = [event for event in scan(said.answer, SIGNALS) if isinstance(event, Media)]
    assert [run.modality for run in runs] == ["video", "image"]
    assert [entry.position for entry in said.trace] == [run.start for run in runs]
    assert said.hidden[runs[1].start : runs[1].stop].shape == (4, model.hidden_size)
    assert all(0 < entry.probability < 1 for entry in said.trace)


def test_a_model_that_says_anything_never_breaks_a_run():
    # Few words and so hot that all are about equally likely: every third draw would be a bare continuation.
    babbler, signals = LanguageModel.random(LanguageConfig.tiny(vocab_size=100), 0), SignalVocabulary.create(62)
    options = GenerateOptions(200, temperature=1e4, seed=0)
    said = generate(babbler, babbler.embed([1])[None], options, signals, SignalPolicy(default_max_runs=3))
    events = scan(said.answer, signals)
    assert not any(isinstance(event, Broken) for event in events)
    assert sum(isinstance(event, Media) for event in events) == len(said.trace) > 0


def test_trace_probability_is_the_models_own(model, prompt):
    said = generate(model, prompt, GenerateOptions(4, greedy=True), SIGNALS, SignalPolicy({"image": "always"}))
    assert said.ids == SIGNALS.run("image")
    assert said.finished == "length"
    with torch.no_grad():
        logits = model.causal(inputs_embeds=prompt).logits[0, -1]
    assert said.trace[0].probability == pytest.approx(float(logits.softmax(-1)[said.ids[0]]), rel=1e-3)


def test_the_seed_decides(model, prompt):
    one, same, other = (generate(model, prompt, GenerateOptions(16, seed=seed)).ids for seed in (1, 1, 2))
    assert one == same != other


def test_suppressed_tokens_are_not_said(model, prompt):
    greedy = generate(model, prompt, GREEDY)
    without = generate(model, prompt, GenerateOptions(24, greedy=True, suppress_ids=(greedy.ids[0],)))
    assert greedy.ids[0] not in without.ids


def test_watching_stopping_and_cancelling(model, prompt):
    seen: list[tuple[int, int]] = []
    said = generate(model, prompt, GREEDY, on_token=lambda token, position: seen.append((position, token)))
    assert seen == list(enumerate(said.ids))
    assert said.finished == "length"
    stopped = generate(model, prompt, GREEDY, stop_ids=[said.ids[5:7]])
    assert stopped.finished == "stop"
    assert stopped.answer == said.ids[:5]
    assert stopped.ids == said.ids[:7]
    partial = generate(model, prompt, GREEDY, cancelled=lambda: len(seen) > 0)
    assert partial.finished == "cancelled"
    assert partial.ids == said.ids[:1]
    assert partial.hidden.shape[0] == 1


def test_choose_token_filters_what_it_should():
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0])
    generator = torch.Generator().manual_seed(0)

    def chosen(**options):
        return {choose_token(logits, GenerateOptions(**options), [], generator) for _ in range(300)}

    assert chosen() == {0, 1, 2, 3}
    assert chosen(top_k=2) == {0, 1}
    assert chosen(top_p=0.7) == {0, 1}  # 0.644 alone is less than 0.7
    assert chosen(top_p=0.01) == {0}
    assert chosen(temperature=0.05) == {0}
    assert choose_token(logits, GenerateOptions(greedy=True, repetition_penalty=2.0), [0], generator) == 1
    assert (
        choose_token(torch.tensor([-3.0, -1.0]), GenerateOptions(greedy=True, repetition_penalty=4.0), [1], generator)
        == 0
    )


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 10.0}, {"top_k": -1}, {"repetition_penalty": 0}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        GenerateOptions(**wrong)


def test_misfits_are_refused_with_the_numbers(model, prompt):
    with pytest.raises(ValueError, match=r"\[1, P, 64\]"):
        generate(model, prompt[..., :32], GREEDY)
    with pytest.raises(ValueError, match="context of 2048"):
        generate(model, prompt, GenerateOptions(2048))
    with pytest.raises(ValueError, match="grow its vocabulary"):
        generate(model, prompt, GREEDY, SignalVocabulary.create(TINY_BASE_SIZE + 1))
    with pytest.raises(ValueError, match="do not belong together"):
        model.embed([5000])
