from itertools import combinations

import pytest
import torch

from agents import seeding
from agents.processes import Processes
from agents.teacher import export_policy
from configs import build
from configs.cli import parse
from configs.errors import UsageError

CPU = torch.device("cpu")
HARDWARE = build.Hardware(CPU, "fp32", 1, "")
SMALL = "--env Catch --num-envs 2 --unroll-length 3 --device cpu --precision fp32"
WORLDS = SMALL.replace("Catch", "Gridworld --env.num-worlds 4 --env.height 6 --env.width 7")


@pytest.fixture
def teacher(tmp_path):
    """The path of a policy of Catch, untrained."""
    config = parse(SMALL.split())
    session = build.build(config, HARDWARE)
    export_policy(tmp_path / "teacher", session.learner.agent, session.card)
    return tmp_path / "teacher"


def session_of(line, small=SMALL):
    return build.build(parse(f"{small} {line}".split()), HARDWARE)


def complaint(line, small=SMALL):
    with pytest.raises(UsageError) as refused:
        session_of(line, small)
    said = str(refused.value)
    assert "\n" not in said
    return said


def agent_of(session):
    return session.learner.agent.state_dict()


def alike(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_device_that_is_there_is_taken():
    assert build.choose_device("cpu") == (CPU, "as asked")


@pytest.mark.parametrize("name", ["cuda:99", "cuda:-1", "mps", "meta", "cpu:1", "gpu", "", "CPU"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(UsageError, match=r"^--device .* is not available here: use cpu.*\.$"):
        build.choose_device(name)


def test_without_a_gpu_auto_is_the_cpu_and_says_why(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert build.choose_device("auto") == (CPU, "no GPU found")


def test_with_a_gpu_auto_is_the_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "a fast one")
    assert build.choose_device("auto") == (torch.device("cuda", 0), "a fast one")


@pytest.mark.parametrize(("found", "cure"), [(0, "use cpu."), (2, "use cpu or cuda:0 or cuda:1.")])
def test_the_cure_lists_the_gpus_that_are_there(found, cure, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: found)
    with pytest.raises(UsageError, match=f"{cure}$"):
        build.choose_device("cuda:7")


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
def test_all_cores_learn_while_no_environment_plays(cores, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores), raising=False)
    threads, reason = build.choose_threads(0, CPU)
    assert threads == cores
    assert "environment" in reason


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
def test_a_pipeline_leaves_half_of_the_cores_to_the_environments(cores, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores), raising=False)
    threads, reason = build.choose_threads(0, CPU, playing=True)
    assert threads == (1 if cores <= 3 else 8)  # a half, rounded down, but one at least
    assert "environments" in reason


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16), raising=False)
    assert build.choose_threads(0, CPU, processes=4)[0] == 4


def test_as_many_threads_as_asked_and_one_beside_a_gpu():
    assert build.choose_threads(5, CPU) == (5, "as asked")
    assert build.choose_threads(0, torch.device("cuda"))[0] == 1


def test_the_hardware_says_what_it_is_and_why():
    hardware = build.choose_hardware("cpu", "fp32", 3)
    assert hardware.reason == (
        "Computing on cpu (as asked) in fp32 (as asked), 3 CPU threads (as asked)."
    )


def test_the_pieces_fit_the_environment():
    session = session_of("--env.rows 4 --torso.mlp.widths 7")
    assert session.env.spec.num_envs == 2
    trajectory = session.collector.collect()
    assert trajectory.action.shape == (3, 2)
    assert trajectory.observation.shape == (4, 2, 4, 5)
    card = session.card
    assert (card.env, card.torso, card.num_actions) == ("Catch", "mlp", 3)
    assert card.torso_options == {"widths": (7,)}
    assert card.env_options == {"rows": 4, "columns": 5, "max_episode_steps": 0}


