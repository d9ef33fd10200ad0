"""The command line of a new run."""

import io
import re

import pytest

from configs.choice import choose
from configs.cli import parse, parse_evaluate, parse_resume, parse_sweep
from configs.parsing import _flags
from configs.spellings import ELSEWHERE
from configs.training import flags
from tests.configs.command_lines import all_help_of, complaint, help_of, parsed


def flags_of(line):
    choice, _ = choose(line.split())
    return {name.removeprefix("--") for name in _flags(flags(choice))}


def test_the_documented_line_parses():
    config = parsed("--env Breakout --aux distill --gate cosine")
    assert config.choice.env == "Breakout"
    assert config.run.steps == 10_000_000
    assert config.run.device == "auto"
    assert config.heads["distill"].teacher == ""  # the shipped one


def test_the_flags_of_a_run_are_read():
    config = parsed(
        "--env Catch --steps 7 --num-envs 3 --unroll-length 4 --seed 5 --device cpu --precision "
        "bf16 --torso impala --learning-rate 1e-4 --run-dir x --deterministic --compile"
    )
    run = config.run
    assert (run.steps, run.num_envs, run.unroll_length, run.seed) == (7, 3, 4, 5)
    assert (run.device, run.precision, run.learning_rate) == ("cpu", "bf16", 1e-4)
    assert (run.run_dir, run.deterministic, run.compile) == ("x", True, True)
    assert config.choice.torso == "impala"


@pytest.mark.parametrize("flag", ["--num-envs 3", "--num_envs 3", "--num-envs=3", "--num_envs=3"])
def test_a_hyphen_is_an_underscore(flag):
    assert parse(["--env", "Catch", *flag.split()]).run.num_envs == 3


def test_durations_and_seeds_are_not_limited_like_sizes():
    assert parsed("--env Catch --eval-every 5m").run.eval_every == 5_000_000
    assert (
        parsed("--env procgen/coinrun --env.levels 9 --env.start-level 2000000").env.start_level
        == 2_000_000
    )


def test_options_of_the_chosen_components_are_read():
    config = parsed(
        "--env Catch --env.rows 6 --torso.mlp.widths 3 4 --algo.a2c.trace 0.5 --aux distill "
        "--aux.distill.temperature 0 --teacher t --gate projection --gate.projection.decay 0.99 "
        "--gate.scope layer --gate.every 2"
    )
    assert config.env.rows == 6
    assert config.torso.widths == (3, 4)
    assert config.algo.trace == 0.5
    assert config.heads["distill"].temperature == 0
    assert config.heads["distill"].teacher == "t"
    assert config.gate.decay == 0.99
    assert (config.judging.scope, config.judging.every) == ("layer", 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "--gate.projection.decay 0.9 --aux distill",
            "--gate.projection.decay has no effect with --gate cosine: "
            "add --gate projection, or drop it.",
        ),
        (
            "--gate.cosine-unweighted.decay=0.9 --aux distill",
            "--gate.cosine-unweighted.decay has no effect with --gate cosine: "
            "add --gate cosine_unweighted, or drop it.",
        ),
        (
            "--aux.distill.temperature 0",
            "--aux.distill.temperature has no effect with --aux none: "
            "add --aux distill, or drop it.",
        ),
        (
            "--torso.impala.blocks 3",
            "--torso.impala.blocks has no effect with --torso mlp: add --torso impala, or drop it.",
        ),
        ("--gate.scope layer", "--gate.scope has no effect without heads: add --aux, or drop it."),
        (
            "--gate.cosine.x 1",
            "--gate.cosine.x has no effect without heads: add --aux, or drop it.",
        ),
    ],
)
def test_an_option_of_a_component_not_chosen_is_refused_with_the_cure(line, said):
    assert complaint(f"--env Catch {line}") == said


@pytest.mark.parametrize(
    ("line", "flag", "meant"),
    [
        ("--stesp 5", "--stesp", "--steps"),
        ("--learning_rat 1", "--learning-rat", "--learning-rate"),
        ("--env.row 5", "--env.row", "--env.rows"),
        ("--resum x", "--resum", "--resume"),
        ("--aux distill --aux.distill.temprature 1", None, "--aux.distill.temperature"),
    ],
)
def test_a_mistyped_option_suggests_the_nearest(line, flag, meant):
    said = complaint(f"--env Catch {line}")
    assert said.startswith(flag or "--")
    assert "is not an option here: did you mean --" in said
    assert (meant or "") in said


