"""What goes between the server and its processes: parcels, messages, and the plain forms of jobs, reports and errors."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from works import context_of, typed, work

from graph_engine import Grow, Need, NodeContext, Skip
from graph_engine import errors as house
from graph_engine.errors import AnyloomError, GraphError, NodeError, OutOfMemory, Problem, RequestError, StoreError
from graph_engine.execute.executor import Interrupted, Outputs, Raised
from graph_engine.execute.worker_forms import error_form, error_from, job_from, report_form, report_from, work_form
from graph_engine.execute.worker_parcel import INLINE_BYTES, Parcel, memory_file
from graph_engine.execute.worker_wire import Wire
from graph_engine.graph.outcome import UNSET, NodeLink, OwnInput
from graph_engine.graph.registry import Registry


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- parcels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 3, INLINE_BYTES // 4 - 64, INLINE_BYTES // 4 + 1, 1_000_000])
def test_tensors_of_any_size_arrive_and_leave_no_descriptor(size: int) -> None:
    before = descriptors()
    value = {"t": torch.arange(size, dtype=torch.float32), "a": np.arange(7), "rest": [1, None, Skip("x"), UNSET]}
    parcel = Parcel.of(value)
    assert (parcel.fd >= 0) is (4 * size > INLINE_BYTES)
    found = parcel.opened()
    assert torch.equal(found["t"], value["t"]) and (found["a"] == value["a"]).all()
    assert found["rest"] == value["rest"]
    found["t"] += 1  # it is the receiver's own
    assert descriptors() == before


def test_what_arrives_is_freed_with_the_last_tensor() -> None:
    def mapped() -> int:
        return sum("memfd:anyloom" in line for line in Path("/proc/self/maps").read_text().splitlines())

    before = mapped()
    found = Parcel.of([torch.zeros(100_000), torch.ones(5)]).opened()
    part = found[0][10:20]
    assert mapped() == before + 1
    del found
    assert mapped() == before + 1, "a view of it is still there"
    assert part.sum() == 0
    del part
    assert mapped() == before


def test_a_memory_file_cannot_be_cut_off_once_it_is_sent() -> None:
    fd = memory_file([b"abc", b"", memoryview(bytearray(b"defg"))])
    assert os.pread(fd, 100, 0) == b"abcdefg"
    for size in (0, 100):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)


def test_more_pieces_than_one_call_takes() -> None:
    pieces = [bytes([n % 256]) * (n % 7) for n in range(3_000)]
    fd = memory_file(pieces)
    assert os.pread(fd, 100_000, 0) == b"".join(pieces)
    os.close(fd)


def test_a_value_without_a_form_is_named_and_leaves_nothing() -> None:
    before = descriptors()
    with pytest.raises(StoreError, match=r"gift\['x'\]\[1\] is a builtins.object"):
        Parcel.of({"x": [torch.zeros(100_000), object()]}, "gift")
    assert descriptors() == before


# --- the wire -----------------------------------------------------------------------------------------------------------


def pair() -> tuple[Wire, Wire]:
    return tuple(Wire(end) for end in socket.socketpair())  # type: ignore[return-value]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200_000), st.booleans()), max_size=12))
def test_messages_of_any_size_arrive_in_order_with_their_descriptors(plan: list[tuple[int, bool]]) -> None:
    left, right = pair()
    before = descriptors()

    def send() -> None:
        for number, (size, with_fd) in enumerate(plan):
            fd = memory_file([str(number).encode()]) if with_fd else -1
            left.send("m", number, b"x" * size, fd=fd)
            if fd >= 0:
                os.close(fd)

    thread = threading.Thread(target=send)
    thread.start()
    for number, (size, with_fd) in enumerate(plan):
        message = right.receive()
        assert message.parts == ["m", number, b"x" * size]
        assert (message.fd >= 0) is with_fd
        if with_fd:
            assert os.pread(message.fd, 10, 0) == str(number).encode()
            os.close(message.fd)
    thread.join()
    assert descriptors() == before
    left.close()
    with pytest.raises(EOFError):
        right.receive()
    right.close()


def test_numbers_of_numpy_and_torch_become_plain() -> None:
    left, right = pair()
    left.send("post", {"done": np.float32(0.5), "total": torch.tensor(4), "message": Path("a")})
    assert right.receive().parts == ["post", {"done": 0.5, "total": 4, "message": "a"}]
    left.close()
    right.close()


def test_a_word_posted_to_one_who_does_not_read_never_waits_and_comes_before_the_next_message() -> None:
    left, right = pair()
    for number in range(20_000):
        left.post("word", number)
    thread = threading.Thread(target=left.send, args=("end",))
    thread.start()
    seen = []
    while (parts := right.receive().parts) != ["end"]:
        seen.append(parts)
    thread.join()
    assert seen == [["word", number] for number in range(20_000)]
    left.close()
    right.close()


def test_what_is_under_way_when_an_end_closes_leaves_no_descriptor() -> None:
    before = descriptors()
    left, right = pair()
    fd = memory_file([b"x"])
    for _ in range(10):
        left.send("m", fd=fd)
    left.close()
    right.close()
    sender, receiver = socket.socketpair()
    wire = Wire(receiver)
    socket.send_fds(sender, [b"\xff\x00\x00\x00\x01\x00\x00\x00half a message"], [fd])
    assert wire.arrived() == []
    assert descriptors() == before + 4, "two ends, the file, and what came with the half message"
    os.close(fd)
    sender.close()
    with pytest.raises(EOFError):
        wire.arrived()
    with pytest.raises(OSError):
        wire.send("m")
    wire.close()
    assert descriptors() == before


# --- jobs and reports ---------------------------------------------------------------------------------------------------


def both(context: NodeContext, a: int, b: float = 1.0) -> int:
    return a


def there_and_back(value: Any) -> Any:
    return Parcel.of(value).opened()


def test_a_job_means_the_same_there(tmp_path: Path) -> None:
    type = typed(both)
    given = work(type, inputs={"b": torch.ones(2)}, checks=("b",), asked=("b",), next_use={"b": None}, a=2**70)
    given = given._replace(context=context_of(given.job, tmp_path, lambda *_: None))
    form = there_and_back(work_form(given))
    job = job_from(form, Registry([type]))
    assert job == given.job
    assert torch.equal(form["inputs"]["b"], torch.ones(2))
    assert form["context"]["folders"]["temp"] == str(tmp_path / "temp")
    assert form["context"]["document"] == {"title": "t"}


def test_a_type_of_another_version_is_refused() -> None:
    given = work(typed(both), a=1)
    form = work_form(given)
    with pytest.raises(RequestError, match=r"version 1\.0\.0, its process for cpu in version 2"):
        job_from({**form, "device": "cpu"}, Registry([typed(both, version="2.0.0")]))


@pytest.mark.parametrize(
    "report", [Outputs((1, [Skip("a"), 2.5], None), 0.25), Need(("a", "b")), Interrupted()], ids=repr
)
def test_plain_reports_come_back_equal(report: Any) -> None:
    assert report_from(there_and_back(report_form(report))) == report


def test_a_graph_that_a_step_grew_comes_back_equal() -> None:
    grow = Grow()
    first = grow.add("p.first", "one", value=7, words=["a", "b"], own=grow.own("x"))
    second = grow.add("p.second", other=first["out"], tensor=torch.ones(3))
    grow.returning(
        a=second["out"], b=[first["out"], grow.own("y"), Skip("none")], c=grow.own("x"), d=[1, 2], e=Skip("no"), f=None
    )
    found = report_from(there_and_back(report_form(grow)))
    assert isinstance(found, Grow)
    assert found.outputs == grow.outputs
    assert list(found.nodes) == list(grow.nodes)
    assert found.nodes["one"] == grow.nodes["one"]
    name = second.id
    assert found.nodes[name].links == {"other": NodeLink("one", "out")}
    assert torch.equal(found.nodes[name].values["tensor"], torch.ones(3))
    assert found.nodes["one"].links == {"own": OwnInput("x")}


ERRORS = [kind for kind in vars(house).values() if isinstance(kind, type) and issubclass(kind, AnyloomError)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_house_comes_back_as_it_was(kind: Any) -> None:
    problems = [Problem("c", "one", "do", "n", "p"), Problem("d", "two")]
    error = kind(problems) if issubclass(kind, house.InvalidError) else kind("what; why")
    error.problem = error.problem._replace(node="n", port="p", remedy="do this")
    found = error_from(there_and_back(error_form(error)))
    assert type(found) is kind
    assert found.to_dict() == error.to_dict()


def test_an_out_of_memory_says_still_whether_the_pool_or_the_node_had_it() -> None:
    """`Reservations.too_large` decides by the cause."""
    said_by_pool = OutOfMemory("no room")
    raised = OutOfMemory("no room")
    raised.__cause__ = MemoryError("x")
    assert error_from(error_form(said_by_pool)).__cause__ is None
    assert "MemoryError" in str(error_from(error_form(raised)).__cause__)


def test_errors_of_packs_and_of_python_become_plain_ones() -> None:
    class Own(NodeError):
        code = "own"

    found = error_from(error_form(Own("mine")))
    assert (type(found), found.problem.code, found.message) == (AnyloomError, "own", "mine")
    report = report_from(report_form(Raised(KeyError("x"))))
    assert isinstance(report, Raised) and "KeyError" in str(report.error)


def test_a_graph_error_keeps_every_problem() -> None:
    error = GraphError([Problem("a", "one"), Problem("b", "two")])
    found = error_from(there_and_back(error_form(error)))
    assert isinstance(found, GraphError) and len(found.problems) == 2
