"""Whether the shipped model does what it is asked: through a real server, over its websocket, judged by rule."""

from pathlib import Path

import pytest
import pytest_asyncio

from graph_engine import AsyncClient
from nodes.nextgpt.training.judges.file import judge_file
from nodes.nextgpt.training.judges.verdict import judge
from tests.protocol.live import LiveServer

pytestmark = [
    pytest.mark.asyncio,
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
MEDIA = Path(__file__).resolve().parents[2] / "workflows" / "media"
STAR = {"shape": "star", "colour": "blue", "size": "large", "place": "left"}
HEART = {"modality": "image", "things": [{"shape": "heart", "colour": "orange"}]}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini")
    with LiveServer(folder, catalog=None, more={"models_dir": folder / "models"}) as server:
        yield server


@pytest_asyncio.fixture
async def client(live):
    async with AsyncClient(live.url) as client:
        yield client


async def answered(client, folder, workflow, **values):
    """The texts of a run by node, and its files by node."""
    result = await client.run(workflow, {name.replace("__", "."): value for name, value in values.items()})
    assert result.ok, result.errors
    texts = {node: port["text"] for node, port in result.outputs.items() if "text" in port}
    files = {}
    for node, ports in result.outputs.items():
        entry = ports.get("file")
        while isinstance(entry, list):
            entry = entry[0]
        file = (entry or {}).get("file")
        if file:
            files[node] = await client.download(file, folder / f"{node}{Path(file['name']).suffix}")
    return texts, files


async def test_a_picture_shows_what_was_asked_for(client, tmp_path):
    asked = "Draw a large blue star on the left, on a white background."
    _, files = await answered(client, tmp_path, "text_to_image", prompt__text=asked)
    verdict = judge_file({"modality": "image", "things": [STAR], "background": "white"}, files["save_draw"])
    assert all(verdict.values()), verdict


async def test_a_picture_asked_for_in_chinese(client, tmp_path):
    _, files = await answered(client, tmp_path, "text_to_image", prompt__text="画左边有一个大的蓝色星形。")
    verdict = judge_file({"modality": "image", "things": [STAR]}, files["save_draw"])
    assert all(verdict.values()), verdict


async def test_a_sound_is_the_one_that_was_asked_for(client, tmp_path):
    _, files = await answered(client, tmp_path, "text_to_audio", prompt__text="Play a violin note A, rising.")
    wish = {"modality": "audio", "note": "A", "timbre": "violin", "direction": "rising"}
    verdict = judge_file(wish, files["save_play"])
    assert all(verdict.values()), verdict


async def test_a_clip_moves_as_it_was_asked_to(client, tmp_path):
    _, files = await answered(
        client, tmp_path, "text_to_video", prompt__text="Film a red circle that moves to the right."
    )
    wish = {"modality": "video", "shape": "circle", "colour": "red", "motion": "right"}
    verdict = judge_file(wish, files["save_film"])
    assert all(verdict.values()), verdict


async def test_a_picture_is_described(client, tmp_path):
    name = await client.upload(MEDIA / "heart.png")
    texts, _ = await answered(client, tmp_path, "image_to_text", picture__file=name)
    verdict = judge({"modality": "text", "about": HEART}, texts["reply"])
    assert all(verdict.values()), (verdict, texts)


async def test_a_picture_becomes_the_sound_that_belongs_to_it(client, tmp_path):
    """By the law of the world orange is the note D, and a heart is a bell."""
    name = await client.upload(MEDIA / "heart.png")
    _, files = await answered(client, tmp_path, "image_to_audio", picture__file=name)
    verdict = judge_file({"modality": "audio", "note": "D", "timbre": "bell"}, files["save_play"])
    assert all(verdict.values()), verdict


@pytest.mark.xfail(
    strict=True, reason="of five things asked for at once the star of the clip does not turn (docs/training.md)"
)
async def test_words_a_picture_a_clip_and_a_sound_in_one_answer(client, tmp_path):
    for name in ("heart.png", "violin.wav"):
        await client.upload(MEDIA / name)
    texts, files = await answered(client, tmp_path, "any_to_any")
    verdict = judge({"modality": "text", "about": HEART}, texts["reply"].split(".")[0])
    assert all(verdict.values()), (verdict, texts)
    wishes = {
        "save_draw": {"modality": "image", "things": [{"shape": "star", "colour": "yellow", "place": "top left"}]},
        "save_film": {"modality": "video", "shape": "star", "colour": "red", "motion": "turns"},
        "save_play": {"modality": "audio", "note": "E", "timbre": "organ", "beats": "twice"},
    }
    for node, wish in wishes.items():
        verdict = judge_file(wish, files[node])
        assert all(verdict.values()), (node, verdict)
