"""RotoGrad in the learner, against gradients taken by hand; what acts, what is exported."""

import copy
from dataclasses import fields, replace

import pytest
import torch
from torch.testing import assert_close

from agents.gates import make
from agents.learning.learner import Learner
from agents.networks.actor_critic import ActorCritic
from agents.networks.torsos import ImpalaConfig
from agents.teachers import PolicyCard, export_policy, load_policy, policy_weights
from tests.agents.updating import (
    A2C,
    CONFIG,
    NAN,
    Broken,
    Head,
    Probe,
    collect,
    gradients,
    main_losses,
    numbers,
    same,
    update_all,
)

ROTATION = {"pace": 0.1, "decay": 0.999, "block": 0}
MEMORY = 5


class Actor(Head):
    """Wants the first action, by the policy that it sees; and large features, and its probe."""

    trains = ("torso", "policy")

    def shared_loss(self, output, trajectory):
        return output.features[:-1].square().sum(-1) - output.logits[:-1].log_softmax(-1)[..., 0]


class Below(Head):
    """Reads what the torso says, not the core."""

    def shared_loss(self, output, trajectory):
        return -output.torso[:-1].square().sum(-1)


class Again(Head):
    """Runs the agent itself, on the same observations upside down."""

    def forward(self, agent, output, trajectory, targets):
        features = agent(-trajectory.observation.float()).features[:-1]
        result = super().forward(agent, output, trajectory, targets)
        return replace(result, loss=result.loss + features.square().sum(-1))


class Mapped(Head):
    """Reads the feature map."""

    def shared_loss(self, output, trajectory):
        return output.spatial[:-1].square().mean((-1, -2, -3))


@pytest.fixture
def build_rotated(build_agent, catch):
    """Builds a learner whose losses see rotated features; turned at random if so asked."""

    def build_rotated(heads, memory=0, turned=True, agent=None, options=None, **config):
        agent = build_agent(catch.spec, memory=memory) if agent is None else agent
        gate = make("rotograd", **ROTATION, **(options or {}))
        config = replace(CONFIG, max_gradient_norm=0.0, **config)
        learner = Learner(agent, A2C, heads, gate, config)
        if turned:
            rotations = rotated_of(learner).rotations
            generator = torch.Generator().manual_seed(1)
            drawn = torch.randn(rotations.matrix.shape, generator=generator)
            rotations.matrix.copy_(torch.matrix_exp(drawn - drawn.mT))
            agent.rotation.copy_(rotations.matrix[0])
        return learner

    return build_rotated


def rotated_of(learner):
    return learner.gating.extension


def expect(agent, heads, own, matrices, trajectory, weight=1.0):
    """Gradients by hand: of the agent, of each head with what it has in the agent's place.

    The paper's update, in which each loss sees z through its own rotation, written with whole
    matrices and plain autograd; of heads that read features (and logits) alone.
    """
    rotation = agent.rotation
    agent.rotation = None
    z = agent.unroll(trajectory).features
    output = agent.unroll(trajectory)
    agent.rotation = rotation
    main = z @ matrices[0].T
    losses, valid = [], trajectory.valid
    seen = replace(
        output, features=main, logits=agent.policy(main), value=agent.value(main).squeeze(-1)
    )
    losses.append(main_losses(seen, trajectory)[valid].mean())
    for head, layers, matrix in zip(heads, own, matrices[1:], strict=True):
        turned = z @ matrix.T
        logits = layers["policy"](turned) if "policy" in layers else seen.logits
        view = replace(seen, features=turned, torso=turned, logits=logits)
        losses.append(weight * head(agent, view, trajectory, None).loss[valid].mean())
    rows = [torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in losses]
    lengths = torch.stack([row.norm() for row in rows])
    # Of the first judgement: all alphas are 1 / L.
    common = sum(lengths.mean() * row / row.norm() for row in rows)
    below = [*agent.torso.parameters(), *(agent.core.parameters() if agent.core else ())]
    above = [*agent.policy.parameters(), *agent.value.parameters()]
    return {
        "below": torch.autograd.grad(z, below, common, retain_graph=True),
        "above": torch.autograd.grad(losses[0], above, retain_graph=True),
        "heads": [
            torch.autograd.grad(loss, [*head.parameters(), *layers.parameters()], retain_graph=True)
            for loss, head, layers in zip(losses[1:], heads, own, strict=True)
        ],
        "cosine": torch.nn.functional.cosine_similarity(
            rows[0].flatten(), rows[1].flatten(), dim=0
        ),
    }