@pytest.mark.parametrize("line", ["--zzzz 3", "--env.difficulty 3"])  # the second is Procgen's
def test_an_option_like_no_other_gets_no_suggestion(line):
    flag = line.split()[0]
    assert (
        complaint(f"--env Catch {line}") == f"{flag} is not an option here: --help-all lists them."
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("--lr", "--learning-rate"),
        ("--gamma", "--discount"),
        ("--total-timesteps", "--steps"),
        ("--batch-size", "--num-envs"),
        ("--game", "--env"),
        ("--seeds", "--seed"),
        ("--gpu", "--device"),
        ("--ent_coef", "--algo.a2c.entropy-coefficient"),
        ("--gae-lambda", "--algo.a2c.trace"),
    ],
)
def test_what_other_libraries_call_an_option_suggests_ours(theirs, ours):
    assert complaint(f"--env Catch {theirs} 1").endswith(f": did you mean {ours}?")
    # In another program the same word may mean another flag, or nothing that it has.
    assert complaint("--lr 1", parse_sweep).endswith("did you mean --learning-rate?")


def test_every_word_of_other_libraries_is_none_of_ours_and_means_an_option_that_exists():
    known = set()
    for line in ("--env Catch --algo ppo --aux distill", "--env Pong", "--env CartPole-v1"):
        known |= {name.rpartition(".")[2] for name in flags_of(line)}
    known |= {"episodes", "video", "temperatures", "worlds", "workers", "seeds"}
    assert {ours for ours in ELSEWHERE.values() if ours not in known} == set()


@pytest.mark.parametrize("text", ["10000", "10_000", "1e4", "10k", "10K", "0.01M"])
def test_whole_numbers_are_read_as_people_write_them(text):
    assert parsed(f"--env Catch --steps {text}").run.steps == 10_000
    assert parse_resume(["--resume", "x", "--steps", text]).changes == {"steps": 10_000}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--steps 0", "--steps must be at least 1, not 0."),
        ("--steps -5", "--steps must be at least 1, not -5."),
        ("--num-envs 0", "--num-envs must be at least 1, not 0."),
        ("--unroll-length 0", "--unroll-length must be at least 1, not 0."),
        ("--max-skipped 0", "--max-skipped must be at least 1, not 0."),
        ("--seed -1", "--seed must be 0 or more, not -1."),
        ("--seed 9223372036854775808", "--seed must be below 2^63, not 9223372036854775808."),
        ("--threads -1", "--threads must be 0 or more, not -1."),
        ("--max-gradient-norm -1", "--max-gradient-norm must be 0 or more, not -1.0."),
        ("--learning-rate 0", "--learning-rate must be above 0 and finite, not 0.0."),
        ("--learning-rate nan", "--learning-rate must be above 0 and finite, not nan."),
        ("--learning-rate inf", "--learning-rate must be above 0 and finite, not inf."),
        ("--learning-rate-end -1", "--learning-rate-end must be 0 or more and finite, not -1.0."),
        ("--learning-rate-end inf", "--learning-rate-end must be 0 or more and finite, not inf."),
        ("--checkpoint-minutes 0", "--checkpoint-minutes must be above 0 and finite, not 0.0."),
        ("--log-steps -1", "--log-steps must be 0 or more, not -1."),
        ("--discount 1.1", "--discount must be between 0 and 1, not 1.1."),
        ("--discount nan", "--discount must be between 0 and 1, not nan."),
        ("--aux distill --gate.every 0", "--gate.every must be at least 1, not 0."),
        ("--precision fp64", "--precision fp64 is unknown: choose one of 'auto', 'fp32', 'bf16'."),
        ("--steps abc", "--steps: 'abc' is not a whole number."),
        ("--steps 1.5", "--steps: '1.5' is not a whole number."),
        ("--steps nan", "--steps: 'nan' is not a whole number."),
        ("--steps 1e999999999", "--steps: '1e999999999' is too large."),
        ("--learning-rate fast", "--learning-rate: 'fast' is not a number."),
        ("--steps", "--steps needs a value."),
        ("extra", "extra is no option: --help-all lists them."),
        ("--normalize-value 2", "--normalize-value takes no 2: drop it, or see --help-all."),
        ("--torso.mlp.widths a 2", "--torso.mlp.widths takes no a 2: --help-all shows its values."),
        ("--num-envs 1e9", "--num-envs must be at most 1,000,000, not 1,000,000,000."),
        ("--threads 2000", "--threads must be at most 1,024, not 2,000."),
        ("--max-gradient-norm inf", "--max-gradient-norm must be a finite number, not inf."),
        (
            "--torso.mlp.widths 64 2000000",
            "--torso.mlp.widths must be at most 1,000,000, not 2,000,000.",
        ),
    ],
)
def test_a_wrong_value_is_one_sentence_with_the_flag(line, said):
    assert complaint(f"--env Catch {line}") == said


