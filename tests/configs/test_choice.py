import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from configs.choice import Choice, choose
from configs.errors import UsageError


def split(line):
    return choose(line.split())


def chosen(line):
    return split(line)[0]


def complaint(line):
    with pytest.raises(UsageError) as refused:
        choose(line.split())
    return str(refused.value)


def test_the_documented_line_chooses_what_it_says():
    choice, rest = split("--env Breakout --aux distill --gate cosine")
    assert choice == Choice(
        "Breakout", "atari", "a2c", "nature", ("distill",), "cosine", protocol="baselines"
    )
    assert rest == []


def test_nothing_chosen_is_plain_actor_critic_on_breakout():
    plain = Choice("Breakout", "atari", "a2c", "nature", (), None, protocol="baselines")
    assert chosen("") == plain


def test_every_family_comes_with_its_own_torso():
    assert chosen("--env Catch") == Choice("Catch", "catch", "a2c", "mlp", (), None)
    assert chosen("--env CartPole-v1") == Choice("CartPole-v1", "gym", "ppo", "mlp", (), None)


@pytest.fixture
def pictures():
    """A Gymnasium environment whose argument says how large its pictures are."""

    class Pictures(gymnasium.Env):
        def __init__(self, side=7):
            self.observation_space = spaces.Box(0, 255, (side, side, 3), np.uint8)
            self.action_space = spaces.Discrete(2)

    gymnasium.register("AuxgatePictures-v0", Pictures, disable_env_checker=True)
    yield "--env AuxgatePictures-v0"
    gymnasium.registry.pop("AuxgatePictures-v0")


@pytest.mark.parametrize(
    ("options", "torso"),
    [
        ("", "small"),
        ("--env.kwargs side=64", "impala"),
        ("--seed 3 --env.kwargs=side=84 --steps 9", "nature"),
        ("--torso mlp", "mlp"),
        ("--env.kwargs nonsense", "mlp"),  # the second pass refuses it
    ],
)
def test_the_torso_suits_the_pictures_of_the_environment_as_it_is_made(options, torso, pictures):
    assert chosen(f"{pictures} {options}").torso == torso


def test_an_environment_is_known_whatever_its_case():
    assert chosen("--env catch").env == "Catch"
    assert chosen("--env msPACMAN").env == "MsPacman"


@pytest.mark.parametrize("line", ["--aux none", "--env Catch --aux none", "--aux none none"])
def test_aux_none_chooses_no_head_and_no_gate(line):
    assert chosen(line).aux == ()
    assert chosen(line).gate is None


@pytest.fixture
def two_heads(monkeypatch):
    """As if there were a second head, `inverse_model`."""
    monkeypatch.setattr("configs.choice.names", lambda registry: ("distill", "inverse_model"))


@pytest.mark.usefixtures("two_heads")
@pytest.mark.parametrize(
    "line",
    [
        "--aux distill inverse_model",
        "--aux distill --aux inverse_model",
        "--aux=distill --aux=inverse-model",
        "--aux distill inverse-model",
    ],
)
def test_several_heads_are_listed_or_repeated_in_the_order_given(line):
    from configs.choice import _auxiliaries  # the gate's names are replaced as well

    given = [word for word in line.replace("=", " ").split() if word != "--aux"]
    assert _auxiliaries(given) == ("distill", "inverse_model")


def test_other_flags_may_stand_between_repeated_heads():
    choice, rest = split("--steps 5 --aux distill --seed 2 --gate sum")
    assert (choice.aux, choice.gate) == (("distill",), "sum")
    assert rest == ["--steps", "5", "--seed", "2"]


def test_heads_without_a_gate_pass_the_cosine_gate():
    assert chosen("--aux distill").gate == "cosine"


@pytest.mark.parametrize("gate", ["cosine-unweighted", "cosine_unweighted"])
def test_a_hyphen_is_an_underscore(gate):
    assert chosen(f"--aux distill --gate {gate}").gate == "cosine_unweighted"


@pytest.mark.parametrize("flag", ["--teacher runs/x", "--teacher=runs/x"])
def test_the_teacher_is_short_for_an_option_of_distillation(flag):
    _, rest = choose(["--aux", "distill", *flag.split()])
    assert rest == ["--aux.distill.teacher", "runs/x"]


@pytest.mark.parametrize("long", ["--aux.distill.teacher y", "--aux.distill.teacher=y"])
def test_two_teachers_are_refused(long):
    said = complaint(f"--aux distill --teacher x {long}")
    assert said == "--teacher is short for --aux.distill.teacher: give one of the two."