def test_runs_of_one_seed_are_alike_and_of_two_are_not():
    first, second, other = session_of(""), session_of(""), session_of("--seed 2")
    assert alike(agent_of(first), agent_of(second))
    assert not alike(agent_of(first), agent_of(other))
    one, two = first.collector.collect(), second.collector.collect()
    assert torch.equal(one.action, two.action)
    assert torch.equal(one.observation, two.observation)


def test_a_head_changes_neither_the_agent_nor_its_chance(teacher):
    plain, helped = session_of(""), session_of(f"--aux distill --teacher {teacher}")
    assert alike(agent_of(plain), agent_of(helped))
    assert torch.equal(plain.collector.collect().action, helped.collector.collect().action)
    assert list(helped.learner.heads) == ["distill"]


def test_building_leaves_the_global_chance_alone():
    before = torch.get_rng_state()
    session_of("")
    assert torch.equal(torch.get_rng_state(), before)
    assert seeding.derived_seed(1, "agent") != seeding.derived_seed(1, "acting")


def test_without_a_shipped_teacher_the_command_that_trains_one_is_given():
    said = complaint("--aux distill")
    assert said == (
        "--aux distill needs a teacher and none is shipped for Catch: train one with "
        "'python train.py --env Catch --run-dir runs/teacher-Catch' and give "
        "--teacher runs/teacher-Catch."
    )


def test_a_shipped_teacher_is_found_by_the_name_of_the_environment(teacher, monkeypatch):
    folder = teacher.parent / "shipped" / "Catch"
    folder.mkdir(parents=True)
    teacher.rename(folder / "policy.safetensors")
    monkeypatch.setattr(build, "SHIPPED_TEACHERS", folder.parent)
    assert list(session_of("--aux distill").learner.heads) == ["distill"]


def test_a_teacher_that_is_missing_damaged_or_foreign_is_refused(teacher, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.write_bytes(teacher.read_bytes()[:-10])
    for path in (tmp_path / "nowhere", damaged, tmp_path):
        said = complaint(f"--aux distill --teacher {path}")
        assert said.startswith("--teacher: ")
        assert str(path) in said
        assert said.endswith("; give a run or an exported policy of Catch.")


def test_a_teacher_with_other_observations_is_refused(teacher):
    said = complaint(f"--env.rows 4 --aux distill --teacher {teacher}")
    assert "sees torch.float32 (10, 5), but Catch shows torch.float32 (4, 5)" in said


def test_a_torso_that_does_not_fit_is_refused_with_the_one_that_does():
    said = complaint("--torso impala")
    assert said.endswith("use --torso mlp.")


@pytest.mark.parametrize("gate", ["sum", "cosine", "cosine_unweighted", "projection", "orthogonal"])
def test_weights_are_reused_only_where_they_are_scale_free(gate, teacher):
    line = f"--aux distill --teacher {teacher} --gate {gate} --gate.every 2"
    config = parse(f"{SMALL} {line}".split())
    scale_free = build.make(gate).scale_free
    if scale_free:
        build.build(config, HARDWARE)
        return
    with pytest.raises(UsageError, match=r"^--gate\.every 2 reuses weights, .* --gate cosine\.$"):
        build.build(config, HARDWARE)


@pytest.mark.parametrize("scope", ["tensor", "layer"])
def test_weights_are_reused_only_where_there_is_one_for_all(scope, teacher):
    said = complaint(f"--aux distill --teacher {teacher} --gate.every 2 --gate.scope {scope}")
    assert said.endswith("use --gate.scope shared.")


def test_some_gates_are_scale_free_and_some_are_not():
    gates = ("sum", "cosine", "cosine_unweighted", "projection", "orthogonal")
    assert len({build.make(gate).scale_free for gate in gates}) == 2


@pytest.mark.parametrize("game", ["Breakout", "Pong"])
def test_without_emulators_a_game_is_refused_with_the_cure(game, monkeypatch):
    monkeypatch.setattr("envs.atari_games.find_spec", lambda name: None)
    config = parse(SMALL.replace("Catch", game).split())
    cure = rf"^{game} needs envpool or ale-py: pip install 'auxgate\[atari\]'"
    with pytest.raises(UsageError, match=cure):
        build.build(config, HARDWARE)


@pytest.mark.atari
@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        (
            "--protocol machado",
            "play by its protocol (--protocol baselines), or train a teacher by yours ('python "
            "train.py --env Pong --protocol machado --run-dir runs/teacher-Pong-machado') and "
            "give --teacher runs/teacher-Pong-machado.",
        ),
        (
            "--env.full-action-space",
            "give a run or an exported policy of Pong with the same actions.",
        ),
    ],
)
def test_a_teacher_of_another_protocol_is_refused_with_the_cure(flags, cure, tmp_path):
    line = SMALL.replace("Catch", "Pong")
    config = parse(line.split())
    session = build.build(config, HARDWARE)
    export_policy(tmp_path / "teacher", session.learner.agent, session.card)
    session.env.close()
    config = parse(f"{line} {flags} --aux distill --teacher {tmp_path / 'teacher'}".split())
    with pytest.raises(UsageError) as refused:
        build.build(config, HARDWARE)
    said = str(refused.value)
    assert said.startswith(f"--teacher: the teacher at {tmp_path / 'teacher'} plays Pong (base")
    assert said.endswith(f"; {cure}")


