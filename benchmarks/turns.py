"""`python -m benchmarks.turns`: measure turns, starts and memory of Kadre, a floor and rivals side by side, and report.

Writes the report to the terminal and, of a full run, with the raw figures to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from benchmarks import machine, report
from benchmarks.measure import Bench, say
from benchmarks.results import QUICK, Effort, Results
from benchmarks.scenarios import SCENARIOS
from benchmarks.systems import System
from benchmarks.systems.floor import Floor
from benchmarks.systems.frameworks import LangGraph, PydanticAI
from benchmarks.systems.kadre import Kadre, KadreSqlite
from benchmarks.systems.kaos import Kaos

SYSTEMS: tuple[type[System], ...] = (Floor, Kadre, KadreSqlite, LangGraph, PydanticAI, Kaos)
PARTS = ("starts", "bursts", "sessions", "fleet")
RESULTS = Path(__file__).with_name("results")


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [*(system.name for system in SYSTEMS), *SCENARIOS, *PARTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, as a smoke test; writes no files")
    parser.add_argument("--rounds", type=int, help="rounds of turns (default 5)")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAMES",
        help=f"some of these, with commas: {' '.join(names)} (no system named: all; no scenario or part named: all)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the report and the raw figures (default benchmarks/results)"
    )
    given = parser.parse_args()
    if unknown := set(given.only) - set(names):
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; it knows {' '.join(names)}")
    return given


def choose(only: Sequence[str], found: Results) -> list[System]:
    """The systems that were asked for and can run here; the others are noted with the reason."""
    chosen = []
    named = [kind for kind in SYSTEMS if kind.name in only]
    for system in (kind() for kind in named or SYSTEMS):
        if system.slow_to_start and found.effort.smoke and not named:
            found.notes.append(f"{system.name}: left out of a smoke test unless --only names it.")
            continue
        if reason := system.missing():
            found.notes.append(f"{system.name}: skipped, {reason}.")
            say(found.notes[-1])
            continue
        found.systems[system.name] = system.title
        found.versions[system.name] = system.versions()
        found.notes += [f"{system.name}: no {name} turn, {why}." for name, why in system.cannot.items()]
        chosen.append(system)
    return chosen


def run(effort: Effort, only: Sequence[str]) -> Results:
    """Everything that was asked for, one part after the other."""
    found = Results(machine=machine.describe(Path(tempfile.gettempdir())), effort=effort, systems={}, versions={})
    systems = choose(only, found)
    scenarios = [scenario for scenario in SCENARIOS.values() if scenario.name in only]
    parts = [part for part in PARTS if part in only]
    if not scenarios and not parts:
        scenarios, parts = list(SCENARIOS.values()), list(PARTS)
    durable = [system for system in systems if isinstance(system, KadreSqlite)]
    with ExitStack() as stack:
        bench = Bench(stack, effort, found)
        if "starts" in parts:
            bench.starts(systems)
        if scenarios:
            bench.turns(systems, scenarios)
        if "bursts" in parts:
            bench.bursts(systems)
        for system in durable:
            if "sessions" in parts:
                bench.sessions(system)
            if "fleet" in parts:
                bench.fleet(system)
    return found


def main() -> None:
    """Measure, print, write."""
    given = arguments()
    effort = QUICK if given.quick else Effort()
    if given.rounds:
        effort = msgspec.structs.replace(effort, rounds=given.rounds)
    found = run(effort, given.only)
    text = report.render(found)
    print(text)
    folder = given.out or (None if given.quick else RESULTS)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"turns-{found.machine['date'][:10]}"
        (folder / f"{name}.md").write_text(text)
        (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        say(f"written: {name}.md and {name}.json")


if __name__ == "__main__":
    main()
