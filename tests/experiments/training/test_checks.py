import pytest

from agents.gates import make
from agents.heads.distill import Distill
from configs.cli import parse
from configs.errors import UsageError
from experiments.training.build import build
from tests.experiments.sessions import HARDWARE, SMALL, among, complaint, session_of


@pytest.mark.parametrize("gate", ["sum", "cosine", "cosine_unweighted", "projection", "orthogonal"])
def test_weights_are_reused_only_where_they_are_scale_free(gate, teacher):
    line = f"--aux distill --teacher {teacher} --gate {gate} --gate.every 2"
    config = parse(f"{SMALL} {line}".split())
    scale_free = make(gate).scale_free
    if scale_free:
        build(config, HARDWARE)
        return
    with pytest.raises(UsageError, match=r"^--gate\.every 2 reuses weights, .* gate cosine\.$"):
        build(config, HARDWARE)


@pytest.mark.parametrize("scope", ["tensor", "layer"])
def test_weights_are_reused_only_where_there_is_one_for_all(scope, teacher):
    said = complaint(f"--aux distill --teacher {teacher} --gate.every 2 --gate.scope {scope}")
    assert said.endswith("use the scope shared.")


def test_some_gates_are_scale_free_and_some_are_not():
    gates = ("sum", "cosine", "cosine_unweighted", "projection", "orthogonal")
    assert len({make(gate).scale_free for gate in gates}) == 2


def test_more_minibatches_than_environments_are_refused():
    assert complaint("--algo ppo --algo.ppo.minibatches 3") == (
        "--algo.ppo.minibatches 3 is more than the environments, 2, and a minibatch is a slice of "
        "them: use --algo.ppo.minibatches 2, or more --num-envs."
    )


def test_what_is_refused_is_refused_before_a_teacher_is_tried(teacher, monkeypatch):
    def tried(*given):
        raise AssertionError("the trial of a teacher may take minutes")

    monkeypatch.setattr(Distill, "before_training", tried)
    line = f"--aux distill --teacher {teacher} --aux.distill.where ahead"
    complaint(f"{line} --gate cosine --algo ppo --algo.ppo.minibatches 3")
    complaint(f"{line} --gate sum --gate.main return")


def test_an_uneven_share_of_the_environments_is_refused():
    with pytest.raises(UsageError) as refused:
        among(0, "--num-envs 5")
    assert str(refused.value) == (
        "--num-envs 5 cannot be shared by 2 processes evenly: use a multiple of 2."
    )


def test_minibatches_are_slices_of_the_share_of_a_process():
    line = "--num-envs 4 --algo ppo --algo.ppo.minibatches"
    assert among(0, f"{line} 2").env.spec.num_envs == 2
    with pytest.raises(UsageError, match="more than the environments in each process, 2, "):
        among(0, f"{line} 4")


@pytest.mark.parametrize(
    "flag", ["--gate.main policy", "--gate.main return", "--gate.metric optimizer"]
)
def test_what_is_compared_is_nothing_to_a_gate_that_compares_nothing(flag, teacher):
    line = f"--aux distill --teacher {teacher} --gate sum {flag}"
    assert complaint(line) == (
        f"{flag} has no effect on Sum, which compares nothing: drop it, or let the gate measure."
    )
    session_of(f"{line} --gate.sum.measure")


def test_without_a_main_loss_there_is_no_policy_part(teacher):
    line = f"--aux distill --teacher {teacher} --gate sum --gate.sum.measure --algo none"
    assert complaint(f"{line} --gate.main policy") == (
        "--gate.main policy needs a policy loss, which is missing: drop it."
    )


def test_environments_are_not_cut_into_more_slices_than_there_are(teacher):
    line = f"--aux distill --teacher {teacher} --gate significant --gate.significant.slices 3"
    session_of(f"{line} --num-envs 3")
    cure = "use fewer slices, fewer minibatches or more environments."
    assert complaint(line) == (
        "--gate.significant.slices 3 cuts the environments of an update, of which there are 2: "
        f"{cure}"
    )
    ppo = f"{line} --num-envs 6 --algo ppo --algo.ppo.minibatches"
    session_of(f"{ppo} 2")
    assert complaint(f"{ppo} 3").endswith(f"there are 2: {cure}")


PAIR = SMALL.replace("Catch", "Catch+Catch(mirrored=True)")
SEVEN = "termination forward inverse spr curl multi_horizon value_replay"


@pytest.mark.parametrize(
    ("small", "line", "said"),
    [
        # The main loss and eight heads.
        (
            SMALL,
            f"--aux {SEVEN} reconstruct --gate upgrad",
            "--gate upgrad: this gate tries every subset of the losses and takes at most 8",
        ),
        # Two main losses, and four heads of each task.
        (
            PAIR,
            "--aux termination forward inverse spr --gate mgda",
            "takes at most 8 losses, not 10: use pcgrad or nash, or add some auxiliary losses up.",
        ),
        (
            SMALL,
            "--aux spr --gate auxinash --gate.auxinash.preference 0.5 0.25 0.25",
            "--gate auxinash: preference must name 2 numbers, one per loss, main first, not 3.",
        ),
        # The auxiliary phase has two losses, whatever the number of heads.
        (
            SMALL,
            "--algo ppg --algo.ppg.minibatches 2 --algo.ppg.auxiliary-minibatches 2 --aux spr curl "
            "--gate auxinash --gate.auxinash.preference 0.5 0.25 0.25",
            "preference must name 2 numbers",
        ),
    ],
)
def test_a_gate_that_cannot_weigh_so_many_losses_is_refused(small, line, said):
    assert said in complaint(line, small)


def test_as_many_losses_as_a_gate_can_weigh_are_taken():
    session_of(f"--aux {SEVEN} --gate upgrad").update()
    four = "--aux termination forward inverse spr --gate mgda --tasks.heads Catch"
    session_of(four, PAIR).update()  # 2 + 4
    session_of("--aux spr --gate auxinash --gate.auxinash.preference 0.5 0.5").update()


def test_a_fresh_batch_for_attittud_is_refused(teacher):
    line = f"--aux distill --teacher {teacher} --gate attittud"
    session_of(line)
    assert complaint(f"{line} --gate.attittud.fresh") == (
        "--gate.attittud.fresh needs a second batch, which is not played: drop it."
    )


def test_what_cannot_be_weighed_at_features_is_refused(teacher):
    taught = f"--aux distill --teacher {teacher} --gate.at features"
    session_of(f"{taught} --gate cosine --gate.scope layer --gate.main policy")
    for line, sentence in (
        (f"{taught} --gate sum", "--gate.at features has no effect on Sum"),
        (f"{taught} --gate rotograd", "--gate.at features is not for rotograd"),
        (f"{taught} --gate bounded", "Bounded cannot keep an average"),
        (f"{taught} --gate.metric optimizer", "--gate.at features has no metric optimizer"),
        (
            "--aux value_replay --gate.at features",
            "--gate.at features cannot weigh value_replay, which encodes",
        ),
    ):
        assert sentence in complaint(line)


def test_minibatches_of_unequal_sizes_are_weighed_at_features():
    # Three environments in two minibatches: one of them has twice as many features.
    session = session_of(
        "--num-envs 3 --algo ppo --algo.ppo.minibatches 2 --aux termination --gate.at features "
        "--gate attittud --gate.attittud.refresh 1"
    )
    session.update()
    assert session.learner.updates == 2 * 4  # in each of four epochs