def test_a_gymnasium_environment_without_finite_actions_is_refused():
    config = parse(SMALL.replace("Catch", "Pendulum-v1").split())
    with pytest.raises(UsageError, match="only a finite set"):
        build.build(config, HARDWARE)


def test_a_compiled_torso_is_asked_for_by_its_flag(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    session_of("")
    assert compiled == []
    session = session_of("--compile")
    assert compiled == [session.learner.agent.torso]


def test_a_pipeline_plays_with_a_copy_of_the_agent_and_compiles_both(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    session = session_of("--pipeline --compile")
    try:
        torso = session.learner.agent.torso
        assert len(compiled) == 2
        assert sum(module is torso for module in compiled) == 1
        other = next(module for module in compiled if module is not torso)
        assert alike(other.state_dict(), torso.state_dict())
        assert session.collector.collect().action.shape == (3, 2)
    finally:
        session.close()


def test_values_are_recorded_for_ppo_alone():
    assert session_of("").collector.collect().value is None
    trajectory = session_of("--algo ppo --algo.ppo.minibatches 2").collector.collect()
    assert trajectory.value.shape == (4, 2)


def test_a_core_is_built_on_the_torso_and_named_on_the_card():
    session = session_of("--core gru --core.gru.width 7")
    assert session.learner.agent.core.num_features == 7
    assert (session.card.core, session.card.core_options) == ("gru", {"width": 7})
    assert session.collector.collect().core_state.shape == (2, 7)


@pytest.mark.parametrize("minibatches", [3, 4])
def test_minibatches_that_do_not_divide_the_environments_are_refused(minibatches):
    said = complaint(f"--algo ppo --algo.ppo.minibatches {minibatches}")
    assert said == (
        f"--algo.ppo.minibatches {minibatches} does not divide the 2 environments, and a "
        "minibatch is a slice of them: change it, or --num-envs."
    )


def among(rank, line="", step=0):
    """The session of one of two processes."""
    hardware = build.Hardware(CPU, "fp32", 1, "", Processes(rank, 2))
    return build.build(parse(f"{SMALL} {line}".split()), hardware, step)


def test_processes_share_the_environments_and_begin_with_the_same_weights():
    first, second = among(0, "--num-envs 6"), among(1, "--num-envs 6")
    assert first.env.spec.num_envs == second.env.spec.num_envs == 3
    assert alike(agent_of(first), agent_of(second))


def test_an_uneven_share_of_the_environments_is_refused():
    with pytest.raises(UsageError) as refused:
        among(0, "--num-envs 5")
    assert str(refused.value) == (
        "--num-envs 5 cannot be shared by 2 processes evenly: use a multiple of 2."
    )


def test_minibatches_divide_the_share_of_a_process():
    line = "--num-envs 4 --algo ppo --algo.ppo.minibatches"
    assert among(0, f"{line} 2").env.spec.num_envs == 2
    with pytest.raises(UsageError, match="does not divide the 2 environments in each process, "):
        among(0, f"{line} 4")


def played(session):
    """What depends on the seeds of the environments, and on those of the actions."""
    trajectory = session.collector.collect()
    return trajectory.observation[0], trajectory.action


def differ(left, right):
    return not any(torch.equal(mine, theirs) for mine, theirs in zip(left, right, strict=True))


def test_every_process_meets_other_episodes_and_the_first_those_of_one_alone():
    line = "--num-envs 16"
    first, second = played(among(0, line)), played(among(1, line))
    assert differ(first, second)
    alone = played(session_of("--num-envs 8"))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, alone, strict=True))


