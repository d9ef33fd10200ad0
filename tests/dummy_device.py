"""A device without hardware: PyTorch's free backend, whose tensors are computed on the CPU.

A tensor on it knows that it is on another device than the host, as one on a GPU does.  Operations
that mix devices raise, and so do those that a GPU would make the host wait for, within `strict`.
The numbers are real, so a run on this device can be compared with one on the CPU, bit for bit.
"""

from contextlib import ExitStack, contextmanager
from functools import cache

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from agents.runtime.distributed import LateFlag

NAME = "dummy"
CPU = torch.device("cpu")
aten = torch.ops.aten

WAITS = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2"),
    *("unique_dim", "unique_consecutive", "bincount", "histc", "multinomial", "allclose"),
    *("_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_lstsq"),
}
"""Operations that make the host wait for a GPU: it needs a number, a shape or an error code."""


class DeviceError(AssertionError):
    """The code would fail on a GPU, or make the host wait for it."""


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


@cache
def device():
    """Registers the backend, once per process, and returns its only device."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    return torch.device(NAME, 0)


class DeviceTensor(torch.Tensor):
    """Wraps the tensor of the CPU that has the numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device(),
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return STATE.run(operation, arguments, options or {})

    def tolist(self):
        return self.cpu().tolist()


_Generator = torch.Generator


class DeviceGenerator(_Generator):
    """Random numbers of the device: those of the CPU, but not to be drawn on it."""

    device = property(lambda self: device())


class _AnyGenerator(_Generator):
    """Stands in for `torch.Generator`, which knows no devices but PyTorch's own."""

    def __new__(cls, where="cpu"):
        if torch.device(where).type != NAME:
            return _Generator(where)
        made = DeviceGenerator("cpu")
        STATE.generators[made._cdata] = made  # PyTorch passes on what is below the Python object
        return made


class _State:
    """What is forbidden at the moment, and what was done so far."""

    def __init__(self):
        self.strict = False
        self.capturing = False
        self.made = []  # on the host, within a capture
        self.done = set()
        self.generators = {}

    def run(self, operation, arguments, options):
        """Checks an operation and computes it on the CPU."""
        seen = []
        inner = [_unwrapped(each, seen) for each in arguments]
        inner_options = {name: _unwrapped(each, seen) for name, each in options.items()}
        target = options.get("device")
        target = None if target is None else torch.device(target)
        on_device = any(isinstance(each, DeviceTensor) for each in seen) or (
            target is not None and target.type == NAME
        )
        draws = options.get("generator")
        if draws is not None and (draws._cdata in self.generators) != on_device:
            raise DeviceError(f"{operation} draws from a generator of another device")
        if on_device:
            self._check(operation, arguments, options, seen)
        result = operation(*inner, **inner_options)
        if self.capturing and not on_device:
            self.made.append(result)
        if not on_device or (target is not None and target.type == "cpu"):
            return result
        if _writes_to_first(operation):
            return arguments[0]
        if isinstance(result, (list, tuple)):
            return type(result)([_wrapped(each) for each in result])
        return _wrapped(result)

    def _check(self, operation, arguments, options, tensors):
        name = operation.overloadpacket.__name__
        self.done.add(name)
        if name in ("_to_copy", "copy_"):
            self._check_copy(name, arguments, options)
            return
        hosts = [each for each in tensors if not isinstance(each, DeviceTensor)]
        if self.capturing and any(not any(h is m for m in self.made) for h in hosts):
            raise DeviceError(
                f"{name} reads a number of the host, which a capture makes a constant"
            )
        if hosts and (name in ("cat", "stack") or any(each.dim() for each in hosts)):
            raise DeviceError(f"{name} mixes the device and the host")
        waits = name in WAITS or (
            name == "repeat_interleave" and options.get("output_size") is None
        )
        if name in ("index", "index_put_", "index_put"):
            one = name != "index" and arguments[2].numel() == 1
            masks = [each for each in arguments[1] if each is not None and each.dtype == torch.bool]
            waits = bool(masks) and not one
        if waits and self.strict:
            raise DeviceError(f"{name} makes the host wait for the device")

    def _check_copy(self, name, arguments, options):
        if name == "copy_":
            target, source, *rest = arguments
            to_host = not isinstance(target, DeviceTensor)
            waits = not (rest[0] if rest else options.get("non_blocking", False))
        else:
            (source,) = arguments
            asked = options.get("device")
            to_host = asked is not None and torch.device(asked).type == "cpu"
            waits = not options.get("non_blocking", False)
            target = None if to_host or asked is not None else source
        crosses = to_host == isinstance(source, DeviceTensor) and (target is not source)
        if crosses and (self.capturing or (self.strict and (waits or to_host))):
            raise DeviceError(f"{name} {'to' if to_host else 'from'} the host waits")


STATE = _State()


def _unwrapped(value, seen):
    """The value for the CPU; notes every tensor in `seen`."""
    match value:
        case DeviceTensor():
            seen.append(value)
            return value.inner
        case torch.Tensor():
            seen.append(value)
        case torch.device(type="dummy"):
            return CPU
        case list() | tuple():
            return [_unwrapped(each, seen) for each in value]
    return value


def _wrapped(value):
    return DeviceTensor(value) if isinstance(value, torch.Tensor) else value


@cache
def _writes_to_first(operation):
    """Whether an operation returns its first argument, changed in place."""
    schema = operation._schema
    alias = schema.arguments[0].alias_info if schema.arguments else None
    return alias is not None and alias.is_write and len(schema.returns) == 1


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        return STATE.run(operation, arguments, options or {})


@contextmanager
def dummy_device(monkeypatch):
    """Makes the device usable within a block."""
    where = device()
    monkeypatch.setattr(torch, "Generator", _AnyGenerator)
    monkeypatch.setattr(torch, "tensor", _tensor)
    monkeypatch.setattr(LateFlag, "read", _read_late)
    with ExitStack() as stack:
        # Other threads of the engine know the devices that there were when it started.
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(_Mode())
        yield where


@contextmanager
def strict(on=True):
    """Within this block nothing may make the host wait; `on=False` allows it again."""
    before, STATE.strict = STATE.strict, on
    try:
        yield
    finally:
        STATE.strict = before


@contextmanager
def capturing():
    """Within this block everything is forbidden that a CUDA graph cannot contain."""
    STATE.capturing = True
    try:
        yield
    finally:
        STATE.capturing, STATE.made = False, []


_host_tensor = torch.tensor


def _tensor(data, *, device=None, **options):
    # PyTorch makes it behind the back of a mode.
    made = _host_tensor(data, **options)
    return made if device is None else made.to(device)


_read_at_once = LateFlag.read


def _read_late(flag):
    # On CUDA it waits for the update before, which is done by then.
    if STATE.capturing:
        raise DeviceError("an event is waited for within a capture")
    with strict(False):
        return _read_at_once(flag)
