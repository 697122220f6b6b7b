"""What every store promises that processes share: whose a run is, and when it is anybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from kadre.base import errors
from kadre.base.clock import SystemClock
from kadre.engine.memory.port import Journal, RunInfo, SharedJournal
from kadre.engine.memory.remote_journal import RemoteJournal
from tests.contract.journal.conftest import LEASE
from tests.contract.journal.story import AGENT, Teller
from tests.support.stores import Store

Pair = tuple[RemoteJournal, RemoteJournal]


def ids(runs: Sequence[RunInfo]) -> list[str]:
    return [info.run_id for info in runs]


async def seen(journal: Journal, run_id: str) -> RunInfo:
    info = await journal.run(run_id)
    assert info is not None
    return info


async def until(journal: SharedJournal, condition: Callable[[Sequence[RunInfo]], bool]) -> None:
    """Look at what is abandoned whenever there may be news, until that holds of it."""
    async with asyncio.timeout(20):
        while not condition(await journal.abandoned({AGENT})):
            await journal.news()


async def takes_its_time(journal: RemoteJournal) -> None:
    """Look what becomes of run-1 after the server was away: others get time to come back before it is anybody's."""
    async with asyncio.timeout(20):
        while journal._watch.steady:
            await journal.news()
    assert await journal.abandoned({AGENT}) == []
    await until(journal, lambda found: ids(found) == ["run-1"])


class Machine(SystemClock):
    """The clock of a machine that can be suspended: it stands still then, and other machines' go on."""

    def __init__(self) -> None:
        self._lost = 0.0
        self._since: float | None = None

    def monotonic(self) -> float:
        """See Clock."""
        return (super().monotonic() if self._since is None else self._since) - self._lost

    def suspend(self) -> None:
        """Stand still."""
        self._since = super().monotonic()

    def resume(self) -> None:
        """Go on from where it stood."""
        assert self._since is not None
        self._lost += super().monotonic() - self._since
        self._since = None

    async def sleep(self, seconds: float) -> None:
        """See Clock."""
        due = self.monotonic() + seconds
        while (left := due - self.monotonic()) > 0:
            await super().sleep(max(left, 0.01))


async def third(store: Store, space: str) -> RemoteJournal:
    return await store.open(space, lease=LEASE)


async def test_a_run_is_its_creators_until_another_claims_it(shared: Pair) -> None:
    run = Teller("run-1", "s")
    await run.create(shared[0])
    assert (ids(await shared[0].held()), ids(await shared[1].held())) == (["run-1"], [])
    claimed = await shared[1].claim("run-1")
    assert claimed.epoch == 2
    assert (ids(await shared[0].held()), ids(await shared[1].held())) == ([], ["run-1"])
    run.epoch = claimed.epoch
    await run.end(shared[1])
    assert ids(await shared[1].held()) == []


async def test_who_loses_a_run_hears_of_it_and_can_write_no_more(shared: Pair) -> None:
    run = Teller("run-1", "s")
    await run.create(shared[0])
    await shared[0].news()  # what it heard of before
    await shared[1].claim("run-1")
    async with asyncio.timeout(20):
        while "run-1" in ids(await shared[0].held()):
            await shared[0].news()
    with pytest.raises(errors.Fenced):
        await run.end(shared[0])


