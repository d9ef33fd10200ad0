"""Q-learning against a slow learner, and against the optimum."""

from collections import Counter

import pytest
import torch

from gridworld import (
    QLearningConfig,
    WorldConfig,
    draw_chance,
    evaluate,
    optimal_values,
    parse,
    q_learning,
    softmax_policy,
)


@pytest.mark.parametrize(
    ("agents", "decay", "limit"), [(1, 0.6, 0), (1, 0.0, 4), (3, 0.6, 0), (3, 0.0, 0)]
)
def test_tables_are_those_of_a_slow_learner(build_worlds, slow, agents, decay, limit):
    worlds = build_worlds(2, max_episode_steps=limit)
    config, steps = worlds.config, 40
    options = QLearningConfig(
        steps=steps, agents=agents, decay=decay, epsilon=0.4, learning_rate=0.3, initial_value=0.5
    )
    learned = q_learning(worlds, options, torch.Generator().manual_seed(3))

    # The same random numbers, in the order in which they are drawn.
    generator = torch.Generator().manual_seed(3)
    block = (steps, 2 * agents)
    chance = draw_chance(config, block, generator)
    explores = torch.rand(block, generator=generator) < 0.4
    anything = torch.randint(4, block, generator=generator)
    kinds, starts = worlds.kind.tolist(), worlds.start_cell.tolist()
    table = {(w, c, a): 0.5 for w in (0, 1) for c in range(42) for a in range(4)}
    visits = Counter()
    places = [(k % 2, starts[k % 2], 0) for k in range(2 * agents)]
    for t in range(steps):
        errors, entries, renewed = [], [], []
        for k, (world, cell, time) in enumerate(places):
            values = [table[world, cell, a] for a in range(4)]
            action = int(anything[t, k]) if explores[t, k] else values.index(max(values))
            way = (action + int(chance.slip[t, k])) % 4
            after = slow.move(config, kinds[world], cell, way)
            over = slow.is_over(kinds[world], after) or bool(chance.ends[t, k])
            future = 0 if over else max(table[world, after, a] for a in range(4))
            entries.append((world, cell, action))
            reward = config.kind_rewards[kinds[world][after]]
            errors.append(reward + 0.99 * future - table[world, cell, action])
            late = limit and time + 1 >= limit
            renewed.append((world, starts[world], 0) if over or late else (world, after, time + 1))
        together = Counter(entries)
        visits += together
        for entry, number in together.items():
            mean = sum(e for e, where in zip(errors, entries, strict=True) if where == entry)
            alpha = max(0.3, visits[entry] ** -decay) if decay else 0.3
            table[entry] += alpha * mean / number
        places = renewed
    for (world, cell, action), value in table.items():
        assert float(learned[world, cell, action]) == pytest.approx(value, abs=1e-4)


def test_a_corridor_is_learnt_to_its_exact_values():
    # No noise, no end by chance: 10 * 0.9 ** (steps to go - 1).
    config = WorldConfig(height=3, width=6, action_noise=0.0, termination_probability=0.0)
    worlds = parse(config, ["######\n#S..A#\n######"])
    options = QLearningConfig(
        steps=600, agents=2, learning_rate=1.0, decay=0.0, discount=0.9, epsilon=0.3
    )
    learned = q_learning(worlds, options, torch.Generator().manual_seed(0))
    assert learned[0, [7, 8, 9], 1].tolist() == pytest.approx([8.1, 9.0, 10.0])
    assert learned[0, [7, 8, 9]].argmax(1).tolist() == [1, 1, 1]


def test_teachers_come_near_to_the_best(build_worlds):
    worlds = build_worlds(30, seed=1)
    best = optimal_values(worlds, 0.99).gather(1, worlds.start_cell[:, None]).squeeze(1)
    learned = q_learning(worlds, QLearningConfig(steps=1500), torch.Generator().manual_seed(0))
    teacher = evaluate(worlds, softmax_policy(learned, 0.0), 0.99).expected_return
    uniform = evaluate(worlds, torch.full_like(learned, 0.25), 0.99).expected_return
    assert (teacher < best + 1e-9).all()
    assert teacher.mean() > 0.9 * best.mean()
    assert uniform.mean() < 0.5 * best.mean()


def test_the_same_generator_gives_the_same_table(build_worlds):
    tables = [
        q_learning(build_worlds(2), QLearningConfig(steps=300), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps and agents must be at least 1"),
        ({"agents": 0}, "steps and agents must be at least 1"),
        ({"epsilon": 1.1}, "epsilon must be a probability"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": 1.5}, "learning_rate must be above 0"),
        ({"decay": -1.0}, "decay must be 0"),
        ({"initial_value": float("nan")}, "initial_value must be finite"),
        ({"discount": 1.5}, "discount must be from 0 to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        QLearningConfig(**options)
