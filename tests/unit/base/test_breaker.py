"""What keeps failing is left alone for a while, and then tried once."""

from __future__ import annotations

from kadre.base.breaker import Breaker


def opened() -> Breaker:
    breaker = Breaker(failures=3, cool_down=10.0)
    for _ in range(3):
        assert breaker.wait(100.0) == 0
        breaker.failed(100.0, 100.0)
    return breaker


def test_failures_in_a_row_open_it_and_others_do_not() -> None:
    breaker = Breaker(failures=3)
    for _ in range(5):
        breaker.failed(1.0, 1.0)
        breaker.failed(1.0, 1.0)
        breaker.succeeded()
    assert not breaker.is_open
    assert opened().is_open


def test_nothing_is_let_through_while_it_is_open_and_then_one_at_a_time() -> None:
    breaker = opened()
    assert breaker.wait(101.0) == 9.0
    assert breaker.wait(110.0) == 0.0
    assert breaker.wait(110.0) == 10.0
    breaker.failed(111.0, 111.0)
    assert breaker.wait(120.0) == 1.0
    assert breaker.wait(121.0) == 0.0
    breaker.succeeded()
    assert (breaker.wait(121.0), breaker.wait(121.0)) == (0.0, 0.0)


def test_one_that_was_let_through_and_tells_nothing_holds_nobody_up_for_good() -> None:
    breaker = opened()
    assert breaker.wait(110.0) == 0.0
    assert breaker.wait(120.0) == 0.0


def test_a_success_that_comes_late_closes_it() -> None:
    breaker = opened()
    breaker.succeeded()
    assert breaker.wait(101.0) == 0.0


def test_what_fails_together_is_one_failure() -> None:
    breaker = Breaker(failures=3)
    for now in (10.0, 10.1, 10.2, 10.3):
        breaker.failed(now, 1.0)
    breaker.failed(11.0, 10.5)
    assert breaker.wait(11.0) == 0.0
    breaker.failed(12.0, 11.0)
    assert breaker.wait(13.0) > 0
    breaker.failed(20.0, 11.5)  # nor does it hold others up for longer
    assert breaker.wait(42.0) == 0.0
