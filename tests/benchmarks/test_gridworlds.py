import csv

import pytest
import torch

from benchmarks import gridworlds
from benchmarks.gridworlds import Line, Options, fastest, main, player, solving
from gridworld import WorldConfig, generate

TINY = (
    "--num-envs 3 7 --pool 5 --unroll-length 2 --worlds 4 --renewed 2 --learning-steps 300 "
    "--rounds 1"
)


@pytest.fixture
def table(tmp_path, capsys):
    """The lines of a tiny measurement, as they are printed and written."""
    file = tmp_path / "table.csv"
    main([*TINY.split(), "--output", str(file)])
    text = file.read_text(encoding="utf-8")
    assert capsys.readouterr().out == text
    above = [line for line in text.splitlines() if line.startswith("#")]
    assert above[0].startswith("# command: python benchmarks/gridworlds.py --num-envs 3 7")
    assert above[-1] == "# threads: 1, device: cpu"
    return list(csv.DictReader(text.splitlines()[len(above) :]))


def test_everything_is_measured(table):
    assert [(line["measured"], line["size"]) for line in table] == [
        ("generate", "4"),
        ("optimal values", "4"),
        ("evaluate a uniform policy", "4"),
        ("Q-learning", "4"),
        ("renew", "2"),
        ("step", "3"),
        ("step", "7"),
        ("step, no chance", "3"),
        ("step, no chance", "7"),
    ]
    optimum = {line["measured"]: float(line["optimum"]) for line in table if line["optimum"]}
    # Some hundred steps teach something.
    assert optimum["evaluate a uniform policy"] < optimum["Q-learning"] <= 1


def test_a_line_says_how_much_was_done_per_second():
    assert str(Line("step, no chance", 8, 0.5, 64)) == '"step, no chance",8,0.500000,128,'
    assert str(Line("Q-learning", 8, 2.0, 64, 0.95)) == '"Q-learning",8,2.000000,32,0.9500'


def test_the_fastest_round_counts(monkeypatch):
    times = iter([0.0, 3.0, 3.0, 4.0, 4.0, 9.0])
    monkeypatch.setattr(gridworlds.time, "process_time", lambda: next(times))
    assert fastest(lambda: None, Options(), rounds=3) == 1.0


def test_a_player_looks_at_every_step(monkeypatch):
    looks = []
    worlds = generate(WorldConfig(view_radius=2), 0, range(2))
    monkeypatch.setattr(
        gridworlds, "symbols", lambda worlds, state, out: looks.append((state, out))
    )
    player(worlds, 6, Options(unroll_length=3))()
    assert [state.shape for state, _ in looks] == [(6,)] * 3
    assert [out.shape for _, out in looks] == [(6, 5, 5)] * 3
    assert (torch.stack([state for state, _ in looks]) < worlds.num_states).all()


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="must be at least 1"):
        Options(rounds=0)


def test_no_more_worlds_are_renewed_than_there_are():
    with pytest.raises(ValueError, match="must be from 1 to --worlds 5, not 6"):
        Options(worlds=5, renewed=6)


def test_a_pool_is_renewed_by_worlds_that_it_does_not_hold(monkeypatch):
    made = []

    def watched(config, seed, world_ids, device):
        made.append(world_ids)
        return generate(config, seed, world_ids, device)

    monkeypatch.setattr(gridworlds, "generate", watched)
    solving(Options(worlds=5, renewed=2, learning_steps=0, rounds=1))
    # The worlds, the measurement of their making, and what replaces the first two of them.
    assert made == [range(5), range(5), range(5, 7)]
