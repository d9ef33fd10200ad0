"""What an example compares: main-only learning, and every gate that it can serve."""

from collections.abc import Callable

from agents.gates import AttittudConfig, Gate, Gates

MAIN = "main only"

Maker = Callable[[], Gate]


def arms(attittud: AttittudConfig) -> dict[str, Maker | None]:
    """Makers of the registered gates by name, after main-only learning, which has none.

    Says which gates are left out, and why.

    Args:
        attittud: options by which its samples can be had.
    """
    makers: dict[str, Maker | None] = {MAIN: None}
    for name, config in {**vars(Gates()), "attittud": attittud}.items():
        gate = config.build()
        if gate.needs_network:
            print(f"{name} is left out: half of its method is a part of the network.")
        elif gate.slices > 0:
            print(f"{name} is left out: it needs gradients of slices of the data.")
        else:
            makers[name] = config.build
    return makers
