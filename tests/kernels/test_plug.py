"""`accelerate_unet`: the same pictures, and afterwards the same UNet; what is kept between steps is never kept too long."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from custom_kernels import plug
from custom_kernels.dispatch import KernelError
from custom_kernels.layout import Layout
from custom_kernels.plug import accelerate_unet
from tests.kernels.small_unets import BUILDS, Again, answer, relative, small_unet, start, walk, words

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def unets() -> dict[str, Any]:
    return {build: small_unet(build) for build in BUILDS}


def looks(unet: Any) -> Any:
    """All that must be the same afterwards."""
    return [
        (name, id(tensor), tensor.clone(), tensor.stride(), tensor.requires_grad)
        for name, tensor in (*unet.named_parameters(), *unet.named_buffers())
    ], [sorted(module.__dict__) for module in unet.modules()]


def assert_same_looks(before: Any, after: Any) -> None:
    assert before[1] == after[1]
    for one, other in zip(before[0], after[0], strict=True):
        assert (*one[:2], *one[3:]) == (*other[:2], *other[3:])
        assert torch.equal(one[2], other[2])


# --- the same pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.law("P12")
@pytest.mark.parametrize("kernels", ["reference", "sdpa", "auto"])
@pytest.mark.parametrize("build", BUILDS)
def test_steps_are_those_of_diffusers_and_the_unet_is_given_back(unets: Any, build: str, kernels: str) -> None:
    unet, told = unets[build], words(build)
    before, plain = looks(unet), walk(unet, build, told)
    with accelerate_unet(unet, kernels, recorder=Again()) as fast:
        found = [walk(unet, build, told, 3), walk(unet, build, words(build, seed=3), 4), walk(unet, build, told, 3)]
    assert relative(found[0], plain) < 1e-5
    # Replays, with other words and other timesteps in between, change nothing.
    assert torch.equal(found[0], found[2])
    assert_same_looks(before, looks(unet))
    assert torch.equal(walk(unet, build, told), plain)
    assert relative(found[1], walk(unet, build, words(build, seed=3), 4)) < 1e-5
    assert "CUDA graph: 9 of 10 steps" in fast.told()
    assert ("attention: reference" if kernels == "reference" else "attention: sdpa") in fast.told()


def test_half_precision_stays_near_and_pictures_of_many_steps_look_the_same() -> None:
    unet, told = small_unet("image"), words("image")
    truth = walk(unet, "image", told, 20)
    half = {name: tensor.bfloat16() for name, tensor in told.items()}
    unet.bfloat16()
    plain = walk(unet, "image", half, 20, start("image", dtype=torch.bfloat16))
    # What the UNet says itself, against float32 with the weights, the words and the start rounded alike.
    wide = {name: tensor.float() for name, tensor in half.items()}
    said = answer(copy.deepcopy(unet).float(), "image", wide, start("image", dtype=torch.bfloat16).float())
    with accelerate_unet(unet, "reference"):
        assert relative(answer(unet, "image", half, start("image", dtype=torch.bfloat16)), said) < 2e-2
        found = walk(unet, "image", half, 20, start("image", dtype=torch.bfloat16))
    assert relative(found, truth) < 2e-2
    assert relative(found, truth) < 1.2 * relative(plain, truth)
    spread = float(truth.max() - truth.min())
    psnr = 20 * torch.log10(spread / (found.float() - plain.float()).square().mean().sqrt())
    assert psnr >= 35


def test_odd_sizes_other_batches_and_other_arguments(unets: Any) -> None:
    unet = unets["image"]
    inner = torch.randn(2, 64, 4, 4)
    with accelerate_unet(unet, "reference", recorder=Again()) as fast:
        for batch, side in ((1, 8), (3, 6), (2, 7)):
            told, state = words("image", batch), start("image", batch, side)
            found = [walk(unet, "image", told, 3, state) for _ in range(2)]
            fast.restore()
            assert relative(found[0], walk(unet, "image", told, 3, state)) < 1e-5
            assert torch.equal(found[0], found[1])
            fast = accelerate_unet(unet, "reference", recorder=Again())
        # What a graph is not captured for is computed as ever: here the residuals of a ControlNet, a mask of words, numbers.
        state, told = start("image"), words("image")
        residuals = [
            torch.randn(2, 32, 8, 8),
            torch.randn(2, 32, 8, 8),
            torch.randn(2, 32, 4, 4),
            torch.randn(2, 64, 4, 4),
        ]
        more = {
            "down_block_additional_residuals": residuals,
            "mid_block_additional_residual": inner,
            "encoder_attention_mask": torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1] * 7]),
        }
        found = [unet(state, step, **told, **more, return_dict=False)[0] for step in (7, 7.0, torch.tensor(7))]
        positional = unet(state, 7, told["encoder_hidden_states"], None, None, None, None, None, residuals, inner)
        fast.restore()
        assert "no CUDA graph: the step takes more than" in fast.told()
        plain = unet(state, 7, **told, **more).sample
        assert all(relative(one, plain) < 1e-5 for one in found)
        without_mask = {name: value for name, value in more.items() if name != "encoder_attention_mask"}
        assert relative(positional.sample, unet(state, 7, **told, **without_mask).sample) < 1e-5


def test_what_is_not_plain_is_left_as_it_is() -> None:
    odd = small_unet("image", act_fn="gelu", resnet_time_scale_shift="scale_shift", upcast_attention=True)
    scaled = small_unet("image", resnet_time_scale_shift="scale_shift", num_class_embeds=3, only_cross_attention=True)
    told = words("image")
    for unet, more in ((odd, {}), (scaled, {"class_labels": torch.tensor([0, 2])})):
        plain = walk(unet, "image", {**told, **more})
        with accelerate_unet(unet, "reference", recorder=Again()):
            assert relative(walk(unet, "image", {**told, **more}), plain) < 1e-5


def test_sdxl_is_told_more_and_tensors_made_anew_each_step_are_no_waste() -> None:
    unet = small_unet(
        "image",
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
        use_linear_projection=True,
    )
    told = words("image")["encoder_hidden_states"]
    sizes = {"text_embeds": torch.randn(2, 16), "time_ids": torch.rand(2, 6)}

    def run(fresh: bool) -> Tensor:
        state = start("image")
        for step in torch.linspace(900, 100, 6).long():
            added = {name: tensor.clone() for name, tensor in sizes.items()} if fresh else sizes
            state = state - 0.3 * unet(state, step, told, added_cond_kwargs=added).sample
        return state

    plain = run(False)
    with accelerate_unet(unet, "reference", recorder=Again()) as fast:
        assert fast.plug is not None
        assert relative(run(False), plain) < 1e-5
        assert fast.plug.times.on
        assert relative(run(True), plain) < 1e-5
        assert not fast.plug.times.on


# --- what is kept is not kept too long ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorder", [None, Again()], ids=["eager", "graphs"])
@pytest.mark.parametrize("build", ["image", "video"])
def test_whatever_is_written_to_is_seen_at_the_next_step(build: str, recorder: Any) -> None:
    unet, told = small_unet(build), words(build)
    step = torch.linspace(900, 100, 4).long()[1]
    state = start(build)

    def both() -> tuple[Tensor, Tensor]:
        return unet(state, step, **told).sample, type(unet).forward(copy.deepcopy(plain), state, step, **told).sample

    plain = copy.deepcopy(unet)
    with accelerate_unet(unet, "reference", recorder=recorder):
        for _ in range(3):
            unet(state, step, **told)
        for change in (
            lambda u: told["encoder_hidden_states"].mul_(-1) if u is unet else None,
            lambda u: state.add_(1) if u is unet else None,
            lambda u: step.sub_(50) if u is unet else None,
            *(
                (lambda u, name=name: u.get_parameter(name).mul_(1.5))
                for name in (
                    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
                    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight",
                    "down_blocks.0.resnets.0.time_emb_proj.weight",
                    "down_blocks.0.resnets.0.conv1.bias",
                    "time_embedding.linear_1.weight",
                    "up_blocks.1.resnets.0.norm2.weight",
                )
            ),
            lambda u: u.load_state_dict({n: t * 1.01 for n, t in u.state_dict().items()}),
            lambda u: u.load_state_dict({n: t * 1.01 for n, t in u.state_dict().items()}, assign=True),
        ):
            old = unet(state, step, **told).sample
            for one in (unet, plain):
                change(one)
            found, wanted = both()
            assert relative(found, wanted) < 1e-5
            assert relative(found, old) > 1e-5


def test_a_graph_is_not_replayed_over_weights_that_lie_elsewhere() -> None:
    unet, told = small_unet("image"), words("image")
    step = torch.linspace(900, 100, 4).long()[1]

    def move(module: Any) -> None:
        module.weight.data = module.weight.data.clone()

    with accelerate_unet(unet, "reference", recorder=Again()) as fast:
        assert fast.plug is not None and fast.plug.graphs is not None
        for expected, change in enumerate(
            (
                lambda: None,
                lambda: unet.load_state_dict({n: t.clone() for n, t in unet.state_dict().items()}, assign=True),
                lambda: move(unet.up_blocks[1].resnets[0].norm2),
                lambda: move(unet.conv_out),
                lambda: lora(unet),
                lambda: scale(unet, 0.5),
                lambda: move(next(m for m in unet.modules() if hasattr(m, "base_layer")).lora_A["default"]),
                lambda: [m.merge() for m in unet.modules() if hasattr(m, "base_layer")],
            ),
            start=1,
        ):
            change()
            for _ in range(3):
                unet(start("image"), step, **told)
            assert fast.plug.graphs.captures == expected


def lora(unet: Any, strength: float = 1.0) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    # Of every kind of layer some; also convolutions over frames.
    names = r".*(to_[qkv]|to_out\.0|net\.0\.proj|proj_(in|out)|resnets\.\d\.conv1|conv_shortcut|conv2\.3|time_emb_proj)"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = LoraConfig(r=2, lora_alpha=2, target_modules=names, init_lora_weights=False)
        inject_adapter_in_model(config, unet)
    scale(unet, strength)
    unet.requires_grad_(False).eval()


def scale(unet: Any, strength: float) -> None:
    for module in unet.modules():
        if hasattr(module, "base_layer"):
            module.scaling["default"] = strength


@pytest.mark.parametrize("build", BUILDS)
def test_adapters_count_whether_they_come_before_or_after(build: str) -> None:
    told = words(build)
    adapted, bare = small_unet(build), small_unet(build)
    lora(adapted)
    wanted, without = walk(adapted, build, told), walk(bare, build, told)
    assert relative(wanted, without) > 1e-3
    with accelerate_unet(adapted, "reference", recorder=Again()):
        assert relative(walk(adapted, build, told), wanted) < 1e-5
    with accelerate_unet(bare, "reference", recorder=Again()):
        walk(bare, build, told)
        lora(bare)
        assert relative(walk(bare, build, told), wanted) < 1e-5
        scale(bare, 0.0)
        assert relative(walk(bare, build, told), without) < 1e-5
        scale(bare, 1.0)
        assert relative(walk(bare, build, told), wanted) < 1e-5
    assert torch.equal(walk(bare, build, told), walk(adapted, build, told))


def test_a_copy_that_shares_the_weights_is_another_unet() -> None:
    from nodes.diffusion.lora import sharing_copy

    unet, told = small_unet("image"), words("image")
    plain = walk(unet, "image", told)
    with accelerate_unet(unet, "reference", recorder=Again()):
        walk(unet, "image", told)
        twin = sharing_copy(unet)
        lora(twin)
        twin_found, found = walk(twin, "image", told), walk(unet, "image", told)
    assert relative(found, plain) < 1e-5
    lora(unet)
    assert relative(twin_found, walk(unet, "image", told)) < 1e-5


def test_gradients_flow_to_words_and_weights() -> None:
    unet = small_unet("video")
    told = words("video")["encoder_hidden_states"]
    step = torch.linspace(900, 100, 4).long()[1]

    def gradients() -> list[Tensor]:
        leaf = told.clone().requires_grad_()
        with torch.enable_grad():
            answer = unet(start("video"), step, leaf).sample.square().sum()
            return list(torch.autograd.grad(answer, [leaf, *weights]))

    block = unet.down_blocks[0]
    weights = [
        block.attentions[0].transformer_blocks[0].attn1.to_q.weight,
        block.resnets[0].conv1.bias,
        block.resnets[0].time_emb_proj.weight,
        block.temp_convs[0].conv1[2].bias,
        block.temp_convs[0].conv2[0].weight,
    ]
    for weight in weights:
        weight.requires_grad_()
    wanted = gradients()
    with accelerate_unet(unet, "auto"):
        unet(start("video"), step, told)  # with something kept already
        for found in (gradients(), gradients()):
            for one, other in zip(found, wanted, strict=True):
                assert relative(one, other) < 1e-4


def test_weights_that_come_and_go_are_read_only_while_their_layer_is_called() -> None:
    unet, told = small_unet("video"), words("video")
    plain = walk(unet, "video", told)
    own = {}
    for module in unet.modules():
        if module._parameters:
            own[module] = {name: p.detach().clone() for name, p in module._parameters.items() if p is not None}

            def bring(layer: nn.Module, *_: Any) -> None:
                for name, tensor in own[layer].items():
                    layer._parameters[name].copy_(tensor)  # type: ignore[union-attr]

            def take(layer: nn.Module, *_: Any) -> None:
                for name in own[layer]:
                    layer._parameters[name].fill_(torch.nan)  # type: ignore[union-attr]

            module.register_forward_pre_hook(bring)
            module.register_forward_hook(take)
            take(module)
    assert torch.equal(walk(unet, "video", told), plain)
    with accelerate_unet(unet, "reference", recorder=Again()) as fast:
        assert relative(walk(unet, "video", told), plain) < 1e-5
    assert "no CUDA graph: the weights come and go" in fast.told()


def test_when_the_unet_is_let_go_of_everything_goes_with_it() -> None:
    class Captures(Again):
        """As a graph does, it knows no module; the other double does."""

        def record(self, run: Any) -> Any:
            result = run()
            return (lambda: None), result

    unet, told = small_unet("image"), words("image")
    with accelerate_unet(unet, "reference", keep=True, recorder=Captures()) as fast:
        walk(unet, "image", told)
    kept = weakref.ref(fast.plug)
    weights = [weakref.ref(parameter) for parameter in unet.parameters()]
    assert fast.plug is not None and fast.plug.graphs is not None and fast.plug.graphs.captures == 1
    assert unet in plug._KEPT
    gc.collect()
    gc.disable()
    try:
        del unet, fast
        assert kept() is None
        assert not any(weight() is not None for weight in weights)
    finally:
        gc.enable()


def test_kept_things_serve_again_and_can_be_dropped() -> None:
    unet, told = small_unet("image"), words("image")
    with accelerate_unet(unet, "reference", keep=True, recorder=Again()) as first:
        found = walk(unet, "image", told)
    with accelerate_unet(unet, "reference", keep=True) as second:
        assert second.plug is first.plug
        assert torch.equal(walk(unet, "image", told), found)
    assert "3 of 3 steps" in second.told()
    # Weights that were brought anew are others: nothing captured with the old ones is used.
    unet.load_state_dict({name: tensor * 1.1 for name, tensor in unet.state_dict().items()}, assign=True)
    unet.requires_grad_(False)
    with accelerate_unet(unet, "reference", keep=True) as third:
        changed = walk(unet, "image", told)
    plug.forget(unet)
    assert plug.held_bytes() == 0
    assert third.plug is first.plug
    assert relative(changed, walk(unet, "image", told)) < 1e-5
    other = small_unet("image")
    before = looks(other)
    with accelerate_unet(other, "sdpa", keep=True):
        walk(other, "image", told)
    assert not all(parameter.is_contiguous() for parameter in other.parameters())
    plug.forget()
    assert_same_looks(before, looks(other))


def test_graphs_that_keep_too_much_are_let_go(unets: Any) -> None:
    class Large(Again):
        held_bytes = 0

        def record(self, run: Any) -> Any:
            self.held_bytes += 100
            return super().record(run)

        def let_go(self) -> None:
            self.held_bytes = 0

    unet, told = unets["image"], words("image")
    with accelerate_unet(unet, "reference", recorder=Large()) as fast:
        found = walk(unet, "image", told)
        assert fast.plug is not None and fast.plug.graphs is not None
        fast.drop_graphs_above(100)
        assert fast.plug.graphs.held_bytes == 100
        fast.drop_graphs_above(99)
        assert fast.plug.graphs.held_bytes == 0
        assert torch.equal(walk(unet, "image", told), found)
        assert fast.plug.graphs.captures == 2


# --- refusals -----------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_honoured_is_told_and_changes_nothing(unets: Any) -> None:
    unet, told = unets["image"], words("image")
    before = looks(unet)
    with pytest.raises(ValueError, match="takes a UNet2DConditionModel or a UNet3DConditionModel"):
        accelerate_unet(nn.Linear(2, 2))
    with pytest.raises(KernelError, match="there are no kernels 'fastest'; choose one of auto, triton"):
        accelerate_unet(unet, "fastest")
    with pytest.raises(ValueError, match="only for kernels='compile'"):
        accelerate_unet(unet, "auto", mode="max-autotune")
    for kernels, says in (("xformers", "xformers"), ("sdpa.cudnn", "on CUDA devices only")):
        with accelerate_unet(unet, kernels), pytest.raises(KernelError, match=says):
            walk(unet, "image", told)
    with accelerate_unet(unet), pytest.raises(ValueError, match="accelerated already"):
        accelerate_unet(unet)
    assert_same_looks(before, looks(unet))


def test_nan_and_infinity_are_handed_on(unets: Any) -> None:
    unet, told = unets["image"], words("image")
    for poison in (torch.nan, torch.inf):
        state = start("image")
        state[0, 0, 2, 2] = poison
        with accelerate_unet(unet, "reference"):
            found = unet(state, torch.tensor(5), **told).sample
        assert not found[0].isfinite().any()
        assert found[1].isfinite().all()


def test_a_step_that_cannot_be_captured_is_computed_all_the_same(unets: Any) -> None:
    class OutOfResources(Exception):  # as Triton's, no RuntimeError
        pass

    class Refuses(Again):
        tried = 0

        def record(self, run: Any) -> Any:
            self.tried += 1
            raise OutOfResources("operation not permitted when stream is capturing")

    unet, told = unets["image"], words("image")
    plain = walk(unet, "image", told, 4)
    with accelerate_unet(unet, "reference", recorder=Refuses()) as fast:
        assert relative(walk(unet, "image", told, 4), plain) < 1e-5
        assert fast.plug.graphs._recorder.tried == 1, "a step that was refused is not tried again"
    assert "no CUDA graph: the step cannot be captured (operation not permitted" in fast.told()


def test_torch_compile_is_an_entry_of_the_same_table(unets: Any) -> None:
    unet, told = small_unet("image"), words("image")
    before, plain = looks(unet), walk(unet, "image", told, 1)
    with accelerate_unet(unet, "compile", backend="eager") as fast:
        assert relative(walk(unet, "image", told, 1), plain) < 1e-5
        assert fast.told() == "torch.compile"
    assert_same_looks(before, looks(unet))
    torch._dynamo.reset()


def test_memory_that_a_layout_takes_twice_is_counted() -> None:
    """A weight that lay in one piece with others leaves its place to nobody; one that lay alone does."""
    alone, packed = torch.nn.Conv2d(4, 8, 3, bias=False), torch.nn.Conv2d(4, 8, 3, bias=False)
    block = torch.zeros(2 * packed.weight.numel() + 512)
    packed.weight.data = block[: packed.weight.numel()].view_as(packed.weight).copy_(packed.weight.data)
    for layer, bytes in ((alone, 0), (packed, packed.weight.numel() * 4)):
        before, layout = layer.weight.detach().clone(), Layout()
        layout.lay_out([layer])
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)
        assert layout.bytes == bytes
        layout.restore()
        assert layout.bytes == 0 and torch.equal(layer.weight, before)
