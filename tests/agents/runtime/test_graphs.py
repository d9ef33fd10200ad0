"""CUDA graphs without a GPU: the operations of a function are recorded and repeated on the CPU.

`Recorder` does what a capture does: Python runs once, and from then on the same operations run on
the same memory.  A number that was baked in, memory that was replaced instead of changed, or a
decision that Python made only once gives other numbers than the eager run, and the tests below
compare all of them bit for bit.  What a GPU would refuse within a capture, the device of
`tests/dummy_device.py` refuses too.
"""

from dataclasses import dataclass, fields

import jaxtyping
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from agents.algorithms import Algorithm
from agents.heads import AuxiliaryHead
from agents.learning import gating
from agents.runtime import graphs
from agents.runtime.checkpoint import load_checkpoint
from agents.runtime.graphs import Capture, CudaCapture, Graphs, NoCapture, Number
from experiments.training.capturing import obstacles
from experiments.training.run_folder import CHECKPOINTS
from tests.dummy_device import DeviceError, capturing, dummy_device, strict
from tests.test_devices import CASES, session_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Other tests check the shapes; graphs are there after one call instead of three."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr(graphs, "WARM_UPS", 1)


# Not `_local_scalar_dense`, with which `one_hot` checks its input on a CPU alone.
READS = {"is_nonzero", "equal", "nonzero", "_unique2"}


class _Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        assert operation.overloadpacket.__name__ not in READS, f"{operation} reads a number"
        result = operation(*arguments, **(options or {}))
        self.operations.append((operation, arguments, options or {}, result))
        return result

    @torch.no_grad()
    def repeat(self):
        for operation, arguments, options, result in self.operations:
            again = operation(*arguments, **options)
            for old, new in zip(_listed(result), _listed(again), strict=True):
                if old.data_ptr() != new.data_ptr():  # else a view, or changed in place
                    old.copy_(new)


def _listed(result):
    found = result if isinstance(result, (list, tuple)) else [result]
    return [each for each in found if isinstance(each, torch.Tensor)]


class Recorder(Capture):
    """Records the operations of a function when it runs first, and repeats them ever after."""

    def __init__(self):
        self.replayed = 0

    def warm_up(self, function):
        return function()

    def __call__(self, function):
        tape, found = _Tape(), []

        def replay():
            if found:
                tape.repeat()
                self.replayed += 1
            else:
                with tape:
                    found.append(function())
            return found[0]

        return replay


def captured(session, capture):
    session.learner.capture(capture)
    session.collector.capture(capture)
    return session


def everything(session):
    """All that an update may have changed, as a flat dictionary."""
    learner = session.learner
    found = dict(
        flattened(learner.state_dict()) | flattened(session.collector.state_dict(), "play")
    )
    found["admissions"] = "".join(learner.gating.admissions.sentences())
    cosines = learner.gating.cosines.drain()
    return found | {"unsound": learner.unsound, "cosines": cosines}


def flattened(value, name=""):
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    else:
        return {name: value}
    return {k: v for key, part in parts for k, v in flattened(part, f"{name}/{key}").items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
        else:
            assert found[name] == value, name


PARTED = "--algo.ppo.epochs 2 --algo.ppo.minibatches 3 --algo.ppo.clip-end 0.05 --gate.every 4"
FADES = "--aux.distill.coefficient-end 0.1 --aux.distill.coefficient-steps 100"
LINES = {
    "a2c": ("cosine", f"--env Gridworld --core gru --aux distill --gate.every 4 {FADES}"),
    "ppo": ("cosine", f"--env Gridworld --core gru --aux distill --algo ppo {PARTED} {FADES}"),
    "scaled": ("cosine", "--env Catch --aux inverse --normalize-value --discount 0.9"),
    "none": ("none", CASES["none"]),
    **{gate: (gate, line) for gate, line in CASES.items() if gate not in ("none", "cosine")},
    "metric": ("cosine", CASES["cosine"]),
}
UNFIT = {"attittud": ["gate"], "rotograd": ["gate"], "significant": ["gate"], "auxinash": ["gate"]}


def usually(*names):
    """Cases of all lines that can be captured; those without a name here are slow."""
    return [
        pytest.param(name, marks=() if name in names else pytest.mark.slow)
        for name in LINES
        if name not in UNFIT
    ]


@pytest.mark.parametrize("name", usually("a2c", "ppo", "scaled"))
def test_a_captured_run_has_the_numbers_of_the_eager_one(name, monkeypatch):
    gate, line = LINES[name]
    if ".every" not in line:  # updates that are measured have a graph of their own
        monkeypatch.setattr(gating, "MEASURED", 3)
    eager, other = session_of(gate, line, CPU), session_of(gate, line, CPU)
    recorder = Recorder()
    captured(other, recorder)
    assert obstacles(other.learner) == []
    for _ in range(13 if ".every" in line else 7):
        assert_same(other.update(), eager.update())
    assert_same(everything(other), everything(eager))
    assert recorder.replayed > 10


@pytest.mark.parametrize("name", ["ppo"])
def test_without_a_capture_the_same_code_has_the_same_numbers(name):
    eager, other = (session_of(*LINES[name], CPU) for _ in range(2))
    captured(other, NoCapture())
    for _ in range(3):
        assert_same(other.update(), eager.update())
    assert_same(everything(other), everything(eager))


@pytest.mark.parametrize("name", UNFIT)
def test_parts_that_cannot_be_captured_are_named(name):
    assert obstacles(session_of(*LINES[name], CPU).learner) == UNFIT[name]


def test_what_a_plugin_does_not_declare_is_not_captured():
    assert not AuxiliaryHead.capturable
    assert not Algorithm.capturable


def test_a_resumed_run_is_captured_anew(tmp_path):
    eager, other = (session_of(*LINES["a2c"], CPU) for _ in range(2))
    captured(other, Recorder())
    for _ in range(3):
        eager.update()
        other.update()
    other.save(tmp_path)
    other.update()
    # It loads other tensors into the place of those that its graphs know.
    other.restore(load_checkpoint(tmp_path / CHECKPOINTS).state)
    for _ in range(3):
        assert_same(other.update(), eager.update())
    assert_same(everything(other), everything(eager))


class OnDevice(Capture):
    """Runs functions again and again, and forbids what a capture would."""

    def warm_up(self, function):
        return function()

    def __call__(self, function):
        def replay():
            with strict(), capturing():
                return function()

        return replay


@pytest.mark.parametrize("name", usually("ppo", "scaled", "projection"))
def test_within_a_capture_nothing_crosses_between_host_and_device(name, monkeypatch):
    with dummy_device(monkeypatch) as device:
        session = captured(session_of(*LINES[name], device), OnDevice())
        for _ in range(9 if name == "a2c" else 4):
            session.update()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["a2c", "ppo", "scaled", "gradvac"])
