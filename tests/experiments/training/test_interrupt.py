import signal

import pytest

from experiments.training.hardware import StopRequest

BOTH = pytest.mark.parametrize("number", StopRequest.SIGNALS, ids=lambda number: number.name)


@pytest.fixture
def beforehand():
    """What the two signals do outside: they are noted here."""
    received = []
    previous = {
        number: signal.signal(number, lambda got, frame: received.append(got))
        for number in StopRequest.SIGNALS
    }
    yield received
    for number, handler in previous.items():
        signal.signal(number, handler)


def test_interrupt_and_terminate_are_the_signals():
    assert set(StopRequest.SIGNALS) == {signal.SIGINT, signal.SIGTERM}


@BOTH
def test_a_signal_asks_to_stop_and_goes_no_further(number, beforehand):
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert beforehand == []


@BOTH
def test_the_second_signal_acts_as_usual(number, beforehand):
    with StopRequest():
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert beforehand == [number]


@BOTH
def test_afterwards_signals_act_as_before(number, beforehand):
    with StopRequest() as stop:
        pass
    signal.raise_signal(number)
    assert beforehand == [number]
    assert not stop.requested


def test_an_error_inside_gives_the_signals_back(beforehand):
    with pytest.raises(ValueError, match="inside"), StopRequest():
        raise ValueError("inside")
    signal.raise_signal(signal.SIGTERM)
    assert beforehand == [signal.SIGTERM]
