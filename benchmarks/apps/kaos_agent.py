"""The agent file for KAOS's `pais run`: with the function as a tool where BENCH_TOOLS is set.

Runs in KAOS's own environment, on a Python of its own, where this repository's packages are not installed.
"""

import os

from pydantic_ai import Agent


def echo(text: str) -> str:
    """Return the text unchanged."""
    return text


agent = Agent(
    instructions="You are a helpful assistant.",
    tools=[echo] if os.environ.get("BENCH_TOOLS") else [],
    defer_model_check=True,
)
