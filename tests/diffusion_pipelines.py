"""Small random pipelines of diffusers and transformers, as `save_pretrained` writes them; for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SENTENCE = "a red boat sails on the sea at night rain falls music plays"
WORDS = ["<pad>", "</s>", "<unk>", "<s>", *SENTENCE.split()]


def tokenizer(**special: str) -> Any:
    """One token per known word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
        model_max_length=20,
        **special,
    )


def byte_pairs() -> Any:
    """RoBERTa's tokenizer with no pair learned: AudioLDM 2 asks its tokenizers for their class."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaTokenizer

    entries = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    return RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=20)


def pieces() -> Any:
    from transformers import T5Tokenizer

    entries = ["<pad>", "</s>", "<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=[(entry, -1.0) for entry in entries], extra_ids=0, model_max_length=20)


def musicgen(folder: Path, codebooks: int = 2, channels: int = 1, words: int = 16) -> None:
    from transformers import (
        EncodecConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )

    text = T5Config(vocab_size=32, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2)
    codec = EncodecConfig(
        sampling_rate=2000,
        num_filters=4,
        hidden_size=8,
        codebook_size=words,
        codebook_dim=8,
        upsampling_ratios=[8, 5],
        num_lstm_layers=1,
        # Thousand bits a second: 50 frames of as many codebooks as a channel has.
        target_bandwidths=[0.05 * (codebooks // channels) * (words - 1).bit_length()],
        norm_type="weight_norm",
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=words,
        num_hidden_layers=1,
        ffn_dim=16,
        num_attention_heads=2,
        hidden_size=16,
        num_codebooks=codebooks,
        audio_channels=channels,
        max_position_embeddings=64,
        pad_token_id=words,
        bos_token_id=words,
    )
    config = MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
    torch.manual_seed(0)
    model = MusicgenForConditionalGeneration(config)
    for name, buffer in model.named_buffers():
        if name.endswith("codebook.embed"):  # zeros, else every token would sound alike
            buffer.normal_()
    model.generation_config.decoder_start_token_id = words
    model.generation_config.pad_token_id = words
    model.generation_config.bos_token_id = words
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def whisper(folder: Path) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=len(WORDS),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=50,
        max_target_positions=24,
        num_mel_bins=8,
        pad_token_id=0,
        bos_token_id=3,
        eos_token_id=1,
        decoder_start_token_id=3,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        init_std=1.0,
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config.max_length = 24
    model.generation_config.suppress_tokens = None
    model.generation_config.begin_suppress_tokens = None
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def vits(folder: Path) -> None:
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    letters = {letter: index for index, letter in enumerate("_ abcdefghijklmnopqrstuvwxyz")}
    torch.manual_seed(0)
    config = VitsConfig(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]],
        prior_encoder_num_flows=1,
        posterior_encoder_num_wavenet_layers=1,
        prior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1,
        duration_predictor_flow_bins=4,
        depth_separable_num_layers=1,
        duration_predictor_filter_channels=16,
    )
    VitsModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(letters))
    VitsTokenizer(
        folder / "vocab.json", phonemize=False, is_uroman=False, pad_token="_", unk_token=" "
    ).save_pretrained(folder)


def ltx(folder: Path) -> Any:
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=16,
    )
    vae = AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    text = T5EncoderModel(T5Config(vocab_size=32, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2))
    pipe = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer(),
        transformer=transformer,
    )
    pipe.save_pretrained(folder)
    return pipe


def animatediff(folder: Path) -> Any:
    """The tiny Stable Diffusion of the other tests with motion layers."""
    from diffusers import AnimateDiffPipeline, MotionAdapter

    from tests.diffusion_models import pipeline

    base = pipeline("sd1", folder.parent)
    torch.manual_seed(0)
    motion = MotionAdapter(
        block_out_channels=(32, 64), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=4
    )
    parts = {name: getattr(base, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    pipe = AnimateDiffPipeline(**parts, motion_adapter=motion)
    pipe.save_pretrained(folder)
    return pipe


def audioldm2(folder: Path) -> Any:
    from diffusers import (
        AudioLDM2Pipeline,
        AudioLDM2ProjectionModel,
        AudioLDM2UNet2DConditionModel,
        AutoencoderKL,
        DDIMScheduler,
    )
    from transformers import (
        ClapAudioConfig,
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapTextConfig,
        GPT2Config,
        GPT2LMHeadModel,
        SpeechT5HifiGan,
        SpeechT5HifiGanConfig,
        T5Config,
        T5EncoderModel,
    )

    torch.manual_seed(0)
    unet = AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=[[None, 16, 32], [None, 16, 32]],
    )
    vae = AutoencoderKL(
        block_out_channels=[8, 16],
        in_channels=1,
        out_channels=1,
        norm_num_groups=8,
        down_block_types=["DownEncoderBlock2D", "DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=4,
    )
    clap = ClapModel(
        ClapConfig(
            text_config=ClapTextConfig(
                vocab_size=264,
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=40,
                pad_token_id=1,
                projection_dim=8,
            ).to_dict(),
            audio_config=ClapAudioConfig(
                spec_size=8,
                window_size=4,
                num_mel_bins=8,
                num_classes=7,
                depths=[1, 1],
                num_attention_heads=[1, 1],
                patch_embeds_hidden_size=16,
                hidden_size=32,
                projection_dim=8,
                patch_size=2,
                patch_stride=2,
                patch_embed_input_channels=4,
            ).to_dict(),
            projection_dim=16,
        )
    )
    t5 = T5EncoderModel(T5Config(vocab_size=32, d_model=32, d_ff=37, d_kv=8, num_layers=1, num_heads=2))
    gpt = GPT2LMHeadModel(
        GPT2Config(
            n_embd=16, n_head=2, n_layer=1, vocab_size=32, n_ctx=99, n_positions=99, bos_token_id=3, eos_token_id=1
        )
    )
    gpt.config.max_new_tokens = 8
    pipe = AudioLDM2Pipeline(
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
        ),
        vae=vae,
        text_encoder=clap,
        text_encoder_2=t5,
        tokenizer=byte_pairs(),
        tokenizer_2=pieces(),
        feature_extractor=ClapFeatureExtractor(feature_size=64),
        language_model=gpt,
        projection_model=AudioLDM2ProjectionModel(text_encoder_dim=16, text_encoder_1_dim=32, langauge_model_dim=16),
        vocoder=SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=8,
                sampling_rate=16000,
                upsample_initial_channel=16,
                upsample_rates=[2, 2],
                upsample_kernel_sizes=[4, 4],
                resblock_kernel_sizes=[3, 7],
                resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
                normalize_before=False,
                initializer_range=0.14,
            )
        ),
    )
    pipe.save_pretrained(folder)
    return pipe