@pytest.mark.parametrize("memory", [0, MEMORY])
def test_an_update_is_the_papers(build_rotated, build_catch, build_agent, memory):
    env = build_catch()
    trajectory = collect(env, build_agent(env.spec, memory=memory), 1)[0]
    heads = {"actor": Actor(weight=0.3), "large": Head(weight=0.3)}
    learner = build_rotated(heads, memory)
    rotated = rotated_of(learner)
    expected = expect(
        copy.deepcopy(learner.agent),
        copy.deepcopy(list(heads.values())),
        copy.deepcopy([rotated._copies[name] for name in heads]),
        [matrix[0] for matrix in rotated.rotations.matrix.clone()],
        trajectory,
        weight=0.3,
    )
    metrics = learner.update(trajectory)
    agent = learner.agent
    below = gradients(agent.torso) + ([] if agent.core is None else gradients(agent.core))
    for mine, theirs in zip(below, expected["below"], strict=True):
        assert_close(mine, theirs)
    above = gradients(agent.policy) + gradients(agent.value)
    for mine, theirs in zip(above, expected["above"], strict=True):
        assert_close(mine, theirs)
    for (name, head), theirs in zip(heads.items(), expected["heads"], strict=True):
        mine = [parameter.grad for parameter in [*head.parameters(), *rotated.parameters(name)]]
        for one, other in zip(mine, theirs, strict=True):
            assert_close(one, other)
    assert_close(metrics["actor/cosine"], expected["cosine"])


def test_before_anything_has_turned_it_is_the_sum(build_rotated, build_learner, collected):
    plain = build_learner({"aux": Head()}, "sum", max_gradient_norm=0.0)
    rotated = build_rotated({"aux": Head()}, turned=False, options={"homogenise": False})
    for learner in (plain, rotated):
        learner.update(collected[0])
    for mine, theirs in zip(gradients(rotated.agent), gradients(plain.agent), strict=True):
        assert_close(mine, theirs)


def test_a_head_that_trains_the_policy_trains_one_of_its_own(build_rotated, collected):
    learner = build_rotated({"aux": Actor(weight=50.0)}, turned=False)
    alone = build_rotated({"aux": Head(weight=50.0)}, turned=False)
    own, first = list(rotated_of(learner).parameters("aux")), learner.agent.policy.weight.clone()
    assert torch.equal(own[0], first)
    assert list(rotated_of(alone).parameters("aux")) == []
    learner.update(collected[0])
    alone.update(collected[0])
    assert_close(gradients(learner.agent.policy), gradients(alone.agent.policy))
    assert not torch.equal(own[0], first)
    assert not torch.equal(learner.agent.policy.weight, own[0])


def test_the_agent_acts_as_the_main_loss_sees_it(build_rotated, collected):
    learner = build_rotated({"aux": Actor()})
    update_all(learner, collected[:3])
    rotated, trajectory = rotated_of(learner), collected[3]
    output = learner.agent.unroll(trajectory)
    seen = rotated.view(output, 0.01).outputs[0]
    assert torch.equal(seen.logits, output.logits)
    assert torch.equal(seen.value, output.value)
    assert torch.equal(learner.agent.rotation, rotated.rotations.matrix[0])
    # Else it would prove little.
    learner.agent.rotation = None
    assert not torch.allclose(learner.agent.unroll(trajectory).logits, output.logits)


def test_the_rotations_are_slower_than_the_network_and_slow_down(build_rotated, collected):
    learner = build_rotated({"aux": Head()}, turned=False, learning_rate_end=CONFIG.learning_rate)
    rotated = rotated_of(learner)
    before = rotated.rotations.matrix.clone()
    learner.update(collected[0])
    # The first step of Adam's is its rate, in every entry off the diagonal.
    turned = (rotated.rotations.matrix - before)[0, 0]
    outside = turned[~torch.eye(5, dtype=torch.bool)].abs()
    assert_close(outside, torch.full((20,), CONFIG.learning_rate * 0.1), rtol=1e-2, atol=0)
    rates = []
    rotated.rotations.learn = lambda gradients, rate, healthy: rates.append(rate)
    update_all(learner, collected[1:4])
    assert_close(rates, [CONFIG.learning_rate * 0.1 * 0.999**n for n in (1, 2, 3)])


def test_an_exported_policy_needs_no_rotation(build_rotated, collected, catch, tmp_path):
    learner = build_rotated({"aux": Actor()})
    update_all(learner, collected[:3])
    spec = catch.spec
    card = PolicyCard(
        spec.name, spec.action_set, spec.num_actions, spec.observation_shape,
        str(spec.observation_dtype), spec.protocol, "mlp", {"widths": (7, 5)}, 0,
    )  # fmt: skip
    path = tmp_path / "policy.safetensors"
    export_policy(path, learner.agent, card)
    loaded, _ = load_policy(path, torch.device("cpu"))
    assert loaded.rotation is None
    assert "rotation" not in policy_weights(learner.agent)
    observation = collected[4].observation
    assert_close(loaded(observation).logits, learner.agent(observation).logits)


@pytest.mark.parametrize("memory", [0, MEMORY])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(build_rotated, build_catch, build_agent, memory):
    env = build_catch()
    played = collect(env, build_agent(env.spec, memory=memory), 6)
    heads = {"actor": Actor(), "large": Head()}
    learner = build_rotated(heads, memory, turned=False)
    update_all(learner, played[:3])
    resumed = build_rotated({"actor": Actor(), "large": Head()}, memory, turned=False)
    resumed.load_state_dict(copy.deepcopy(learner.state_dict()))
    assert torch.equal(resumed.agent.rotation, learner.agent.rotation)
    update_all(learner, played[3:])
    update_all(resumed, played[3:])
    assert same(numbers(learner.state_dict()), numbers(resumed.state_dict()))


