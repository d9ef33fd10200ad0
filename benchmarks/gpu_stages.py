"""The stages of `benchmarks/gpu.py`: each yields rows, which are written as they come."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch

from agents.runtime.checkpoint import load_checkpoint
from benchmarks.gridworlds import Options as GridOptions
from benchmarks.gridworlds import player
from configs.choice import names
from configs.cli import parse
from configs.errors import UsageError
from envs.envpool.pool import is_installed
from envs.gridworld.config import GridConfig
from experiments.results import ROOT
from experiments.training.run_folder import CHECKPOINTS
from experiments.training.session import Session
from experiments.training.trainer import set_up
from gridworld import NUM_ACTIONS, WorldConfig, generate, restart, symbols
from gridworld import step as grid_step
from gridworld.dynamics import draw_chance, draw_worlds

Cells = tuple[object, ...]


@dataclass(frozen=True)
class Bench:
    """Where and how large to measure."""

    device: torch.device
    quick: bool
    """Toy sizes: they show that a stage works, and nothing of speed."""
    folder: Path
    """Where runs go."""
    failed: list[str] = field(default_factory=list)
    """What went wrong in the present stage, with the last lines of programs that failed."""

    @property
    def game(self) -> list[str]:
        """Flags of the environment: Breakout; Catch in a rehearsal, or without emulators."""
        return ["--env", "Catch" if self.quick or not is_installed() else "Breakout"]

    @property
    def head(self) -> str:
        """The head that is measured with most gates."""
        return "distill" if "Breakout" in self.game else "inverse"

    def sized(self, full: Sequence[int], quick: Sequence[int]) -> Sequence[int]:
        """The sizes to measure."""
        return quick if self.quick else full

    def session(self, *flags: str) -> Session:
        """Builds a run from flags of `train.py`."""
        return set_up(parse([*flags, "--device", str(self.device)]))[0]

    def wait(self) -> None:
        """Waits until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def per_second(self, work: Callable[[], object], seconds: float, warm_up: int) -> float:
        """How often `work` is done per second, after a warm-up.

        Args:
            work: may leave work to the device; the end waits for it.
            seconds: how long to measure; a twentieth of it in a quick run.
            warm_up: calls before: CUDA loads kernels when they are first used.
        """
        for _ in range(2 if self.quick else warm_up):
            work()
        self.wait()
        seconds, count = seconds / 20 if self.quick else seconds, 0
        began = time.perf_counter()
        while count == 0 or time.perf_counter() - began < seconds:
            work()
            count += 1
        self.wait()
        return count / (time.perf_counter() - began)

    def run(self, program: str, *flags: str) -> tuple[int, float, str]:
        """Runs a program of the repository, and notes in `failed` if it fails.

        Args:
            program: a script, or options of Python.
            flags: of the program.

        Returns:
            Its exit code, seconds, and the last line it printed.
        """
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *program.split(), *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = (done.stdout + done.stderr).strip() or "nothing was printed"
        last = printed.splitlines()[-1]
        if done.returncode:
            self.failed.append(f"{program} ended with exit code {done.returncode}: {last}")
        return done.returncode, time.perf_counter() - began, last


def machine(bench: Bench) -> Iterator[Cells]:
    """Copies and launches: what the review's estimates rest on."""
    size = 2**20 if bench.quick else 2**26
    host = torch.empty(size, dtype=torch.uint8)
    if bench.device.type == "cuda":
        host = host.pin_memory()
    on_device = torch.empty_like(host, device=bench.device)
    other, small = torch.empty_like(on_device), torch.zeros(8, device=bench.device)
    works: dict[str, Callable[[], object]] = {
        "host to device": lambda: on_device.copy_(host, non_blocking=True),
        "device to host": lambda: host.copy_(on_device, non_blocking=True),
        "device to device": lambda: other.copy_(on_device),
    }
    for name, work in works.items():
        yield name, f"{bench.per_second(work, 1.0, 5) * size / 1e9:.3f}", "GB/s"
    yield "launch", f"{1e6 / bench.per_second(lambda: small.add_(1.0), 1.0, 1000):.2f}", "us"