def test_a_wrong_option_of_a_component_names_the_component():
    said = complaint("--env Catch --aux distill --aux.distill.temperature -1")
    assert said.startswith("--aux.distill.temperature must be 0")
    said = complaint("--env Catch --aux distill --gate projection --gate.projection.decay 1.5")
    assert said.startswith("--gate.projection.decay must be")


def test_the_sentence_does_not_depend_on_what_the_terminal_can_draw(monkeypatch):
    for encoding in ("ascii", "utf-8"):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        said = complaint("--env Catch --env.max-episode-steps abc")
        assert said == "--env.max-episode-steps: 'abc' is not a whole number."
        assert complaint("--env Catch --seed -1") == "--seed must be 0 or more, not -1."
        assert complaint("--env Catch extra") == "extra is no option: --help-all lists them."
        assert complaint("", parse_evaluate).startswith("RUN is missing: give a run's folder")


@pytest.mark.parametrize("columns", ["20", "200"])
def test_the_sentence_does_not_depend_on_the_width_of_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    said = complaint("--env Catch --env.max-episode-steps abc")
    assert said == "--env.max-episode-steps: 'abc' is not a whole number."
    assert "did you mean --checkpoint-minutes?" in complaint("--env Catch --checkpoint-minute 3")


def test_help_shows_the_defaults_of_what_was_chosen(capsys):
    text = all_help_of("--env Catch", capsys)
    assert "(default: 200000)" not in help_of("--env Breakout", capsys)
    assert f"(default: {parse(['--env', 'Catch']).run.steps})" in text
    assert "--torso.mlp.widths" in text
    assert "python train.py --env Breakout --aux distill --gate cosine" in text


def test_help_shows_only_the_options_of_what_was_chosen(capsys):
    text = all_help_of("--env Catch", capsys)
    for foreign in ("--env.noop-max", "--aux.distill", "--gate.scope", "--teacher"):
        assert foreign not in text
    text = all_help_of("--env Breakout --aux distill --gate projection", capsys)
    for mine in ("--env.noop-max", "--aux.distill.temperature", "--gate.scope", "--teacher"):
        assert mine in text
    assert "--gate.projection.decay" in text
    assert "--env.rows" not in text


def test_help_begins_with_the_common_options_and_names_the_flag_for_all(capsys):
    text = help_of("--env Catch --aux distill", capsys)
    for common in ("--env ", "--steps", "--learning-rate", "--run-dir", "--help-all"):
        assert common in text
    for rare in ("--max-skipped", "--algo.a2c.c-clip", "--env.rows", "--gate.scope"):
        assert rare not in text
        assert rare in all_help_of("--env Catch --aux distill", capsys)


def test_help_lists_what_can_be_chosen(capsys):
    text = " ".join(help_of("--env Catch --aux distill", capsys).replace("│", " ").split())
    assert "Which of: nature, impala, small, mlp. (default: mlp)" in text
    assert "Which of: none, distill" in text
    assert "cosine_unweighted" in text


def test_the_help_of_a_game_shows_its_protocol_and_what_that_sets(capsys):
    text = all_help_of("--env Pong --protocol machado", capsys)
    text = " ".join(text.replace("│", " ").split())
    assert "--protocol STR Which of: baselines, machado. (default: machado)" in text
    assert "--env-backend STR Short for --env.backend." in text
    assert re.search(r"--env.sticky-actions FLOAT [^)]*0.25\). \(default: 0.25\)", text)
    other = all_help_of("--env Catch", capsys)
    assert "--protocol STR" not in other
    assert "--env-backend" not in other