def test_another_option_of_distillation_goes_with_the_short_teacher():
    _, rest = split("--aux distill --teacher x --aux.distill.temperature 0")
    assert rest == ["--aux.distill.temperature", "0", "--aux.distill.teacher", "x"]


def test_a_teacher_without_distillation_is_refused_with_the_cure():
    assert complaint("--env Catch --teacher runs/x") == "--teacher needs --aux distill."


def test_games_are_played_by_the_protocol_that_is_chosen():
    assert chosen("--env Pong --protocol machado").protocol == "machado"
    assert chosen("--env Pong --protocol=baselines").protocol == "baselines"
    assert chosen("--env Pong").protocol == "baselines"
    assert chosen("--env Catch").protocol == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--protocol machdo", "--protocol machdo is unknown: choose machado or baselines."),
        (
            "--env Catch --protocol machado",
            "--protocol is for Atari games, and Catch is none: drop it.",
        ),
        (
            "--env CartPole-v1 --protocol baselines",
            "--protocol is for Atari games, and CartPole-v1 is none: drop it.",
        ),
        (
            "--protocol machado --protocol machado",
            "--protocol is given 2 times: give it once.",
        ),
    ],
)
def test_a_protocol_that_is_not_to_be_had_is_refused_with_the_cure(line, said):
    assert complaint(line) == said


@pytest.mark.parametrize("flag", ["--env-backend ale", "--env-backend=ale", "--env_backend ale"])
def test_the_backend_is_short_for_an_option_of_the_games(flag):
    _, rest = split(f"{flag} --env.noop-max 1")
    assert rest == ["--env.noop-max", "1", "--env.backend", "ale"]


@pytest.mark.parametrize("long", ["--env.backend envpool", "--env.backend=envpool"])
def test_two_backends_are_refused(long):
    said = complaint(f"--env-backend ale {long}")
    assert said == "--env-backend is short for --env.backend: give one of the two."
    assert complaint("--env-backend ale --env-backend ale") == (
        "--env-backend is given 2 times: give it once."
    )


def test_a_backend_for_another_family_is_refused_with_the_cure():
    said = complaint("--env Catch --env-backend ale")
    assert said == "--env-backend is for Atari games, and Catch is none: drop it."


@pytest.mark.parametrize("line", ["--gate sum", "--aux none --gate sum"])
def test_a_gate_without_heads_is_refused_with_the_cure(line):
    assert (
        complaint(line)
        == "--gate sum has nothing to gate: add a head, as --aux spr, or drop --gate."
    )


@pytest.mark.parametrize(
    ("line", "start", "others"),
    [
        ("--aux distill --gate cosin", "--gate cosin is unknown: choose cosine, ", "projection"),
        ("--aux distill --gate summ", "--gate summ is unknown: choose sum, ", "orthogonal"),
        ("--torso natur", "--torso natur is unknown: choose nature, ", "impala"),
        ("--aux distil", "--aux distil is unknown: choose distill", ""),
        ("--algo a2", "--algo a2 is unknown: choose a2c", ""),
        ("--env Breakot", "--env Breakot: ", "did you mean Breakout, "),
        ("--env Cach", "--env Cach: ", "did you mean Catch, "),
    ],
)
def test_an_unknown_name_lists_the_valid_ones_nearest_first(line, start, others):
    said = complaint(line)
    assert said.startswith(start)
    assert others in said


def test_without_emulators_an_unknown_environment_says_how_to_get_the_games(monkeypatch):
    monkeypatch.setattr("envs.atari.games.find_spec", lambda name: None)
    assert "pip install 'auxgate[atari]'" in complaint("--env Breakot")
    assert chosen("--env Breakout").family == "atari"  # known all the same


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--env Catch --env Pong", "--env is given 2 times: give it once."),
        ("--aux distill --gate sum --gate sum", "--gate is given 2 times: give it once."),
        ("--aux distill distill", "--aux distill is given twice: give it once."),
        ("--aux distill --aux distill", "--aux distill is given twice: give it once."),
        ("--aux none distill", "--aux none excludes --aux distill: drop one of them."),
        ("--env", "--env: expected one argument."),
        ("--aux", "--aux: expected at least one argument."),
        ("--env Catch --gate", "--gate: expected one argument."),
    ],
)
def test_choices_that_exclude_each_other_are_refused(line, said):
    assert complaint(line) == said


def test_the_beginning_of_a_flag_is_not_the_flag():
    assert choose(["--en", "Catch"])[1] == ["--en", "Catch"]
