"""Device, precision and threads of a run, memory of the process, and signals that stop it."""

import ctypes
import signal
import sys
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, cast

import torch

from agents.networks.actor_critic import Precision, choose_precision
from agents.runtime.distributed import ALONE, Processes, join, launched
from configs.errors import UsageError
from envs.emulators import available_cores

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER, _STRIDE = -1, 64 * 2**20


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory, because every update needs the same blocks again.

    By default, glibc returns large blocks to the system at once and gets them back page by page,
    zeroed, which costs a sixth of the time of an update on a CPU.  Other systems and C libraries
    stay as they are.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
    mallopt(_M_TOP_PAD, _STRIDE)


class StopRequest:
    """SIGINT and SIGTERM as a request to stop after the current update.

    While entered, the first signal sets `requested`; the second one acts as usual.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._request) for number in self.SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Hardware:
    """Device, precision and threads of a run, with the reasons for the log."""

    device: torch.device
    precision: Precision
    threads: int
    reason: str
    processes: Processes = ALONE


def choose_hardware(
    device_name: str,
    asked_precision: str,
    asked_threads: int,
    *,
    playing: bool = False,
    small: bool = False,
) -> Hardware:
    """Chooses what the user left open, and joins the other processes of the run.

    Args:
        device_name: a device, or auto.
        asked_precision: fp32, bf16 or auto.
        asked_threads: threads of PyTorch on the CPU; 0 chooses.
        playing: whether environments play while PyTorch computes.
        small: whether the network is too small to be shared by several threads.

    Returns:
        The choice, with a sentence that explains it.

    Raises:
        UsageError: the device is missing.
    """
    device, reason = choose_device(device_name)
    try:
        processes = join(device)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    precision, why = choose_precision(device)
    if asked_precision != "auto":
        precision, why = cast(Precision, asked_precision), "as asked"
    if device.type == "cuda":
        # New events, streams and messages belong to the current GPU.
        torch.cuda.set_device(device)
        why += set_tf32(allowed=precision != "fp32")
    threads, because = choose_threads(
        asked_threads, device, playing=playing, small=small, processes=processes.size
    )
    together = f", {processes.size} processes" if processes.size > 1 else ""
    return Hardware(
        device,
        precision,
        threads,
        f"Computing on {device} ({reason}) in {precision} ({why}), "
        f"{threads} CPU thread{'s' if threads > 1 else ''} ({because}){together}.",
        processes,
    )


def set_tf32(*, allowed: bool) -> str:
    """Allows or forbids convolutions in TF32, which cuDNN would use for fp32 by itself.

    Next to bf16 it costs nothing: what stays in float32 then are the convolutions of heads.

    Returns:
        What to add to the reason for the precision.
    """
    torch.backends.cudnn.allow_tf32 = allowed
    return ", TF32 in convolutions outside of it" if allowed else ", without TF32"


def choose_device(name: str) -> tuple[torch.device, str]:
    """Turns `--device` into an available device, and gives the reason.

    Raises:
        UsageError: the device is missing.
    """
    # torchrun numbers the processes of a machine; each takes its own GPU.
    try:
        index = launched("LOCAL_RANK", usual=0, least=0) % max(1, torch.cuda.device_count())
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", index), torch.cuda.get_device_name(index)
        return torch.device("cpu"), "no GPU found"
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in ("cpu", *found, *(["cuda"] if found else [])):
        raise UsageError(
            f"--device {name!r} is not available here: use {' or '.join(['cpu', *found])}."
        )
    return torch.device("cuda", index) if name == "cuda" else torch.device(name), "as asked"


def choose_threads(
    asked: int,
    device: torch.device,
    *,
    playing: bool = False,
    small: bool = False,
    processes: int = 1,
) -> tuple[int, str]:
    """Chooses the number of threads for learning on the CPU, and gives the reason.

    Environments and acting use the cores while they play, and learning uses them afterwards;
    a pipeline does both at once.  Threads that share a small network wait for each other most
    of the time, above all where other processes use the cores.

    Args:
        asked: by the user; 0 chooses.
        device: of the learner.
        playing: whether environments play while PyTorch computes.
        small: whether the network is too small to be shared by several threads.
        processes: of this run on this machine, which share the cores.

    Returns:
        The number, and the reason.
    """
    if asked > 0:
        return asked, "as asked"
    if device.type != "cpu":
        return 1, "the GPU computes"
    if small:
        return 1, "the network is small"
    cores = max(1, available_cores() // processes)
    if playing:
        return max(1, cores // 2), f"half of {cores} cores, the environments play meanwhile"
    return cores, "all cores, while no environment plays; fewer if others need them"
