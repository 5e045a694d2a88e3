"""`diffusion.combine_conditions`: rows after one another and averages, of every kind of condition that there is."""

import pytest
import torch

from graph_engine.errors import NodeError
from graph_engine.models.load import materialise
from nodes.diffusion import combine_conditions, empty_latent, encode_text, load_checkpoint, sample
from nodes.nextgpt.decode_image import sample_image
from nodes.nextgpt.families import FAMILIES as NEXTGPT
from nodes.nextgpt.load import load
from nodes.nextgpt.project_out import project_out
from tests.diffusion_models import FAMILY, DiffusionContext, pipeline

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BOTH = FAMILY | {family.name: family for family in NEXTGPT}
OPTIONS = {"seed": 3, "steps": 2, "guidance": 3.0}


class BothContext(DiffusionContext):
    def model(self, spec):
        if spec.key not in self.models:
            self.models[spec.key] = materialise(spec, BOTH[spec.family], "cpu")
        return self.models[spec.key]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return BothContext(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def sd(context):
    return load_checkpoint(context)


@pytest.fixture(scope="module")
def xl(context):
    pipeline("sdxl", context.models_dir).save_pretrained(context.models_dir / "diffusers" / "xl")
    return load_checkpoint(context, "xl")


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def refused(*arguments, **options):
    with pytest.raises(NodeError) as caught:
        combine_conditions(*arguments, **options)
    assert caught.value.problem.remedy
    return caught.value.problem.code, caught.value.problem.port


def test_rows_after_one_another(context, sd):
    boat, hill = (encode_text(context, sd.clip, text) for text in ("a red boat", "a hill"))
    [[rows, facts]] = combine_conditions(boat, hill)
    assert torch.equal(rows, torch.cat([boat[0][0], hill[0][0]], dim=1))
    assert facts == boat[0][1]
    drawn = sample(context, sd.model, [[rows, facts]], empty_latent(32, 32), boat, **OPTIONS)["samples"]
    assert drawn.shape == (1, 4, 4, 4)
    alone = sample(context, sd.model, boat, empty_latent(32, 32), boat, **OPTIONS)["samples"]
    assert not torch.allclose(drawn, alone)
    twice = sample(context, sd.model, combine_conditions(boat, boat), empty_latent(32, 32), boat, **OPTIONS)["samples"]
    torch.testing.assert_close(twice, alone)


def test_an_average_has_the_weight_of_the_first(context, sd):
    boat, hill = (encode_text(context, sd.clip, text) for text in ("a red boat", "a hill"))
    for weight in (0.0, 0.3, 1.0):
        [[rows, _]] = combine_conditions(boat, hill, "average", weight)
        torch.testing.assert_close(rows, boat[0][0] * weight + hill[0][0] * (1 - weight))
    assert torch.equal(combine_conditions(boat, hill, "average", 1.0)[0][0], boat[0][0])
    assert torch.equal(combine_conditions(boat, hill, "average", 0.0)[0][0], hill[0][0])


def test_summaries_of_sdxl(context, xl):
    boat = encode_text(context, xl.clip, "a red boat", width=512, height=256)
    hill = encode_text(context, xl.clip, "a hill", width=64)
    first, second = (condition[0][1]["pooled_output"] for condition in (boat, hill))
    [[rows, facts]] = combine_conditions(boat, hill)
    assert rows.shape == (1, 154, 80)
    assert torch.equal(facts["pooled_output"], first)
    assert (facts["width"], facts["height"]) == (512, 256)
    [[rows, facts]] = combine_conditions(boat, hill, "average", 0.25)
    torch.testing.assert_close(facts["pooled_output"], first * 0.25 + second * 0.75)
    assert facts["architecture"] == "sdxl"
    assert not torch.equal(facts["pooled_output"], boat[0][1]["pooled_output"]), "what came in is as it was"
    drawn = sample(context, xl.model, [[rows, facts]], empty_latent(32, 32), hill, **OPTIONS)["samples"]
    assert drawn.shape == (1, 4, 4, 4)
    bare = [[noise(1, 77, 80), {}]]
    for mode in ("concat", "average"):
        for pair in ((bare, hill), (hill, bare)):
            assert torch.equal(combine_conditions(*pair, mode)[0][1]["pooled_output"], second), "the only one there is"


def test_texts_of_different_length_are_averaged_without_a_loss(context, sd):
    """Each end of the average draws what its condition draws alone."""
    long, short = (encode_text(context, sd.clip, text, long_text="further rows") for text in ("x " * 100, "grey"))
    for pair, weight, alone in (((long, short), 0.0, short), ((long, short), 1.0, long), ((short, long), 1.0, short)):
        mixed = combine_conditions(*pair, "average", weight)
        assert mixed[0][0].shape[1] == 154
        drawn, wanted = (
            sample(context, sd.model, one, empty_latent(32, 32), seed=3, steps=2, guidance=1.0)["samples"]
            for one in (mixed, alone)
        )
        torch.testing.assert_close(drawn, wanted)


def test_what_nextgpt_says_and_a_text(context, sd):
    models = load(context, "tiny")
    states = {name: noise(4, 64, seed=seed) for seed, name in enumerate(("hidden", "embeds"))}
    spoken = project_out(context, {"modality": "image", "order": 0, **states}, models.image_projector)
    text = encode_text(context, sd.clip, "a red boat")
    for mode, rows in (("concat", 154), ("average", 77)):
        [[tensor, facts]] = both = combine_conditions(spoken, text, mode)
        assert tensor.shape == (1, rows, 768)
        assert facts == spoken[0][1]
        assert sample(context, sd.model, both, empty_latent(32, 32), **OPTIONS)["samples"].shape == (1, 4, 4, 4)
    mixed = combine_conditions(spoken, text, "average")
    assert sample_image(context, mixed, models.image_decoder, seed=1, steps=1)["samples"].ndim == 4


def test_one_is_combined_with_each_of_several():
    one, several = noise(1, 3, 8), noise(3, 3, 8, seed=2)
    summaries = noise(3, 5)
    batch = [[several, {"pooled_output": summaries}]]
    entries = [[several[index : index + 1], {"pooled_output": summaries[index : index + 1]}] for index in range(3)]
    for many in (batch, entries):
        found = combine_conditions([[one, {}]], many)
        assert torch.equal(torch.cat([rows for rows, _ in found]), torch.cat([one.expand(3, -1, -1), several], dim=1))
        assert torch.equal(torch.cat([facts["pooled_output"] for _, facts in found]), summaries)
    found = combine_conditions(batch, entries, "average", 0.5)
    torch.testing.assert_close(torch.cat([rows for rows, _ in found]), several)
    assert refused([[noise(2, 3, 8), {}]], batch) == ("bad_condition", "second")


def test_what_does_not_fit_is_refused():
    right = [[noise(1, 77, 8), {}]]
    assert refused(right, [[noise(1, 77, 9), {}]]) == ("wrong_width", "second")
    for mode in ("concat", "average"):
        assert refused([[noise(77, 8), {}]], right, mode) == ("bad_condition", "first")
        assert refused(right, [], mode) == ("bad_condition", "second")
    told, other = (
        [[noise(1, 77, 8), {"pooled_output": noise(1, 4)}]],
        [[noise(1, 77, 8), {"pooled_output": noise(1, 5)}]],
    )
    assert refused(told, other, "average") == ("wrong_width", "second")
    assert refused(right, [[noise(3, 77, 8), {"pooled_output": noise(2, 4)}]]) == ("bad_condition", "second")
