"""Which arithmetic a torso uses, chosen from what the hardware can do, never from a timing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]

# Instruction sets of a CPU that multiply bfloat16 natively, as Linux names them.
BF16_INSTRUCTIONS = frozenset({"amx_bf16", "avx512_bf16"})


def cpu_flags() -> frozenset[str]:
    """The CPU's instruction sets, or nothing where the system does not list them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), ":")
    return frozenset(line.split(":", 1)[1].split())


def choose_precision(device: torch.device) -> tuple[Precision, str]:
    """Picks bf16 where the hardware has it, and says why.

    bf16 keeps the exponent of float32, so no loss scaling is needed; weights,
    gradients, the gate and the optimizer stay in float32 either way.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the GPU has native bf16"
        return "fp32", "the GPU has no native bf16"
    if device.type == "cpu":
        found = sorted(cpu_flags() & BF16_INSTRUCTIONS)
        if found:
            return "bf16", f"the CPU has {found[0]}"
        return "fp32", "the CPU has no bf16 instructions"
    return "fp32", f"bf16 is untested on {device.type}"


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Runs a block in `precision` (autocast for bf16, plain float32 otherwise)."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield
