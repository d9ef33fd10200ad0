"""One stream of random numbers per component, so that adding one changes no other."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

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


def diverge(stream: torch.Generator, rank: int) -> None:
    """Gives each of several processes its own numbers, where all have the state of the first one.

    Args:
        stream: goes on otherwise than the first process's, on the host.
        rank: of this process; nothing changes for the first.
    """
    if rank > 0:
        drawn = int(torch.randint(2**62, (), generator=stream))
        stream.manual_seed(derived_seed(drawn, f"at {rank}"))


@contextmanager
def seeded(seed: int, component: str) -> Iterator[None]:
    """Runs a block (building a network, say) on the component's own stream.

    The global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, component))
        yield


MOST_ON_HOST = 2**14
"""Numbers up to which the host draws for another device: it takes a tenth of a millisecond."""


class Stream(nn.Module):
    """A generator that is saved with the module that it is part of.

    It lives on the host, so that a run may resume on another device.  Few numbers are drawn there
    and copied; of many, it draws the seed alone, and the device draws the numbers.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        assert generator.device.type == "cpu"
        self.generator = generator
        self._on_device: torch.Generator | None = None

    def integers(
        self, high: int, size: Sequence[int], device: torch.device
    ) -> Int[Tensor, " *size"]:
        """Draws whole numbers from 0 to `high` - 1.

        Args:
            high: one more than the largest number.
            size: of the result.
            device: where the result is needed.
        """
        many = self._for_many(size, device)
        if many is not None:
            return torch.randint(high, tuple(size), generator=many, device=device)
        drawn = torch.randint(high, tuple(size), generator=self.generator)
        return drawn.to(device, non_blocking=True)

    def uniform(self, size: Sequence[int], device: torch.device) -> Float[Tensor, " *size"]:
        """Draws numbers from 0 up to 1."""
        many = self._for_many(size, device)
        if many is not None:
            return torch.rand(tuple(size), generator=many, device=device)
        drawn = torch.rand(tuple(size), generator=self.generator)
        return drawn.to(device, non_blocking=True)

    def _for_many(self, size: Sequence[int], device: torch.device) -> torch.Generator | None:
        """A generator on the device with a new seed; None where the host draws by itself."""
        if device.type == "cpu" or prod(size) <= MOST_ON_HOST:
            return None
        if self._on_device is None or self._on_device.device != device:
            self._on_device = torch.Generator(device)
        return self._on_device.manual_seed(int(torch.randint(2**62, (), generator=self.generator)))

    def get_extra_state(self) -> Tensor:
        """The generator's state, which `state_dict` saves."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continues from the generator's state in a `state_dict`."""
        # A generator's state lives on the host, whatever the device of the rest.
        self.generator.set_state(state.cpu())