def tests(bench: Bench) -> Iterator[Cells]:
    """The tests that need a GPU, in one process, without the checker of shapes."""
    files = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "mark.gpu" in path.read_text(encoding="utf-8")
    )
    options = ["-q", "-m", "gpu", "-o", "addopts=--import-mode=importlib --strict-markers"]
    files = files[:2] if bench.quick else files
    code, seconds, last = bench.run("-m pytest", *options, "-p", "no:cacheprovider", *files)
    yield len(files), code, f"{seconds:.1f}", last


def environments(bench: Bench) -> Iterator[Cells]:
    """The environments alone, under random actions."""
    emulated = is_installed()
    game = "Breakout" if emulated else "Catch"
    threads = bench.sized((12, 14, 16), (1, 2)) if emulated else (0,)
    for count, pools, num_envs in product(
        threads, bench.sized((1, 2), (1,)), bench.sized((32, 128, 256), (4,))
    ):
        flags = [f"--env.num-threads={count}", f"--env.pools={pools}"] if emulated else []
        config = parse(["--env", game, *flags, "--num-envs", str(num_envs)])
        env = config.env.build(config.choice.env, num_envs, 0, bench.device)
        env.reset()
        draws = torch.Generator().manual_seed(0)
        actions = torch.randint(env.spec.num_actions, (64, num_envs), generator=draws)
        moves = iter(actions.repeat(10_000, 1).to(bench.device).unbind())
        speed = bench.per_second(lambda env=env, moves=moves: env.step(next(moves)), 1.0, 20)  # type: ignore[misc]
        env.close()
        yield num_envs, count, pools, f"{speed * num_envs:.0f}"


def training(bench: Bench) -> Iterator[Cells]:
    """Whole updates, playing included, by gate, number of environments and way of computing."""
    arms = {
        "main": [],
        "sum": ["--aux", bench.head, "--gate", "sum"],
        "cosine": ["--aux", bench.head, "--gate", "cosine"],
    }
    ways = [("graphs", num_envs) for num_envs in bench.sized((32, 128, 256, 512), (4,))]
    ways += [("eager", num_envs) for num_envs in bench.sized((32, 128, 8), (4,))]
    ways += [("pipeline", num_envs) for num_envs in bench.sized((128, 256), (4,))]
    ways += [("compile", 128)] if not bench.quick else []
    asked = {"graphs": "--cuda-graphs=auto", "eager": "--cuda-graphs=off"}
    for (way, num_envs), arm in product(ways, arms):
        flags = [*bench.game, *arms[arm], "--num-envs", str(num_envs)]
        session = bench.session(*flags, asked.get(way, f"--{way}"))
        steps = num_envs * parse(flags).run.unroll_length
        speed = bench.per_second(session.update, 3.0, 10) * steps
        clock = session.collector.clock
        session.close()
        yield arm, way, num_envs, f"{speed:.0f}", f"{clock.environment:.2f}", f"{clock.acting:.2f}"


def updates(bench: Bench) -> Iterator[Cells]:
    """The update alone, by gate and by head; ten updates before, in which graphs are captured."""
    gates, heads = names("gate"), names("aux")
    pairs = [("none", ""), *((bench.head, gate) for gate in gates)]
    pairs += [(head, "cosine") for head in heads if head != bench.head]
    size = f"--num-envs={4 if bench.quick else 32}"
    reused = [(bench.head, "cosine", "--gate.every=4")]
    jobs = [(*pair, "") for pair in (pairs[:4] if bench.quick else pairs)] + reused
    asked = ("auto", "off") if bench.device.type == "cuda" else ("off",)
    for (head, gate, more), graphs in product(jobs, asked):
        chosen = ["--aux", head, "--gate", gate, *more.split()] if gate else []
        form = (head, f"{gate} {more}".strip())
        try:
            session = bench.session(*bench.game, *chosen, size, f"--cuda-graphs={graphs}")
        except UsageError as error:
            yield *form, "", "", str(error)
            continue
        if graphs == "auto" and not session.captured:
            session.close()  # the line without graphs says it all
            continue
        played = [session.collector.collect() for _ in range(2)]
        session.close()
        turns = iter(played * 10_000)
        learner = session.learner
        speed = bench.per_second(lambda turns=turns, it=learner: it.update(next(turns)), 0.3, 10)  # type: ignore[misc]
        yield *form, "graphs" if graphs == "auto" else "eager", f"{1e3 / speed:.3f}", ""


