import pytest
import torch

from agents.networks import actor_critic as precision
from agents.networks.actor_critic import arithmetic, choose_precision, cpu_flags

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected", "reason"),
    [
        ({"avx2", "amx_bf16"}, "bf16", "amx_bf16"),
        ({"avx512_bf16"}, "bf16", "avx512_bf16"),
        ({"avx2", "avx512f"}, "fp32", "no bf16"),
        (set(), "fp32", "no bf16"),
    ],
)
def test_a_cpu_computes_in_bf16_where_it_has_instructions_for_it(
    monkeypatch, flags, expected, reason
):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    chosen, why = choose_precision(CPU)
    assert chosen == expected
    assert reason in why


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_computes_in_bf16_where_it_need_not_emulate_it(monkeypatch, native, expected):
    def is_bf16_supported(including_emulation):
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert choose_precision(torch.device("cuda"))[0] == expected


def test_an_unknown_device_computes_in_fp32():
    chosen, why = choose_precision(torch.device("mps"))
    assert chosen == "fp32"
    assert "mps" in why


def test_a_system_that_does_not_list_its_cpu_has_no_flags(monkeypatch):
    def refuse(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setattr(precision.Path, "read_text", refuse)
    assert cpu_flags() == frozenset()


def test_flags_are_read_from_the_line_of_that_name(monkeypatch):
    text = "processor\t: 0\nflags\t\t: fpu amx_bf16 avx2\nbugs\t\t: avx512_bf16\n"
    monkeypatch.setattr(precision.Path, "read_text", lambda *_, **__: text)
    assert cpu_flags() == {"fpu", "amx_bf16", "avx2"}


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_are_taken_in_the_precision_asked_for(name, dtype):
    x = torch.rand(3, 3)
    with arithmetic(name, CPU):
        assert (x @ x).dtype == dtype
    assert (x @ x).dtype == torch.float32
