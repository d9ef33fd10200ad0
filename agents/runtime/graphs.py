"""CUDA graphs: a function of tensors is captured once and replayed, in one launch, ever after.

A replay runs the kernels that were launched during the capture, at the addresses that they had, and
no Python. What the function reads must therefore lie where it lay then (`Graphs.fixed` copies it
there), numbers that the host changes must be tensors (`Number`), memory must be changed in place,
and whatever Python decides must be part of the `form` under which the graph is kept.

Without a GPU, `NoCapture` takes the place of the capture: the function runs anew every time, on the
same fixed inputs and numbers, so that all but the capture itself can be tested.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")
Scalar = float | Float[Tensor, ""]
"""A number that the host knows or, within a graph, one that only the device reads."""

WARM_UPS = 3
"""Calls before a capture: kernels are loaded, and memory that is made once is there (11 in
PyTorch's notes for networks under DistributedDataParallel, 3 for others)."""
MOST_FORMS = 32
"""Graphs of one owner; what comes in more forms than that is not captured."""


class Number:
    """A number of the host in the memory of the device, written only when it changes."""

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.tensor = torch.zeros((), dtype=dtype, device=device)
        self._value = 0.0

    def set(self, value: float) -> Float[Tensor, ""]:
        """Changes the number; returns the tensor, which is always the same one."""
        if value != self._value:
            self.tensor.fill_(value)
            self._value = value
        return self.tensor


def like(number: Scalar, tensor: Tensor) -> Scalar:
    """The number in a tensor's precision, so that a product with it has that precision too."""
    return number.to(tensor.dtype) if isinstance(number, Tensor) else number


class Capture(ABC):
    """Turns functions without arguments into their replays."""

    @abstractmethod
    def warm_up(self, function: Callable[[], T]) -> T:
        """Runs a function that is to be captured later."""

    @abstractmethod
    def __call__(self, function: Callable[[], T]) -> Callable[[], T]:
        """Returns a function that computes the same, into the same memory at every call."""


class NoCapture(Capture):
    """Captures nothing: functions run every time."""

    def warm_up(self, function: Callable[[], T]) -> T:
        """Runs the function."""
        return function()

    def __call__(self, function: Callable[[], T]) -> Callable[[], T]:
        """Returns the function as it is."""
        return function


class CudaCapture(Capture):
    """Captures functions in CUDA graphs that share one pool of memory."""

    _one_at_a_time = Lock()  # a pipeline acts in a thread of its own, and captures wait for the GPU

    def __init__(
        self,
        device: torch.device,
        generators: Sequence[torch.Generator] = (),
        *,
        lenient: bool = False,
    ) -> None:
        """Captures nothing yet.

        Args:
            device: a GPU.
            generators: of random numbers that captured functions draw, besides the default one.
            lenient: whether a function that cannot be captured runs without a graph, with a
                warning, instead of ending the run.
        """
        self._device = device
        self._lenient = lenient
        self._generators = tuple(generators)
        self._stream: torch.cuda.Stream | None = None
        self._pool = torch.cuda.graph_pool_handle()

    def _beside(self) -> torch.cuda.Stream:
        """The stream of the captures."""
        if self._stream is None:
            # Kernels of a replay have the priority that they had at the capture.
            priority = torch.cuda.current_stream(self._device).priority
            self._stream = torch.cuda.Stream(self._device, priority=priority)
        return self._stream

    def warm_up(self, function: Callable[[], T]) -> T:
        """Runs a function on another stream than the current one, as the capture will."""
        beside, now = self._beside(), torch.cuda.current_stream(self._device)
        beside.wait_stream(now)
        with torch.cuda.stream(beside):
            result = function()
        now.wait_stream(beside)
        return result

    def __call__(self, function: Callable[[], T]) -> Callable[[], T]:
        """Captures a function, which is not computed yet.

        Raises:
            RuntimeError: the function does what a graph cannot, unless that is only warned of.
        """
        now = torch.cuda.current_stream(self._device)
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        capturing = torch.cuda.graph(
            graph, self._pool, self._beside(), capture_error_mode="thread_local"
        )
        try:
            with self._one_at_a_time, capturing:
                result = function()
        except RuntimeError as error:
            said = f"no CUDA graph could be captured ({' '.join(str(error).split())})"
            if not self._lenient:
                raise RuntimeError(f"{said}; without cuda_graphs nothing is captured") from error
            # A capture that fails leaves its stream the current one.
            torch.cuda.set_stream(now)
            warnings.warn(f"{said}; this part of the run goes on without one", stacklevel=2)
            return partial(self.warm_up, function)

        def replay() -> T:
            graph.replay()
            return result

        return replay


class Graphs:
    """The graphs of one owner, such as the learner, and the memory that they read."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self.forget()

    def forget(self) -> None:
        """Drops all graphs, since memory that they read has been replaced."""
        self._calls: dict[Hashable, int] = {}
        self._replays: dict[Hashable, Callable[[], Any]] = {}
        self._buffers: dict[Hashable, list[Tensor]] = {}
        self._fixed: set[int] = set()

    def fixed(self, value: T) -> T:
        """Copies a value to where all earlier ones of its form lie.

        Args:
            value: a tensor, or dataclasses, sequences and mappings of tensors and constants.

        Returns:
            The same with tensors that keep their place; one that has it already is not copied.
        """
        tensors = list(_tensors(value))
        buffers = self._buffers.get(key := _form(value))
        if buffers is None:
            buffers = [each if id(each) in self._fixed else each.clone() for each in tensors]
            self._buffers[key] = buffers
            self._fixed |= {id(each) for each in buffers}
        else:
            moved = [pair for pair in zip(buffers, tensors, strict=True) if pair[0] is not pair[1]]
            if moved:
                torch._foreach_copy_([to for to, _ in moved], [given for _, given in moved])
        placed: T = _rebuilt(value, iter(buffers))
        return placed

    def run(
        self, form: Hashable, function: Callable[..., T], *inputs: Any, eager: bool = False
    ) -> T:
        """Computes a function of tensors, by its graph if there is one.

        Args:
            form: all that decides which operations the function consists of, except the inputs'
                shapes and constants.
            function: of the inputs; reads no other memory of the device than what keeps its place.
            inputs: what `fixed` takes.
            eager: whether to compute it without a graph this time.

        Returns:
            Its result, in memory of its own.
        """
        placed = self.fixed(inputs)
        key = (form, _form(inputs))

        def packed() -> tuple[Any, list[Tensor]]:
            result = function(*placed)
            return result, _packed(list(_tensors(result)))

        if not eager and key not in self._replays:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._calls[key] > WARM_UPS and len(self._replays) < MOST_FORMS:
                self._replays[key] = self._capture(packed)
        if eager or key not in self._replays:
            result, packs = self._capture.warm_up(packed)
        else:
            result, packs = self._replays[key]()
        # The next replay writes to the same memory.
        copied: T = _rebuilt(result, _unpacked(result, [pack.clone() for pack in packs]))
        return copied


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a value, in order."""
    if isinstance(value, Tensor):
        yield value
    else:
        for part in _parts(value).values():
            yield from _tensors(part)


def _parts(value: Any) -> Mapping[Any, Any]:
    """What a value consists of, by key; nothing for a constant."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return value
    return dict(enumerate(value)) if isinstance(value, list | tuple) else {}


def _form(value: Any) -> Hashable:
    """What two values must share for the tensors of one to fit into those of the other."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype, value.device)
    parts = _parts(value)
    inner = tuple((key, _form(part)) for key, part in parts.items())
    return (type(value), inner if parts or isinstance(value, list | tuple | Mapping) else value)


def _rebuilt(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same value with other tensors, which come in order."""
    if isinstance(value, Tensor):
        return next(tensors)
    parts = {key: _rebuilt(part, tensors) for key, part in _parts(value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**parts)
    if isinstance(value, Mapping):
        return parts
    return type(value)(parts.values()) if isinstance(value, list | tuple) else value


def _packed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """One flat tensor for every dtype, so that few copies are launched outside the graph."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault(tensor.dtype, []).append(tensor.detach().flatten())
    return [torch.cat(pieces) for pieces in kinds.values()]


def _unpacked(result: Any, packs: Sequence[Tensor]) -> Iterator[Tensor]:
    """The tensors of a result again, as views of the packs."""
    begun = {pack.dtype: 0 for pack in packs}
    by_dtype = {pack.dtype: pack for pack in packs}
    for tensor in _tensors(result):
        start = begun[tensor.dtype]
        begun[tensor.dtype] = start + tensor.numel()
        yield by_dtype[tensor.dtype][start : start + tensor.numel()].view(tensor.shape)
