"""One stream of random numbers per component, so that adding one changes no other."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def derived_seed(seed: int, component: str) -> int:
    """A seed for `component` that shares nothing with any other component's or seed's."""
    digest = hashlib.sha256(f"{component}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, component: str, device: torch.device) -> torch.Generator:
    """Makes a generator whose numbers are independent of those of other components and seeds.

    Args:
        seed: of the run.
        component: names the use, such as a head's name.
        device: where the numbers are drawn.
    """
    return torch.Generator(device).manual_seed(derived_seed(seed, component))


@contextmanager
def seeded(seed: int, component: str) -> Iterator[None]:
    """Runs a block (building a network, say) on the component's own stream.

    The global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, component))
        yield


class Stream(nn.Module):
    """A generator that is saved with the module that it is part of.

    It lives on the host, so that a run may resume on another device; few numbers are drawn.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        assert generator.device.type == "cpu"
        self.generator = generator

    def integers(
        self, high: int, size: Sequence[int], device: torch.device
    ) -> Int[Tensor, " *size"]:
        """Draws whole numbers from 0 to `high` - 1.

        Args:
            high: one more than the largest number.
            size: of the result.
            device: where the result is needed; the numbers are drawn on the host.
        """
        drawn = torch.randint(high, tuple(size), generator=self.generator)
        return drawn.to(device, non_blocking=True)

    def uniform(self, size: Sequence[int], device: torch.device) -> Float[Tensor, " *size"]:
        """Draws numbers from 0 up to 1."""
        drawn = torch.rand(tuple(size), generator=self.generator)
        return drawn.to(device, non_blocking=True)

    def get_extra_state(self) -> Tensor:
        """The generator's state, which `state_dict` saves."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continues from the generator's state in a `state_dict`."""
        # A generator's state lives on the host, whatever the device of the rest.
        self.generator.set_state(state.cpu())
