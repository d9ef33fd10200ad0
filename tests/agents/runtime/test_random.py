import subprocess
import sys

import torch

from agents.runtime.random import Stream, derived_seed, generator, seeded


def test_every_component_and_every_seed_has_its_own_numbers():
    components = ("agent", "acting", "distill", "")
    seeds = {derived_seed(seed, name) for seed in range(50) for name in components}
    assert len(seeds) == 50 * len(components)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_seeds_are_the_same_in_every_process():
    # Python's own `hash` of a text is not.
    command = "from agents.runtime.random import derived_seed; print(derived_seed(3, 'agent'))"
    result = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) == derived_seed(3, "agent")


def test_a_generator_is_its_components_own():
    def draw(seed, component):
        return torch.rand(5, generator=generator(seed, component, torch.device("cpu"))).tolist()

    assert draw(1, "acting") == draw(1, "acting")
    assert draw(1, "acting") != draw(2, "acting")
    assert draw(1, "acting") != draw(1, "agent")


def test_a_seeded_block_repeats_itself_and_leaves_the_global_numbers_alone():
    before = torch.get_rng_state()
    with seeded(1, "agent"):
        first = torch.rand(5)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)
    with seeded(1, "agent"):
        assert torch.equal(torch.rand(5), first)
    with seeded(1, "inverse"):
        assert not torch.equal(torch.rand(5), first)


CPU = torch.device("cpu")


def drawn(stream):
    return [stream.uniform((3, 2), CPU).tolist(), stream.integers(9, (4,), CPU).tolist()]


def test_a_stream_draws_its_generators_numbers():
    stream, twin = Stream(generator(1, "replay", CPU)), generator(1, "replay", CPU)
    numbers = [torch.rand(3, 2, generator=twin).tolist()]
    numbers.append(torch.randint(9, (4,), generator=twin).tolist())
    assert drawn(stream) == numbers


def test_a_stream_goes_on_where_it_was_saved_with_its_owner():
    owner, other = (torch.nn.ModuleDict({"stream": Stream(generator(1, "x", CPU))}) for _ in "ab")
    first = drawn(owner["stream"])
    other.load_state_dict(owner.state_dict())
    assert drawn(other["stream"]) == drawn(owner["stream"]) != first
