"""Results as people read them: aligned tables, which are Markdown too, so the terminal and the file show the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.results import BUSY, Results, middle
from benchmarks.scenarios import SCENARIOS
from benchmarks.targets import REFERENCE, TARGETS

Row = Sequence[str]


def render(found: Results) -> str:
    """The whole report."""
    return "\n".join(_parts(found)).rstrip() + "\n"


def _parts(found: Results) -> Iterator[str]:
    yield "# Turns: Kadre beside a floor and its rivals\n"
    yield from table(("machine", ""), list(found.machine.items()))
    versions = [
        (name, ", ".join(f"{k} {v}" for k, v in libraries.items())) for name, libraries in found.versions.items()
    ]
    yield from table(("system", "versions"), versions)
    effort = found.effort
    if effort.smoke:
        yield "A smoke test: too short for its figures to mean much.\n"
    yield (
        f"Medians of {effort.rounds} rounds of about {effort.seconds:g} s a line, {effort.busy_seconds:g} s with {BUSY}"
        " at once; within a round the systems are driven by turns and ratios are taken.\n"
    )
    yield from _turns(found)
    yield from _starts(found)
    yield from _bursts(found)
    yield from _kept(found)
    yield from _targets(found)
    if found.notes:
        yield "## Notes\n"
        yield from (f"- {note}" for note in found.notes)


def _turns(found: Results) -> Iterator[str]:
    header = ("at once", "system", "CPU ms/turn", "x floor", "p50 ms", "p99 ms", "turns/s", "x floor", "lost")
    for scenario in SCENARIOS.values():
        cells = [cell for cell in found.cells if cell.scenario == scenario.name]
        rows = []
        for concurrency in sorted({cell.concurrency for cell in cells}):
            for system in found.systems:
                at = (scenario.name, concurrency)
                same = [cell for cell in cells if (cell.system, cell.concurrency) == (system, concurrency)]
                if not same:
                    continue
                rows.append(
                    (
                        str(concurrency),
                        found.systems[system],
                        figure(found.median(system, *at, "cpu_ms"), 2),
                        figure(found.ratio(system, "floor", *at, "cpu_ms"), 2),
                        figure(found.median(system, *at, "p50_ms"), 2),
                        figure(found.median(system, *at, "p99_ms"), 2),
                        figure(found.median(system, *at, "rate"), 0),
                        figure(found.ratio(system, "floor", *at, "rate"), 2),
                        str(sum(cell.lost for cell in same)),
                    )
                )
        if rows:
            yield f"## {scenario.title}\n"
            yield from table(header, rows)


def _starts(found: Results) -> Iterator[str]:
    rows = []
    for system, process in dict.fromkeys((start.system, start.process) for start in found.starts):
        slowest = max(start.seconds for start in found.starts if (start.system, start.process) == (system, process))
        median, rss = found.start(system, process, "seconds"), found.start(system, process, "rss_mib")
        rows.append((found.systems[system], process, figure(median, 2), figure(slowest, 2), figure(rss, 1)))
    header = ("system", "process", "s to first answer", "slowest", "MiB")
    yield from _section("## Start and memory at rest\n", header, rows)


def _bursts(found: Results) -> Iterator[str]:
    rows = [_burst_row(found, system) for system in dict.fromkeys(burst.system for burst in found.bursts)]
    header = ("system", "at once", "bursts", "lost", "p50 ms", "p99 ms", "p99/p50")
    yield from _section("## Bursts of strangers\n", header, rows)


def _kept(found: Results) -> Iterator[str]:
    sessions = [
        (found.systems[seen.system], str(count), figure(after, 1), f"{100 * (after / before - 1):.1f} %")
        for seen in found.sessions
        for count, before, after in (
            (seen.warm, seen.warm_mib, seen.warm_mib),
            (seen.warm + seen.sessions, seen.warm_mib, seen.rss_mib),
            (seen.warm + seen.sessions + seen.later, seen.rss_mib, seen.later_mib),
        )
    ]
    header: Row = ("system", "sessions so far", "MiB", "growth since the line before")
    yield from _section("## Many sessions on disk\n", header, sessions)
    fleets = [
        (
            found.systems[fleet.system],
            str(fleet.agents),
            figure(fleet.seconds, 2),
            figure(fleet.first_mib, 1),
            figure(fleet.rss_mib, 1),
        )
        for fleet in found.fleets
    ]
    header = ("system", "agents", "s to first answer", "MiB then", "MiB when all have answered")
    yield from _section("## Many agents in one process\n", header, fleets)


def _burst_row(found: Results, system: str) -> Row:
    bursts = [burst for burst in found.bursts if burst.system == system]
    return (
        found.systems[system],
        str(bursts[0].turns),
        str(len(bursts)),
        str(sum(burst.lost for burst in bursts)),
        figure(middle(burst.p50_ms for burst in bursts), 1),
        figure(middle(burst.p99_ms for burst in bursts), 1),
        figure(middle(burst.p99_ms / burst.p50_ms for burst in bursts if burst.p50_ms), 2),
    )


def _targets(found: Results) -> Iterator[str]:
    rows = []
    for target in TARGETS:
        value = target.value(found)
        mark = "not measured" if value is None else "met" if target.met(value) else "NOT MET"
        limit = f"{'<=' if target.at_most else '>='} {target.limit:g} {target.unit}"
        rows.append((target.text, limit, figure(value, 2), mark))
    yield from _section("## Targets\n", ("target", "limit", "measured", ""), rows)
    yield f"{REFERENCE}\n"


def _section(title: str, header: Row, rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield title
        yield from table(header, rows)


def table(header: Row, rows: Sequence[Row]) -> Iterator[str]:
    """A Markdown table with columns padded to one width, numbers to the right."""
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    right = [bool(rows) and all(_is_number(row[at]) for row in rows) for at in range(len(header))]

    def line(row: Row) -> str:
        padded = (f"{cell:>{w}}" if r else f"{cell:<{w}}" for cell, w, r in zip(row, widths, right, strict=True))
        return f"| {' | '.join(padded)} |"

    yield line(header)
    yield "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + "|"
    yield from (line(row) for row in rows)
    yield ""


def _is_number(cell: str) -> bool:
    return cell.removesuffix(" %").replace(".", "", 1).removeprefix("-").isdigit() or cell == "-"


def figure(value: float | None, digits: int) -> str:
    """With so many digits after the point; a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"
