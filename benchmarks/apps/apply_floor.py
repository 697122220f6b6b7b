"""The floor of reconciling: sends the writes it is given over bare aiohttp, and says what that cost.

`python -m benchmarks.apps.apply_floor FILE KUBECONFIG`: FILE has `[path, body]` a line, JSON, in groups parted by an
empty line; the lines of a group go out one after the other, sixteen groups at once. Prints seconds, cpu and writes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import aiohttp
import uvloop

from kadre.kube import access

AT_ONCE = 16


async def main(groups: list[list[list[str]]], kubeconfig: Path) -> None:
    """Send everything."""
    found = access.by_kubeconfig(kubeconfig)
    connector = aiohttp.TCPConnector(ssl=found.tls or True)
    headers = {"Content-Type": "application/apply-patch+yaml"}
    waiting = iter(groups)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def work() -> None:
            for group in waiting:
                for path, body in group:
                    address = f"{found.server}{path}?fieldManager=kadre&force=true"
                    async with session.patch(address, data=body.encode()) as answer:
                        assert answer.status < 300, await answer.text()
                        await answer.read()

        began, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*[work() for _ in range(AT_ONCE)])
        cost = {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}
    print(json.dumps(cost | {"writes": sum(len(group) for group in groups)}))


if __name__ == "__main__":
    parts = Path(sys.argv[1]).read_text().split("\n\n")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main([[json.loads(line) for line in part.splitlines()] for part in parts], Path(sys.argv[2])))
