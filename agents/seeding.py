"""One stream of random numbers per component, so that adding one changes no other."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(seed: int, component: str) -> int:
    """A seed for `component` that shares nothing with any other component's or seed's."""
    digest = hashlib.sha256(f"{component}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, component: str, device: torch.device) -> torch.Generator:
    """A generator of the component's own on `device`."""
    return torch.Generator(device).manual_seed(derived_seed(seed, component))


@contextmanager
def seeded(seed: int, component: str) -> Iterator[None]:
    """Runs a block (building a network, say) on the component's own stream.

    The global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, component))
        yield