def test_graphs_on_a_gpu_learn_what_the_eager_run_learns(name):
    device = torch.device("cuda")
    eager, other = (session_of(*LINES[name], device) for _ in range(2))
    other.learner.capture(CudaCapture(device))
    other.collector.capture(CudaCapture(device, [other.collector.generator]))
    for _ in range(13):
        found, expected = other.update(), eager.update()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4, equal_nan=True)
    pairs = zip(other.learner.agent.parameters(), eager.learner.agent.parameters(), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


FAULTS = {
    "late copy": lambda x: torch.ones(2).to(x.device, non_blocking=True),
    "constant": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "item": lambda x: x.sum().item(),
    "number of the host": lambda x: x * HOST,
}
HOST = torch.ones(())


@pytest.mark.parametrize("fault", FAULTS)
def test_the_device_refuses_what_cannot_be_captured(fault, monkeypatch):
    with dummy_device(monkeypatch) as device:
        x = torch.eye(2, device=device)
        with strict(), capturing(), pytest.raises(DeviceError):
            FAULTS[fault](x)


@dataclass(frozen=True)
class Pair:
    first: torch.Tensor
    rest: list


def test_a_graph_reads_its_inputs_where_they_were_at_the_capture():
    recorder = Recorder()
    mine = Graphs(recorder)
    for number in (1.0, 2.0, 3.0, 4.0):
        pair = Pair(torch.full((2,), number), [torch.tensor(number), "a constant", None])
        doubled = mine.run("twice", lambda p: Pair(2 * p.first, [p.rest[0] > 2]), pair)
        assert doubled.first.tolist() == [2 * number] * 2
        assert doubled.rest[0].item() is (number > 2)
    assert recorder.replayed == 2


def test_results_outlive_the_next_replay():
    mine = Graphs(Recorder())
    found = [mine.run("square", torch.square, torch.tensor([x])) for x in (1.0, 2.0, 3.0, 4.0)]
    assert torch.cat(found).tolist() == [1.0, 4.0, 9.0, 16.0]


@pytest.mark.parametrize(
    "other", [torch.ones(3), torch.ones(2, dtype=torch.float64), torch.ones(2, 1)]
)
def test_inputs_of_another_shape_or_type_have_another_graph(other):
    recorder = Recorder()
    mine = Graphs(recorder)
    for x in (torch.ones(2), torch.ones(2), other, other):
        mine.run("sum", lambda x: x + 1, x)
    assert recorder.replayed == 0


def test_a_fixed_value_is_not_copied_again():
    mine = Graphs(NoCapture())
    given = Pair(torch.ones(2), [torch.zeros(3)])
    fixed = mine.fixed(given)
    assert fixed.first is not given.first
    assert mine.run("same", lambda pair: [pair.first is fixed.first], fixed) == [True]
    again = mine.fixed(Pair(torch.full((2,), 5.0), [torch.ones(3)]))
    assert again.first is fixed.first
    assert again.first.tolist() == [5.0, 5.0]
    assert [field.name for field in fields(again)] == ["first", "rest"]


def test_a_number_keeps_its_place():
    number = Number(CPU)
    tensor = number.set(0.25)
    assert number.set(0.5) is tensor
    assert tensor == 0.5