def grid_steps(bench: Bench) -> Iterator[Cells]:
    """Steps of the gridworld: the bare functions, the environment, and a captured graph."""
    sizes = [2**power for power in bench.sized(range(10, 21, 2), (6,))]
    worlds = generate(WorldConfig(), 1, range(64 if bench.quick else 4096), bench.device)
    options = GridOptions(device=str(bench.device))
    for num_envs in sizes:
        play = player(worlds, num_envs, options)
        speed = bench.per_second(play, 0.5, 5) * options.unroll_length * num_envs
        yield "functions", num_envs, f"{speed:.0f}"
    for num_envs in sizes:
        env = GridConfig(num_worlds=len(worlds)).build("Gridworld", num_envs, 0, bench.device)
        action = torch.ones(num_envs, dtype=torch.int64, device=bench.device)
        speed = bench.per_second(lambda env=env, move=action: env.step(move), 0.5, 20)  # type: ignore[misc]
        yield "environment", num_envs, f"{speed * num_envs:.0f}"
    for num_envs in sizes if bench.device.type == "cuda" else ():
        replay = _captured_steps(worlds, num_envs, options.unroll_length)
        speed = bench.per_second(replay, 0.5, 5) * options.unroll_length * num_envs
        yield "graph", num_envs, f"{speed:.0f}"


def _captured_steps(worlds, num_envs: int, length: int) -> Callable[[], None]:  # type: ignore[no-untyped-def]
    """One unroll of steps as a CUDA graph; its random numbers are drawn once."""
    draws = torch.Generator(worlds.device).manual_seed(0)
    shape = (length, num_envs)
    action = torch.randint(NUM_ACTIONS, shape, generator=draws, device=worlds.device)
    chance, fresh = draw_chance(worlds.config, shape, draws), draw_worlds(worlds, shape, draws)
    state = worlds.start[fresh[0]].clone()
    clock = torch.zeros_like(state)

    def play() -> None:
        now, age = state, clock
        for t in range(length):
            after = grid_step(worlds, now, age, action[t], chance[t])
            ended = after.terminated | after.truncated
            now, age = restart(worlds, after.state, after.time, ended, fresh[t])
            symbols(worlds, now)
        state.copy_(now)
        clock.copy_(age)

    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        play()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        play()
    return graph.replay


def grid_training(bench: Bench) -> Iterator[Cells]:
    """Updates of a network in gridworlds, main loss and a gated teacher."""
    for arm, num_envs in product(("main", "cosine"), bench.sized((256, 4096, 65_536), (16,))):
        chosen = ["--aux", "distill", "--gate", "cosine"] if arm == "cosine" else []
        flags = ["--env", "Gridworld", *chosen, "--num-envs", str(num_envs)]
        session = bench.session(*flags, *(["--env.num-worlds=64"] * bench.quick))
        speed = bench.per_second(session.update, 3.0, 10)
        session.close()
        yield arm, num_envs, f"{speed * num_envs * parse(flags).run.unroll_length:.0f}"


def sweep(bench: Bench) -> Iterator[Cells]:
    """The sweep of tabular students, in full."""
    size = ["--worlds=4", "--updates=5", "--points=2"] if bench.quick else ["--full"]
    where = ["--device", bench.device.type, "--output", str(bench.folder / "sweep")]
    code, seconds, last = bench.run("sweep.py", *size, *where)
    yield code, f"{seconds:.1f}", last