async def test_a_run_is_claimed_as_it_was_seen_or_not_at_all(shared: Pair) -> None:
    run = Teller("run-1", "s")
    await run.create(shared[0])
    before = await seen(shared[1], "run-1")
    await run.append(shared[0], run.asks("a"))
    with pytest.raises(errors.Fenced):
        await shared[1].claim("run-1", before)
    rivals = await seen(shared[1], "run-1")
    results = await asyncio.gather(*(j.claim("run-1", rivals) for j in (*shared, *shared)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Fenced", "Fenced", "Fenced", "RunInfo"]


async def test_runs_of_a_process_that_ends_are_anybodys_at_once(store: Store, space: str, shared: Pair) -> None:
    leaving = await third(store, space)
    await Teller("run-left", "s1").create(leaving)
    await Teller("run-kept", "s2").create(shared[1])
    assert await shared[0].abandoned({AGENT}) == []
    await leaving.aclose()
    assert ids(await shared[0].abandoned({AGENT})) == ["run-left"]
    assert await shared[0].abandoned({"default/another"}) == []


async def test_runs_of_a_process_that_dies_are_anybodys_when_its_lease_runs_out(
    store: Store, space: str, shared: Pair
) -> None:
    dying = await third(store, space)
    await Teller("run-left", "s1").create(dying)
    started = SystemClock().monotonic()
    dying._watch.hang_up()  # as the kernel does for a process that is killed
    await dying._tasks.aclose()
    await dying.aclose()
    await until(shared[0], lambda found: ids(found) == ["run-left"])
    assert SystemClock().monotonic() - started > LEASE / 2


async def test_a_lease_is_renewed_for_as_long_as_its_process_lives(shared: Pair) -> None:
    await Teller("run-1", "s").create(shared[1])
    async with asyncio.timeout(20):
        for _ in range(8):  # which takes more than two leases
            await shared[0].news()
            assert await shared[0].abandoned({AGENT}) == []


async def test_a_question_that_a_server_answers_late_takes_nothing_of_who_could_not_renew(
    store: Store, shared: Pair
) -> None:
    """It was asked by one that held its lease, and is answered when the other's has run out meanwhile."""
    await until(shared[0], lambda _: shared[0]._watch.steady)
    await Teller("run-1", "s").create(shared[1])
    await shared[1]._tasks.aclose()  # its next renewal would be one that the server is too late for
    for _ in range(2):
        await shared[0].news()
    store.server.freeze()
    asked = asyncio.create_task(shared[0].abandoned({AGENT}))
    await SystemClock().sleep(0.6 * LEASE)
    store.server.thaw()
    assert await asked == []
    await until(shared[0], lambda found: ids(found) == ["run-1"])


async def test_after_the_server_was_away_for_less_than_a_lease_everybody_gets_time_to_renew(
    store: Store, shared: Pair
) -> None:
    await until(shared[0], lambda _: shared[0]._watch.steady)
    await Teller("run-1", "s").create(shared[1])
    await shared[1]._tasks.aclose()  # it does not come back by itself
    store.server.stop()
    store.server.start()
    await takes_its_time(shared[0])


async def test_after_the_server_was_away_everybody_gets_time_to_renew(store: Store, shared: Pair) -> None:
    await until(shared[0], lambda _: shared[0]._watch.steady)
    await Teller("run-1", "s").create(shared[1])
    store.server.stop()
    await shared[1]._tasks.aclose()  # it does not come back by itself
    await SystemClock().sleep(1.2 * LEASE)
    store.server.start()
    await takes_its_time(shared[0])


@pytest.mark.requirement("clocks-that-are-set")
async def test_a_servers_clock_that_is_set_forward_takes_nothing_of_who_has_not_renewed_since(
    store: Store, space: str
) -> None:
    """Seen from two processes whose machines stand still while the server's clock goes on by more than a lease."""
    machine = Machine()
    here, there = [await store.open(space, lease=LEASE, clock=machine) for _ in range(2)]
    await until(here, lambda _: here._watch.steady)
    await Teller("run-1", "s").create(there)
    await there._tasks.aclose()  # its next renewal would be one that comes after the other's
    machine.suspend()
    await SystemClock().sleep(1.2 * LEASE)
    machine.resume()
    for _ in range(2):
        await here.news()
    assert await here.abandoned({AGENT}) == []
    await takes_its_time(here)
    for journal in (here, there):
        await journal.aclose()


@pytest.mark.requirement("clocks-that-are-set")
async def test_a_servers_clock_that_is_set_back_keeps_no_run_of_a_process_that_died(
    store: Store, space: str, shared: Pair
) -> None:
    dying = await third(store, space)
    await Teller("run-left", "s1").create(dying)
    await Teller("run-kept", "s2").create(shared[1])
    dying._watch.hang_up()
    await dying._tasks.aclose()
    await _set_back(store, shared[0], dying._watch.owner)
    await until(shared[0], lambda found: ids(found) == ["run-left"])
    await dying.aclose()


@pytest.mark.requirement("clocks-that-are-set")
async def test_a_process_whose_lease_a_server_has_forgotten_gets_time_to_renew_it(store: Store, shared: Pair) -> None:
    """It was set forward by hours, so that another that came forgot the lease of one without open runs."""
    await until(shared[0], lambda _: shared[0]._watch.steady)
    await shared[1]._tasks.aclose()
    await _forget(store, shared[0], shared[1]._watch.owner)
    await Teller("run-1", "s").create(shared[1])
    shared[0]._watch._since = shared[0]._clock.monotonic()  # that the clock was set is seen by whoever renews
    assert await shared[0].abandoned({AGENT}) == []


async def _set_back(store: Store, journal: RemoteJournal, owner: object) -> None:
    """Leave that owner's lease as the server's clock does that is set back by an hour."""
    if store.type == "redis":
        hour = str(int((SystemClock().now().timestamp() + 3600) * 1000))
        await journal._server.do(lambda db: db.ask("ZADD", f"{db.prefix}leases", hour, str(owner)))
    else:
        later = "UPDATE leases SET until = until + interval '1 hour' WHERE owner = $1"
        await journal._server.do(lambda db: db.execute(later, owner))


async def _forget(store: Store, journal: RemoteJournal, owner: object) -> None:
    if store.type == "redis":
        await journal._server.do(lambda db: db.ask("ZREM", f"{db.prefix}leases", str(owner)))
    else:
        await journal._server.do(lambda db: db.execute("DELETE FROM leases WHERE owner = $1", owner))
