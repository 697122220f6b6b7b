"""The web applications around the floor and the rivals' libraries, and the two sides of `benchmarks.checkpoints`; each
runs in a process of its own.

The applications are written as their libraries' guides do, and keep a session as the messages of its last turns in a
dict, which costs nothing: what is compared is the turn, not the store.
"""

from __future__ import annotations

import os

MODEL_URL = os.environ.get("BENCH_MODEL_URL", "")
"""The mock model's base URL, from the harness."""
MCP_URL = os.environ.get("BENCH_MCP_URL", "")