def learning(bench: Bench) -> Iterator[Cells]:
    """Two runs to the end, and the scores of their policies."""
    jobs = [
        ([*bench.game, "--aux", bench.head, "--gate", "cosine"], 1_000_000),
        (["--env", "Gridworld", *(["--env.num-worlds=64"] * bench.quick)], 8_000_000),
    ]
    for number, (flags, full) in enumerate(jobs):
        steps, folder = 1_000 if bench.quick else full, bench.folder / f"run-{number}"
        where = ["--device", str(bench.device), "--run-dir", str(folder)]
        small = ["--num-envs=4"] * bench.quick
        code, seconds, last = bench.run("train.py", *flags, *small, *where, f"--steps={steps}")
        yield " ".join(flags), steps, code, f"{seconds:.1f}", last
        most = ["--episodes=2", "--max-episode-steps=300"] if bench.quick else ["--episodes=32"]
        code, seconds, last = bench.run("evaluate.py", str(folder), *most, *where[:2])
        scores = folder / "evaluation.json"
        if scores.is_file():
            last = f"mean score {json.loads(scores.read_text('utf-8'))['mean']:.2f}"
        yield f"evaluate.py {folder.name}", "", code, f"{seconds:.1f}", last


def exactness(bench: Bench) -> Iterator[Cells]:
    """A resumed run, two runs of one seed, and bf16 next to fp32."""
    flags = ["--env", "Gridworld", "--aux", "distill", "--num-envs=16", "--env.num-worlds=64"]

    def checked(what: str, holds: bool, remark: str) -> Cells:
        if not holds:
            bench.failed.append(f"{what} does not hold ({remark})")
        return what, holds, remark

    def weights(session: Session) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in session.learner.agent.parameters()])

    first = bench.session(*flags)
    first.update()
    (bench.folder / "saved").mkdir()
    first.save(bench.folder / "saved")
    other = bench.session(*flags)
    said = other.restore(load_checkpoint(bench.folder / "saved" / CHECKPOINTS).state)
    for session in (first, other):
        session.update()
    yield checked("resumed", torch.equal(weights(first), weights(other)), said)
    twins = [bench.session(*flags, "--deterministic") for _ in range(2)]
    for session in twins:
        session.update()
    yield checked("deterministic", torch.equal(*map(weights, twins)), "two runs of one seed")
    torch.use_deterministic_algorithms(False)
    agent = bench.session("--env", "Catch", "--torso", "mlp", "--precision", "fp32").learner.agent
    seen = torch.rand(64, 10, 5, device=bench.device)
    with torch.no_grad():
        exact = agent.see(seen).features
        agent.precision = "bf16"
        rough = agent.see(seen).features.float()
    error = float((rough - exact).norm() / exact.norm())
    yield checked("bf16", error < 0.02, f"relative error {error:.2e}")
    for every in ("1", "4"):
        pair = [
            bench.session(*flags, f"--gate.every={every}", f"--cuda-graphs={asked}")
            for asked in ("auto", "off")
        ]
        for _ in range(5 if bench.quick else 20):
            for session in pair:
                session.update()
        drift = float((weights(pair[0]) - weights(pair[1])).abs().max())
        yield checked(f"graphs, every {every}", drift < 1e-4, f"largest difference {drift:.2e}")


@dataclass(frozen=True)
class Stage:
    """A group of measurements with its own file and its own limit of time."""

    seconds: int
    """After which it is stopped; what it has measured until then is kept."""
    columns: str
    rows: Callable[[Bench], Iterator[Cells]] = field(compare=False)

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.rows.__name__


STAGES = (
    Stage(10, "measured,value,unit", machine),
    Stage(45, "files,exit_code,seconds,last_line", tests),
    Stage(30, "num_envs,threads,pools,steps_per_second", environments),
    Stage(130, "arm,way,num_envs,steps_per_second,environment,acting", training),
    Stage(45, "head,gate,way,milliseconds,left_out", updates),
    Stage(35, "form,num_envs,steps_per_second", grid_steps),
    Stage(30, "arm,num_envs,steps_per_second", grid_training),
    Stage(35, "exit_code,seconds,last_line", sweep),
    Stage(70, "run,steps,exit_code,seconds,last_line", learning),
    Stage(20, "checked,holds,remark", exactness),
)
"""In the order in which they run; 450 seconds in all."""