def test_a_run_that_goes_on_meets_other_episodes_each_time():
    line = parse(f"{SMALL} --num-envs 8".split())
    runs = [played(build.build(line, HARDWARE, step)) for step in (0, 60, 120)]
    runs += [played(among(1, "--num-envs 16", step)) for step in (60, 120)]
    assert all(differ(mine, theirs) for mine, theirs in combinations(runs, 2))
    again = played(build.build(line, HARDWARE, 60))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again, runs[1], strict=True))


def test_a_run_that_goes_on_has_the_same_agent_until_it_is_restored():
    line = parse(SMALL.split())
    assert alike(agent_of(build.build(line, HARDWARE)), agent_of(build.build(line, HARDWARE, 60)))


def test_the_learner_is_told_the_schedule_of_the_run():
    config = parse(f"{SMALL} --steps 100 --learning-rate 0.5 --learning-rate-end 0.1".split())
    learner = build.build(config, HARDWARE).learner
    assert learner.learning_rate == 0.5
    learner.steps = 50
    assert learner.learning_rate == pytest.approx(0.3)  # half-way from 0.5 to 0.1


@pytest.mark.parametrize("line", ["", "--core gru", "--torso mlp --env.observation flat"])
def test_a_gridworld_teaches_its_own_worlds(line):
    session = session_of(f"{line} --aux distill --aux.distill.temperature 0.5", WORLDS)
    metrics = session.update()
    assert torch.isfinite(torch.stack(list(metrics.values()))).all()
    (head,) = session.learner.heads.values()
    teacher = head.get_extra_state()["teacher"]
    assert teacher == "optimal of 4 worlds from number 0 of seed 0+height=6+width=7"


def test_another_of_a_gridworlds_own_teachers_is_taken_by_its_name():
    session = session_of("--aux distill --teacher redraw", WORLDS)
    (head,) = session.learner.heads.values()
    assert head.get_extra_state()["teacher"].startswith("redraw of 4 worlds")


def test_a_run_teaches_in_its_own_worlds_and_no_others(tmp_path):
    session = session_of("", WORLDS)
    export_policy(tmp_path / "teacher", session.learner.agent, session.card)
    line = f"--aux distill --teacher {tmp_path / 'teacher'}"
    session_of(line, WORLDS).update()
    said = complaint(f"{line} --env.layout empty", WORLDS)
    assert said.startswith("--teacher: the teacher at ")
    assert "learnt in 4 worlds from number 0 of seed 0+height=6+width=7, but " in said
    assert said.endswith("in the same worlds, or one of optimal, q-learning, redraw, swap, remove.")


def test_a_gridworld_without_a_fitting_teacher_says_why():
    said = complaint("--env.terminal-rewards 1 -1 --aux distill --teacher swap", WORLDS)
    assert said.startswith("swap needs two positive terminal_rewards")


def test_a_gate_that_asks_for_gradients_of_single_steps_is_refused(teacher):
    said = complaint(f"--aux distill --teacher {teacher} --gate attittud")
    assert said.startswith("--gate attittud is not for train.py yet")
