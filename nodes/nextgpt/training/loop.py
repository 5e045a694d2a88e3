"""The loop: steps of one stage, with snapshots, an average, and an account of what was trained.

Interrupted anywhere and resumed, it gives the losses it would have given, bit for bit on the same machine: weights,
moments and average come from the snapshot, and every pass seeds itself (`seeds.py`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from graph_engine.errors import ModelError, NodeError, StoreError
from nodes.nextgpt.training import snapshot
from nodes.nextgpt.training.average import Average
from nodes.nextgpt.training.crew import Crew
from nodes.nextgpt.training.finished import DONE, settle
from nodes.nextgpt.training.interrupts import between_steps
from nodes.nextgpt.training.ledger import Frozen, Ledger, frozen_digest, ledger, parameters, untouched
from nodes.nextgpt.training.optimiser import optimiser as make_optimiser
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.precision import precision
from nodes.nextgpt.training.rate import rate
from nodes.nextgpt.training.seeds import drawer, seed_of
from nodes.nextgpt.training.stage import Stage
from nodes.nextgpt.training.stages import open_stage
from nodes.nextgpt.training.trace import NAME as TRACE
from nodes.nextgpt.training.trace import Trace

Event = Mapping[str, Any]
OnEvent = Callable[[Event], None]
log = logging.getLogger("anyloom.training")


@dataclass(frozen=True)
class Report:
    """What a call of `train` did. status: "finished"; "stopped" (go on with resume); "before": it was finished already.

    losses: of every step since the stage began. seconds, taken: of this call, and its steps.
    """

    stage: str
    status: Literal["finished", "stopped", "before"]
    steps: int
    losses: tuple[float, ...]
    ledger: Ledger
    seconds: float
    files: tuple[str, ...] = field(default=())
    taken: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "status": self.status,
            "steps": self.steps,
            "losses": list(self.losses),
            **self.ledger.to_json(),
            "seconds": self.seconds,
            "files": list(self.files),
        }


def train(
    plan: Plan,
    parts: Parts,
    name: str,
    *,
    resume: bool = False,
    steps: int | None = None,
    seconds: float | None = None,
    on_event: OnEvent | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Report:
    """Follow a plan to its end, or for `steps` steps or `seconds` seconds, whichever comes first.

    name: of the stage; its snapshots and trace lie under this name in the folder of `parts`. Stopped by a limit, by
    `stopped()` or by Ctrl-C, it saves where it is; Ctrl-C counts between two steps and is raised again. Raises StoreError
    for a folder that holds the beginnings of the stage when `resume` is not set, or those of another recipe or on other
    frozen weights when it is, and for a full disk; NodeError for a medium that cannot be read, with all steps before it
    saved; ModelError for a loss that is no number, and for frozen weights that changed.
    """
    began = time.monotonic()
    folder = parts.folder / name
    finished = _finished(folder, plan, resume)
    if finished is not None:
        return finished
    crew = Crew.join(parts)
    saved = snapshot.latest(folder, plan.digest)
    if saved is not None and not resume:
        raise StoreError(
            f"{folder} holds step {saved.step} of this stage already.",
            remedy="Go on with --resume, or train in another folder.",
            code="training_exists",
        )
    with _thread_seeds(), _attention_without_plans():
        torch.manual_seed(seed_of(plan.seed, name))
        for part in filter(None, plan.anew.split(",")):
            parts.renew(part.strip())
        stage = open_stage(plan, parts)
        if crew.leads:
            _warn_of_untaught(stage, parts, name)
        weights = {key: tensor for key, tensor in parameters(stage.modules) if tensor.requires_grad}
        account, frozen = ledger(stage.modules, stage.rows), frozen_digest(stage.modules, stage.rows)
        optimiser = make_optimiser(plan, stage, weights)
        average = Average(weights, plan.ema) if plan.ema else None
        losses: list[float] = []
        if saved is not None:
            _same_base(saved, frozen, parts, name)
            losses = list(saved.losses)
            _restore(saved.tensors, weights, optimiser, average)
        done = begun = len(losses)
        trace = Trace(folder / TRACE, done) if crew.leads else None
        last = min(plan.steps, done + steps) if steps is not None else plan.steps

        def keep(step: int) -> None:
            if crew.leads:
                tensors = _state(weights, optimiser, average)
                snapshot.save(folder, snapshot.Snapshot(step, plan.digest, tensors, tuple(losses), frozen.weights))

        like = next(iter(weights.values()))
        settled = True  # weights, average and losses are of one step, and may be saved
        with between_steps() as interrupts:
            try:
                while done < last:
                    over = seconds is not None and time.monotonic() - began > seconds
                    if crew.anyone(interrupts.noted or over or (stopped is not None and stopped()), like):
                        break
                    _set_rate(optimiser, plan.learning_rate * rate(plan, done))
                    facts = _gradients(plan, stage, name, done, weights, crew)
                    settled = False
                    optimiser.step()
                    if average is not None:
                        average.update(weights, done)
                    done += 1
                    losses.append(facts["loss"])
                    settled = True
                    event = {"stage": name, "step": done, "steps": plan.steps, **facts, "rate": _rate_of(optimiser)}
                    if trace is not None:
                        trace.add(event)
                    if on_event is not None and crew.leads:
                        on_event({**event, "seconds": time.monotonic() - began})
                    if done % plan.checkpoint_every == 0 and done < last:
                        keep(done)
            except (KeyboardInterrupt, NodeError, OSError):  # Ctrl-C again; a medium that is damaged or gone
                if settled:
                    keep(done)
                raise
            finally:
                if trace is not None:
                    trace.close()
            optimiser.zero_grad(set_to_none=True)
            untouched(frozen, frozen_digest(stage.modules, stage.rows), name)
            keep(done)
        interrupted = crew.anyone(interrupts.noted, like)
        if interrupts.noted:
            raise KeyboardInterrupt
        if done < plan.steps or interrupted:
            spent = time.monotonic() - began
            return Report(name, "stopped", done, tuple(losses), account, spent, taken=done - begun)
        with average.in_place(weights) if average is not None else contextlib.nullcontext():
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(seed_of(plan.seed, name, "finish"))
                stage.finish()
            files = _publish(stage, parts, plan, name) if crew.leads else []
        # What stays in memory is what a later stage would read from the folder.
        for part in stage.saved:
            parts.forget(part)
        spent = time.monotonic() - began
        report = Report(name, "finished", done, tuple(losses), account, spent, tuple(files), done - begun)
        if crew.leads:
            told = {"digest": plan.digest, "plan": plan.to_json(), **report.to_json()}
            snapshot.write_bytes(folder / DONE, json.dumps(told, indent=1).encode())
            settle(parts.folder)
        crew.wait()
        return report


def _warn_of_untaught(stage: Stage, parts: Parts, name: str) -> None:
    """What a stage only reads teaches it nothing while it is random, and no loss would tell."""
    found = sorted(part for part in stage.modules if part in parts.untaught and part not in stage.saved)
    if found:
        log.warning(
            "%s learns from weights that are random: %s. No stage before left any in %s; train these parts first, or "
            "copy their files there.",
            name,
            ", ".join(found),
            parts.folder / "weights",
        )


def _same_base(saved: snapshot.Snapshot, frozen: Frozen, parts: Parts, name: str) -> None:
    """Half of a stage on other weights than the other half would be a result of neither, and no loss would tell."""
    if saved.frozen and saved.frozen != frozen.weights:
        raise StoreError(
            f"{name} computes with other frozen weights than those it was begun with, up to step {saved.step}.",
            remedy=f"Put back those that lay in {parts.folder / 'weights'} then; or remove {parts.folder / name}, and the "
            "stage begins anew with these.",
            code="base_changed",
        )


def _gradients(
    plan: Plan, stage: Stage, name: str, step: int, weights: Mapping[str, Tensor], crew: Crew
) -> dict[str, float]:
    """Those of one step, clipped and shared by the crew, at the weights; returns the numbers to be shown. Moves no weight."""
    for tensor in weights.values():
        tensor.grad = None
    sums: dict[str, Tensor] = {}
    device = next(iter(weights.values())).device.type
    for part in range(plan.accumulate):
        facts = (plan.seed, name, step, part, crew.rank)
        torch.manual_seed(seed_of(*facts))
        with precision(device, plan.precision):
            loss, told = stage.loss(drawer(*facts), plan.batch // plan.accumulate)
        (loss / plan.accumulate).backward()
        for key, value in {"loss": loss, **told}.items():
            share = value.detach() / plan.accumulate
            sums[key] = sums[key] + share if key in sums else share
    for key, rows in stage.rows.items():
        if weights[key].grad is not None:
            weights[key].grad[: rows.start] = 0  # type: ignore[index]
    crew.share(list(weights.values()))
    sums["gradient"] = torch.nn.utils.clip_grad_norm_(list(weights.values()), plan.clip)
    # All numbers at once: each that is asked for alone has an accelerator and its host wait for each other.
    numbers = torch.stack([value.float().to(sums["gradient"].device) for value in sums.values()]).tolist()
    shown = dict(zip(sums, numbers, strict=True))
    for what in ("loss", "gradient"):
        if not math.isfinite(shown[what]):
            rest = ", ".join(f"{name} {value:g}" for name, value in shown.items() if name not in ("loss", "gradient"))
            raise ModelError(
                f"the {what} of step {step + 1} is no number{f' ({rest})' if rest else ''}.",
                remedy="Train in another folder, with a lower learning rate or in float32; the last snapshot of this one is "
                "from before it.",
                code="loss_not_finite",
            )
    return shown


def _set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = value * group["scale"]


def _rate_of(optimiser: torch.optim.Optimizer) -> float:
    group = optimiser.param_groups[0]
    return float(group["lr"] / group["scale"])


_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def _state(
    weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, average: Average | None
) -> dict[str, Tensor]:
    tensors = {f"weights/{key}": tensor for key, tensor in weights.items()}
    for key, tensor in weights.items():
        for moment, value in optimiser.state.get(tensor, {}).items():
            tensors[f"{moment}/{key}"] = torch.as_tensor(value)
    if average is not None:
        tensors |= {f"average/{key}": tensor for key, tensor in average.shadow.items()}
    return {key: tensor.detach().clone() for key, tensor in tensors.items()}


@torch.no_grad()
def _restore(
    tensors: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    average: Average | None,
) -> None:
    for key, tensor in weights.items():
        tensor.copy_(tensors[f"weights/{key}"])
        found = {moment: tensors[f"{moment}/{key}"] for moment in _MOMENTS if f"{moment}/{key}" in tensors}
        # The count stays on the CPU, where AdamW keeps it.
        optimiser.state[tensor] = {m: v.clone() if m == "step" else v.to(tensor) for m, v in found.items()}
        if average is not None:
            average.shadow[key].copy_(tensors[f"average/{key}"])


def _publish(stage: Stage, parts: Parts, plan: Plan, name: str) -> list[str]:
    facts = {"trained": json.dumps({"stage": name, "digest": plan.digest, "preset": plan.preset})}
    files = parts.put_aside(stage.saved, name, facts)
    return [str(path) for path in (*files, *stage.publish(parts.folder / name, facts))]


def _finished(folder: Path, plan: Plan, resume: bool) -> Report | None:
    path = folder / DONE
    if not path.is_file():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    if told["digest"] != plan.digest:
        raise StoreError(
            f"{folder} was trained by another recipe.",
            remedy="Train with the recipe it was begun with, or in another folder.",
            code="other_recipe",
        )
    if not resume:
        raise StoreError(f"{folder} is trained already.", remedy="Train in another folder.", code="training_exists")
    account = Ledger(told["trained"], told["total"], told["embeddings"], told["by_part"])
    return Report(told["stage"], "before", told["steps"], tuple(told["losses"]), account, 0.0, tuple(told["files"]))


@contextlib.contextmanager
def _attention_without_plans() -> Iterator[None]:
    """cuDNN's attention builds a plan for every shape, half a second each, and no two batches of talks have one length."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


@contextlib.contextmanager
def _thread_seeds() -> Iterator[None]:
    """torch's generators are those of the process; they are given back as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        yield