def test_what_is_read_below_the_core_is_judged_but_not_rotated(
    build_rotated, build_catch, build_agent
):
    env = build_catch()
    trajectory = collect(env, build_agent(env.spec, memory=MEMORY), 1)[0]
    learner = build_rotated({"aux": Below(private_weight=0.0)}, memory=MEMORY)
    agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
    metrics = learner.update(trajectory)
    output = agent.unroll(trajectory)
    loss = head(agent, output, trajectory, None).loss[trajectory.valid].mean()
    main = main_losses(output, trajectory)[trajectory.valid].mean()
    row = torch.autograd.grad(loss, output.torso, retain_graph=True)[0]
    of_main = torch.autograd.grad(main, output.features, retain_graph=True)[0]
    lengths = torch.stack([of_main.norm(), row.norm()])
    weights = lengths.mean() / lengths
    assert_close(metrics["aux/weight"], weights[1])
    assert metrics["aux/cosine"] == 0.0
    torso = list(agent.torso.parameters())
    expected = torch.autograd.grad(weights[0] * main + weights[1] * loss, torso)
    for mine, theirs in zip(gradients(learner.agent.torso), expected, strict=True):
        assert_close(mine, theirs)


def test_what_a_head_makes_of_the_agent_by_running_it_again_passes_as_it_is(
    build_rotated, collected
):
    once, twice = (build_rotated({"aux": head()}) for head in (Head, Again))
    agent, trajectory = copy.deepcopy(twice.agent), collected[0]
    once.update(trajectory)
    twice.update(trajectory)
    features = agent(-trajectory.observation.float()).features[:-1]
    again = features.square().sum(-1)[trajectory.valid].mean()
    expected = torch.autograd.grad(again, list(agent.torso.parameters()))
    for mine, plain, more in zip(
        gradients(twice.agent.torso), gradients(once.agent.torso), expected, strict=True
    ):
        assert_close(mine, plain + more)


def test_a_feature_map_in_bf16_is_cut_off_too(build_rotated, build_trajectory):
    def learner(precision):
        torch.manual_seed(0)
        torso = ImpalaConfig(channels=(3, 4), width=5).build((2, 8, 8))
        agent = ActorCritic(torso, 3, precision)
        return build_rotated({"aux": Mapped()}, agent=agent)

    trajectory = build_trajectory(actions=3, shape=(2, 8, 8))
    image = trajectory.observation.mul(40).add(128).clamp(0, 255).to(torch.uint8)
    trajectory = replace(trajectory, observation=image)
    narrow, wide = learner("bf16"), learner("fp32")
    for either in (narrow, wide):
        metrics = either.update(trajectory)
        assert metrics["aux/weight"] > 0
        assert metrics["skipped"] == 0.0
    # The same direction, to the digits that bf16 has.
    for mine, theirs in zip(gradients(narrow.agent), gradients(wide.agent), strict=True):
        assert torch.cosine_similarity(mine.flatten(), theirs.flatten(), 0) > 0.97


def test_an_auxiliary_that_is_not_finite_is_left_out(build_rotated, collected):
    broken, silent = build_rotated({"aux": Broken()}), build_rotated({"aux": Probe()})
    metrics = broken.update(collected[0])
    silent.update(collected[0])
    assert (metrics["skipped"], metrics["aux/dropped"], metrics["aux/weight"]) == (0.0, 1.0, 0.0)
    assert same(numbers(broken.agent.state_dict()), numbers(silent.agent.state_dict()))


def test_a_main_loss_that_is_not_finite_changes_no_weight(build_rotated, collected):
    learner = build_rotated({"aux": Actor()})
    update_all(learner, collected[:2])
    agent, rotations = numbers(learner.agent.state_dict()), rotated_of(learner).rotations
    before = rotations.matrix.clone()
    reward = collected[2].reward * NAN
    metrics = learner.update(replace(collected[2], reward=reward))
    assert metrics["skipped"] == 1.0
    assert same(agent, numbers(learner.agent.state_dict()))
    assert torch.equal(rotations.matrix, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_an_update_waits_for_nothing(
    build_rotated, build_agent, catch, collected, never_waits
):
    gpu = torch.device("cuda")
    agent, head = build_agent(catch.spec).to(gpu), Actor().to(gpu)
    learner = build_rotated({"aux": head}, turned=False, agent=agent)
    trajectories = [
        replace(
            trajectory,
            **{
                field.name: value.to(gpu)
                for field in fields(trajectory)
                if isinstance(value := getattr(trajectory, field.name), torch.Tensor)
            },
        )
        for trajectory in collected
    ]
    learner.update(trajectories[0])  # allocates, and loads kernels
    with never_waits():
        update_all(learner, trajectories[1:])
