"""`anyloom plan` and `--vram`: what is said before a run is what happens in it, and less memory changes no result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graph_engine.graph.registry import Registry
from graph_engine.memory.reservations import passes_of
from graph_engine.settings import Settings
from nodes.nextgpt.working import denoiser_passes
from web.cli import main, parser
from web.commands.flags import settings_of
from web.commands.plan import show
from web.forecast import Report, Use, expected_s


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


TINY = ["--set", "models.preset=tiny"]
"""Whose sizes are told here; its weights are made on the spot."""


@pytest.fixture
def flags(tmp_path: Path, models: Path) -> list[str]:
    return ["--data", str(tmp_path / "data"), "--models-dir", str(models)]


def report(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    code = main(["plan", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_what_fits_is_copied_once(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "text_to_image", *TINY, *flags, "--vram", "50MB", "--bandwidth", "1GB"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cpu: 52.43 MB for models, copies at 1.1 GB/s (as given)\n")
    assert "think           nextgpt.language_model           1.35 MB  copies 1.35 MB; stays whole" in out
    assert "It fits. Copies: " in out
    code, found = report(capsys, "text_to_image", *TINY, *flags, "--vram", "50MB", "--bandwidth", "1GB")
    uses = found["uses"]
    assert isinstance(uses, list)
    assert code == 0 and not any(use["streamed"] for use in uses)
    assert found["copied"] == sum(use["weights"] for use in uses)
    assert found["seconds"] == pytest.approx(sum(use["seconds"] for use in uses)) == found["copied"] / 2**30


def test_what_does_not_fit_is_streamed_and_says_what_a_pass_copies(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "text_to_image", *TINY, *flags, "--vram", "3.1MB"]) == 0
    out = capsys.readouterr().out
    assert "streamed: " in out and "every pass copies" in out and ", 96 passes " in out, "as many as tokens"
    assert "A pass is a token or a denoising step; as many are counted as the step may make." in out
    _, found = report(capsys, "text_to_image", *TINY, *flags, "--vram", "3.1MB")
    uses = {use["step"]: use for use in found["uses"]}  # type: ignore[attr-defined]
    assert {name for name, use in uses.items() if use["streamed"]} == {"think"}, "activations count, too"
    assert all(use["kept"] + use["streamed"] == use["weights"] for use in uses.values())
    think = uses["think"]
    assert (think["passes"], uses["draw"]["passes"]) == (96, 1), "what stays comes once"
    assert think["copied"] == think["weights"] + 95 * think["streamed"]
    assert found["copied"] == sum(use["copied"] for use in uses.values())
    assert found["seconds"] * found["bandwidth"] == pytest.approx(found["copied"])  # type: ignore[operator]
    fewer = [*TINY, "--set", "think.max_new_tokens=40"]
    _, found = report(capsys, "text_to_image", *fewer, *flags, "--vram", "3.1MB")
    (use,) = [use for use in found["uses"] if use["streamed"]]  # type: ignore[attr-defined]
    assert use["copied"] == use["weights"] + 39 * use["streamed"]


def test_once_it_ran_the_time_is_known_also_to_another_process(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ran with the same --data teaches every plan after it: of the same size, by the pass."""
    words = ["text_to_image", *TINY, *flags, "--bandwidth", "55GB"]
    _, before = report(capsys, *words)
    assert {use["usual"] for use in before["uses"]} == {None}  # type: ignore[attr-defined]
    assert main(["run", *words[:-2], "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    code, after = report(capsys, *words)
    usual = {use["step"]: use["usual"] for use in after["uses"]}  # type: ignore[attr-defined]
    assert code == 0 and all(0 < seconds < 30 for seconds in usual.values())
    _, longer = report(capsys, *words, "--set", "draw.steps=16")
    (draw,) = [use["usual"] for use in longer["uses"] if use["step"] == "draw"]  # type: ignore[attr-defined]
    assert draw == pytest.approx(2 * usual["draw"]), "sixteen steps where eight were seen"
    assert main(["plan", *words]) == 0
    out = capsys.readouterr().out
    assert "Expected, with computing as it went so far: " in out and "How long a step computes" not in out


@pytest.mark.parametrize(
    ("sets", "passes"), [((), 8), (("draw.steps=12",), 12), (("draw.steps=12", "draw.scheduler=heun"), 24)]
)
def test_a_denoiser_is_gone_through_once_a_step(
    flags: list[str], capsys: pytest.CaptureFixture[str], sets: tuple[str, ...], passes: int
) -> None:
    """As the decoder has it, as the workflow says, and twice with a scheduler of second order."""
    words = [word for set in ("draw.width=96", "draw.height=96", *sets) for word in ("--set", set)]
    _, found = report(capsys, "text_to_image", *TINY, *words, *flags, "--vram", "3.1MB", "--bandwidth", "55GB")
    (use,) = [use for use in found["uses"] if use["step"] == "draw"]  # type: ignore[attr-defined]
    assert use["streamed"] > 0 and use["passes"] == passes
    assert use["copied"] == use["weights"] + (passes - 1) * use["streamed"]
    assert use["seconds"] == pytest.approx(use["copied"] / found["bandwidth"])


def test_passes_of_what_is_linked_or_changed_in_part() -> None:
    assert [denoiser_passes({"steps": 20, "strength": part}) for part in (1.0, 0.6, 0.01)] == [20, 12, 1]
    types = Registry.discover()
    assert passes_of(types["nextgpt.reason"], {"max_new_tokens": 7}) == 7
    draw = types["diffusion.sample"]
    assert passes_of(draw, {"steps": 20, "scheduler": "heun"}) == 40
    assert passes_of(draw, {}) == 1, "linked, and nobody knows to what"


def test_what_is_expected_is_the_longer_of_copying_and_computing(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it computes while it is copied; what has to be there first comes on top."""

    def use(step: str, copies: float, usual: float | None, beside: bool) -> Use:
        return Use(step, "m", 100, 60, 40, int(copies * 10), copies, "", 0, 5, beside, usual)

    uses = (use("a", 3.0, 2.0, True), use("b", 2.0, 3.0, True), use("c", 2.0, 3.0, False), use("d", 1.0, None, True))
    assert expected_s(uses) == 3 + 3 + 5 + 1
    assert expected_s(uses, 10.0, (20, 0, 20, 0)) == 2 + 3 + 3 + 1, "of what is there already"
    two = (use("a", 3.0, 4.0, True), use("a", 2.0, 4.0, True), use("a", 1.0, 4.0, False))
    assert expected_s(two) == 1 + 5, "three models of one step, which computes once"
    show(Report("cuda:0", 1000, 10.0, uses, 80, 8.0), "as given")
    out = capsys.readouterr().out
    assert "Expected, with computing as it went so far: 12 s." in out
    assert "5 passes 3 s; such steps took 2 s so far" in out
    assert "How long a step computes is known once one of its type and size ran" in out, "of one of them"


def test_what_comes_while_another_step_computes_is_said(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that hangs on what the language model says before it has said it; and nothing for which there is no room."""
    for budget, film in (("20MB", "draw_condition"), ("6MB", "")):
        _, found = report(capsys, "any_to_any", *TINY, *flags, "--vram", budget)
        during = {use["step"]: use["during"] for use in found["uses"]}  # type: ignore[attr-defined]
        assert (during["encode_picture"], during["think"]) == ("", "encode_picture")
        assert (during["draw_condition"], during["draw"]) == ("", "draw_condition")
        assert during["film"] == film
    assert main(["plan", "any_to_any", *TINY, *flags, "--vram", "20MB"]) == 0
    assert "copies 1.35 MB while encode_picture computes" in capsys.readouterr().out


def test_what_cannot_run_says_the_numbers(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "text_to_image", *TINY, *flags, "--vram", "300KB"]) == 1
    assert "It does not fit. think: nextgpt.language_model (1.35 MB) needs" in capsys.readouterr().out
    assert main(["run", "text_to_image", *TINY, *flags, "--vram", "300KB", "--plain", "--out", str(flags[1])]) == 1
    err = capsys.readouterr().err
    assert "307,200" in err and "bytes beside its models does not fit" in err


def test_a_workflow_without_models(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = {"a": {"type": "control.text", "values": {"value": "hello"}}}
    path = tmp_path / "plain.json"
    path.write_text(json.dumps({"format": "anyloom", "version": 1, "nodes": nodes}))
    assert main(["plan", str(path), *flags]) == 0
    assert "No step uses a model." in capsys.readouterr().out


def test_a_preset_can_be_planned_before_its_weights_are_here(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text trunk of ImageBind in its published size, 0.7 GB, in 512 MiB; the other trunks are not wanted."""
    nodes = {
        "models": {"type": "nextgpt.load", "values": {"preset": "nextgpt-7b-tiva-v0"}},
        "encode": {"type": "nextgpt.encode_text", "values": {"text": "x"}, "links": {"encoder": "models.encoder"}},
    }
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"format": "anyloom", "version": 1, "nodes": nodes}))
    code, found = report(capsys, str(path), *flags, "--vram", "512MB", "--bandwidth", "55GB")
    (use,) = found["uses"]  # type: ignore[misc]
    assert code == 0 and found["here"] is False
    assert use["weights"] == 2 * 354_032_641
    assert use["streamed"] > use["weights"] - 2**29
    assert main(["plan", str(path), *flags, "--vram", "512MB"]) == 0
    out = capsys.readouterr().out
    assert "Weight files are missing; these are the sizes of the preset." in out
    assert "copies at 55.0 GB/s (assumed)" in out, "there is no file to measure with"


def test_what_the_load_nodes_refuse_is_said_as_a_run_would(
    flags: list[str], tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = {
        "load": {"type": "nextgpt.load_encoder", "values": {"preset": "huge"}},
        "encode": {"type": "nextgpt.encode_text", "values": {"text": "x"}, "links": {"encoder": "load.encoder"}},
    }
    path = tmp_path / "unknown.json"
    path.write_text(json.dumps({"format": "anyloom", "version": 1, "nodes": nodes}))
    assert main(["plan", str(path), *flags]) == 1
    assert "preset" in capsys.readouterr().err


def test_a_turn_in_a_third_of_its_memory_gives_the_same_files(
    flags: list[str], tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Models of 8.3 MB and up to 3.6 MB beside them: a budget in which the film's is streamed; each file is the same."""
    made = []
    for name, more in (("roomy", []), ("narrow", ["--vram", "4MB"])):
        out = tmp_path / name
        words = ["run", "any_to_any", *TINY, "--data", str(tmp_path / f"{name}-data"), "--models-dir", str(models)]
        assert main([*words, "--plain", "--out", str(out), *more]) == 0
        made.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert len(made[0]) == 4
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--vram", "8GB"], {"cpu": 8 << 30}),
        (["--vram", "cpu=100MB"], {"cpu": 100 << 20}),
        (["--vram", "8GB", "--vram", "cuda:1=2GB", "--vram", "cpu=1GB"], {"cpu": 1 << 30, "cuda:1": 2 << 30}),
        ([], {}),
    ],
)
def test_vram_is_the_budget_of_devices(
    words: list[str], expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.commands.flags.find_devices", lambda: ("cpu",))
    settings: Settings = settings_of(parser().parse_args(["serve", *words]))
    assert dict(settings.device_bytes) == expected


@pytest.mark.parametrize("word", ["much", "0", "gpu=8GB", "cpu=", "=8GB", "off"])
def test_a_budget_that_is_none_is_wrong_use(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["serve", "--vram", word])
    assert caught.value.code == 64
    assert "use a size such as" in capsys.readouterr().err
