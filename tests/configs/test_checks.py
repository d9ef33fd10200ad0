import pytest

from agents.gates import make
from configs.build import build
from configs.cli import parse
from configs.errors import UsageError
from tests.configs.sessions import HARDWARE, SMALL, among, complaint


@pytest.mark.parametrize("gate", ["sum", "cosine", "cosine_unweighted", "projection", "orthogonal"])
def test_weights_are_reused_only_where_they_are_scale_free(gate, teacher):
    line = f"--aux distill --teacher {teacher} --gate {gate} --gate.every 2"
    config = parse(f"{SMALL} {line}".split())
    scale_free = make(gate).scale_free
    if scale_free:
        build(config, HARDWARE)
        return
    with pytest.raises(UsageError, match=r"^--gate\.every 2 reuses weights, .* --gate cosine\.$"):
        build(config, HARDWARE)


@pytest.mark.parametrize("scope", ["tensor", "layer"])
def test_weights_are_reused_only_where_there_is_one_for_all(scope, teacher):
    said = complaint(f"--aux distill --teacher {teacher} --gate.every 2 --gate.scope {scope}")
    assert said.endswith("use --gate.scope shared.")


def test_some_gates_are_scale_free_and_some_are_not():
    gates = ("sum", "cosine", "cosine_unweighted", "projection", "orthogonal")
    assert len({make(gate).scale_free for gate in gates}) == 2


@pytest.mark.parametrize("minibatches", [3, 4])
def test_minibatches_that_do_not_divide_the_environments_are_refused(minibatches):
    said = complaint(f"--algo ppo --algo.ppo.minibatches {minibatches}")
    assert said == (
        f"--algo.ppo.minibatches {minibatches} does not divide the 2 environments, and a "
        "minibatch is a slice of them: change it, or --num-envs."
    )


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


def test_a_gate_that_asks_for_gradients_of_single_steps_is_refused(teacher):
    said = complaint(f"--aux distill --teacher {teacher} --gate attittud")
    assert said.startswith("--gate attittud is not for train.py yet")


@pytest.mark.parametrize("options", ["--gate.scope layer", "--gate.metric optimizer"])
@pytest.mark.parametrize(
    ("gate", "sentence"),
    [
        ("rotograd", "is not for --gate rotograd, which needs gradients over features: drop it."),
        (
            "auxinash --gate.auxinash.learn-every 2",
            "is not for a learnt preference, which needs one judgement of plain gradients: drop "
            "it.",
        ),
    ],
)
def test_what_a_method_with_another_half_cannot_do_is_refused(gate, sentence, options):
    said = complaint(f"--aux inverse --gate {gate} {options}")
    assert said == f"{options} {sentence}"


def test_weights_of_rotograd_are_not_reused():
    said = complaint("--aux inverse --gate rotograd --gate.every 2")
    assert said.startswith("--gate.every 2 reuses weights, but those of --gate rotograd depend")


def test_a_preference_is_not_learnt_through_a_compiled_torso():
    line = "--aux inverse --gate auxinash"
    said = complaint(f"{line} --gate.auxinash.learn-every 2 --compile")
    assert said == (
        "--gate.auxinash.learn-every takes second derivatives, which a compiled torso does not "
        "have: drop --compile."
    )
    build(parse(f"{SMALL} {line} --compile".split()), HARDWARE)
