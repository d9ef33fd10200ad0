from benchmarks.stepping import protocol
from benchmarks.stepping.protocol import Burst, burst


def test_a_burst_plays_until_its_time_is_used(monkeypatch):
    # The start, and the time after 0, 1, 2 and 3 plays: after the third 1.5 seconds are used.
    times = iter([10.0, 10.0, 10.4, 10.9, 11.5])
    monkeypatch.setattr(protocol.time, "process_time", lambda: next(times))
    assert burst(lambda: 7, seconds=1.0) == Burst(steps=21, seconds=1.5)
