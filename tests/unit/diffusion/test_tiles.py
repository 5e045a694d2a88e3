"""Pictures too large for the memory go through the autoencoder in tiles: like the whole, without seams, in a tile's memory."""

from itertools import pairwise

import pytest
import torch

from graph_engine.errors import Cancelled, NodeError
from graph_engine.memory.reservations import stated_bytes
from graph_engine.models.spec import ModelSpec
from nodes.diffusion import encode_inpaint, load_checkpoint, vae_decode, vae_encode
from nodes.diffusion.load import lease
from nodes.diffusion.model.tiles import _shares, _spans, in_tiles
from tests.diffusion_models import DiffusionContext

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return DiffusionContext(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def vae(context):
    return load_checkpoint(context).vae


@pytest.fixture
def fresh(context, tmp_path):
    found = DiffusionContext(tmp_path, context.models_dir)
    found.models = context.models
    return found


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def picture(height, width, count=1):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(4))


# --- the pieces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [2, 3, 8, 13])
def test_tiles_cover_a_side_and_overlap_and_add_up(side):
    for size in range(1, 60):
        spans = _spans(size, side)
        assert spans[0][0] == 0 and spans[-1][1] == size
        assert all(end - start == min(side, size) for start, end in spans)
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= max(1, side // 4)
        for unit in (1, 8):
            together = torch.zeros(size * unit)
            for (start, end), weight in zip(spans, _shares(spans, size, unit), strict=True):
                assert (weight > 0).all()
                together[start * unit : end * unit] += weight
            torch.testing.assert_close(together, torch.ones_like(together))


@pytest.mark.parametrize("size", [(5, 40), (40, 5), (19, 33), (16, 16), (17, 16)])
def test_what_every_cell_is_by_itself_comes_out_as_of_the_whole(size):
    whole = noise(2, 3, *size)
    for units, apply in (
        ((1, 8), lambda cells: torch.nn.functional.interpolate(cells, scale_factor=8)),
        ((1, 1), lambda cells: cells * 2 + 1),
    ):
        torch.testing.assert_close(in_tiles(apply, whole, 16, units), apply(whole))
    pixels = noise(1, 3, 8 * size[0], 8 * size[1])
    shrunk = in_tiles(lambda part: torch.nn.functional.avg_pool2d(part, 8), pixels, 16, (8, 1))
    torch.testing.assert_close(shrunk, torch.nn.functional.avg_pool2d(pixels, 8))


def test_where_tiles_disagree_one_fades_into_the_other():
    """A tile that is brighter than its neighbour makes a slope, no edge."""
    shades = iter((0.0, 1.0))
    found = in_tiles(lambda part: torch.full_like(part, next(shades)), torch.zeros(1, 1, 4, 28), 16, (1, 1))
    steps = found[0, 0, 0].diff()
    assert found.min() == 0 and found.max() == 1
    assert (steps >= 0).all()
    assert steps.max() <= 0.3, "an overlap of four cells"


# --- the nodes ------------------------------------------------------------------------------------------------------


def test_one_tile_that_covers_all_is_the_whole(context, vae):
    latent = {"samples": noise(2, 4, 8, 12)}
    whole = vae_decode(context, latent, vae)
    assert torch.equal(vae_decode(context, latent, vae, tile=96), whole)
    assert torch.equal(vae_decode(context, latent, vae, tile=4096), whole)
    pixels = picture(64, 96)
    assert torch.equal(
        vae_encode(context, pixels, vae, tile=96)["samples"], vae_encode(context, pixels, vae)["samples"]
    )


def test_tiles_are_like_the_whole_and_have_no_seams(context, vae):
    """Norms and attention of a tile see the tile only, so shades differ a little; where tiles meet no more than elsewhere."""
    latent = {"samples": noise(1, 4, 32, 48)}
    whole, tiles = (vae_decode(context, latent, vae, tile=tile) for tile in (0, 128))
    assert tiles.shape == whole.shape == (1, 256, 384, 3)
    assert 0 < (tiles - whole).abs().mean() < 0.1 * whole.std()
    assert (tiles - whole).abs().max() < whole.std()

    def edge(drawn, columns):
        """How much the error steps from pixel to pixel at the worst of these columns, of what it does everywhere."""
        steps = (drawn - whole).diff(dim=2).abs().mean(dim=(0, 1, 3))
        return max(steps[column - 1] for column in columns) / steps.mean()

    ends = {8 * end for span in _spans(48, 16) for end in span} - {0, 384}
    assert len(ends) == 6
    assert edge(tiles, ends) < 2
    pieces = [vae_decode(context, {"samples": part}, vae) for part in latent["samples"].split(16, dim=3)]
    assert edge(torch.cat(pieces, dim=2), (128, 256)) > 4, "without overlap and blending"


def test_encoding_in_tiles_is_like_the_whole(context, vae):
    pixels = picture(256, 384, 2)
    whole, tiles = (vae_encode(context, pixels, vae, tile=tile)["samples"] for tile in (0, 128))
    assert tiles.shape == whole.shape == (2, 4, 32, 48)
    assert 0 < (tiles - whole).abs().mean() < 0.15 * whole.std()
    assert (tiles - whole).abs().max() < whole.std()


def test_larger_tiles_are_nearer_to_the_whole(context, vae):
    latent = {"samples": noise(1, 4, 40, 40)}
    whole = vae_decode(context, latent, vae)
    errors = [(vae_decode(context, latent, vae, tile=tile) - whole).abs().mean() for tile in (64, 128, 256)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_inpainting_encodes_in_tiles_too(context, vae):
    pixels, mask = picture(128, 192), torch.zeros(1, 128, 192)
    mask[:, 32:96, 64:128] = 1.0
    whole, tiles = (encode_inpaint(context, pixels, mask, vae, tile=tile) for tile in (0, 96))
    assert whole.keys() == tiles.keys()
    assert torch.equal(whole["noise_mask"], tiles["noise_mask"])
    for name in ("samples", "masked_samples"):
        assert torch.corrcoef(torch.stack([whole[name].flatten(), tiles[name].flatten()]))[0, 1] > 0.9


def test_nothing_larger_than_a_tile_is_computed(fresh, vae, monkeypatch):
    module = lease(fresh, vae)
    seen = []
    for name in ("encode", "decode"):
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda part, own=own: (seen.append(tuple(part.shape)), own(part))[1])
    latent = vae_encode(fresh, picture(192, 320, 2), vae, tile=96)
    assert set(seen) == {(1, 3, 96, 96)}
    seen.clear()
    fresh.progressed.clear()
    vae_decode(fresh, latent, vae, tile=96)
    assert set(seen) == {(1, 4, 12, 12)}
    done, total, _ = fresh.progressed[-1]
    assert done == total == len(seen)
    assert sorted(fresh.progressed) == fresh.progressed
    seen.clear()
    vae_decode(fresh, latent, vae, tiled=True)
    assert set(seen) == {(1, 4, 8, 8)}, "as older workflows say it: the size that it was trained with"


def test_cancel_ends_within_a_tile(fresh, vae):
    fresh.stop_after = 3
    with pytest.raises(Cancelled):
        vae_decode(fresh, {"samples": noise(1, 4, 60, 60)}, vae, tile=64)
    assert len(fresh.progressed) <= 3


@pytest.mark.parametrize("tile", [8, 63])
def test_tiles_that_are_too_small_are_refused(context, vae, tile):
    for call in (
        lambda: vae_decode(context, {"samples": noise(1, 4, 4, 4)}, vae, tile=tile),
        lambda: vae_encode(context, picture(64, 64), vae, tile=tile),
    ):
        with pytest.raises(NodeError) as caught:
            call()
        assert (caught.value.problem.code, caught.value.problem.port) == ("out_of_range", "tile")


def test_the_bytes_that_are_asked_for_follow_the_tile():
    vae = ModelSpec("diffusion.vae", {"block_out_channels": [128, 256], "sample_size": 512}, (), "float16", {})
    decode, encode = vae_decode.node_type, vae_encode.node_type
    large, small = ({"samples": torch.zeros(1, 4, side, side)} for side in (512, 64))
    of_picture = 4096 * 4096 * 3 * 4
    tile = stated_bytes(decode, {"vae": vae, "latent": small}) - 512 * 512 * 3 * 4
    assert stated_bytes(decode, {"vae": vae, "latent": large, "tile": 512}) == tile + of_picture
    assert stated_bytes(decode, {"vae": vae, "latent": large, "tiled": True}) == tile + of_picture
    assert stated_bytes(encode, {"vae": vae, "image": torch.zeros(1, 4096, 4096, 3), "tile": 512}) == tile + of_picture
    assert stated_bytes(decode, {"vae": vae, "latent": large}) > 60 * tile
    assert stated_bytes(decode, {"vae": vae, "latent": small, "tile": 4096}) == tile + 512 * 512 * 3 * 4
    assert stated_bytes(decode, {"vae": vae, "tile": 256}) < stated_bytes(decode, {"vae": vae})
