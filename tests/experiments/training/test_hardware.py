import pytest
import torch

from agents.networks.torsos import MlpConfig
from configs.errors import UsageError
from experiments.training import hardware

CPU = torch.device("cpu")


def test_a_device_that_is_there_is_taken():
    assert hardware.choose_device("cpu") == (CPU, "as asked")


@pytest.mark.parametrize("name", ["cuda:99", "cuda:-1", "mps", "meta", "cpu:1", "gpu", "", "CPU"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(UsageError, match=r"^--device .* is not available here: use cpu.*\.$"):
        hardware.choose_device(name)


def test_without_a_gpu_auto_is_the_cpu_and_says_why(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert hardware.choose_device("auto") == (CPU, "no GPU found")


def test_with_a_gpu_auto_is_the_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "a fast one")
    assert hardware.choose_device("auto") == (torch.device("cuda", 0), "a fast one")


@pytest.mark.parametrize(("found", "cure"), [(0, "use cpu."), (2, "use cpu or cuda:0 or cuda:1.")])
def test_the_cure_lists_the_gpus_that_are_there(found, cure, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: found)
    with pytest.raises(UsageError, match=f"{cure}$"):
        hardware.choose_device("cuda:7")


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
def test_all_cores_learn_while_no_environment_plays(cores, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores), raising=False)
    threads, reason = hardware.choose_threads(0, CPU)
    assert threads == cores
    assert "environment" in reason


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
def test_a_pipeline_leaves_half_of_the_cores_to_the_environments(cores, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores), raising=False)
    threads, reason = hardware.choose_threads(0, CPU, playing=True)
    assert threads == (1 if cores <= 3 else 8)  # a half, rounded down, but one at least
    assert "environments" in reason


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16), raising=False)
    assert hardware.choose_threads(0, CPU, processes=4)[0] == 4


def test_as_many_threads_as_asked_and_one_beside_a_gpu():
    assert hardware.choose_threads(5, CPU) == (5, "as asked")
    assert hardware.choose_threads(0, torch.device("cuda"))[0] == 1


def test_a_small_network_gets_one_thread_unless_the_user_asks_for_more(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16), raising=False)
    assert hardware.choose_threads(0, CPU, small=True) == (1, "the network is small")
    assert hardware.choose_threads(4, CPU, small=True)[0] == 4
    assert MlpConfig().small
    assert not MlpConfig(widths=(64, 512)).small


def test_the_hardware_says_what_it_is_and_why():
    chosen = hardware.choose_hardware("cpu", "fp32", 3)
    assert chosen.reason == (
        "Computing on cpu (as asked) in fp32 (as asked), 3 CPU threads (as asked)."
    )
