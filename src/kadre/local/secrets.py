"""Where secret values come from on a laptop: Secret documents, then `.env`, then a provider's own variable.

The environment of this process holds more than was meant for agents, and a manifest names freely: of the environment
only what providers' own tools read is looked at (OPENAI_API_KEY), and only for that provider.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from kadre.plan.providers import is_own_variable
from kadre.plan.types import SecretRef


def read_exported() -> dict[str, str]:
    """The providers' own variables of this process."""
    return {name: value for name, value in os.environ.items() if is_own_variable(name)}


def read_env(folders: Iterable[Path]) -> dict[str, str]:
    """The lines of every `.env` in the folders, the last one on top."""
    env: dict[str, str] = {}
    for folder in folders:
        file = folder / ".env"
        if file.is_file():
            from dotenv import dotenv_values  # only where there is a file to read

            env.update({name: value for name, value in dotenv_values(file).items() if value is not None})
    return env


class LocalSecrets:
    """A SecretReader. Replaced in place on reload, so that adapters see a changed value at their next call."""

    def __init__(self) -> None:
        self._documents: Mapping[tuple[str, str], Mapping[str, str]] = {}
        self._env: Mapping[str, str] = {}
        self._exported: Mapping[str, str] = {}

    def replace(
        self,
        documents: Mapping[tuple[str, str], Mapping[str, str]],
        env: Mapping[str, str],
        exported: Mapping[str, str],
    ) -> tuple[Mapping[tuple[str, str], Mapping[str, str]], Mapping[str, str], Mapping[str, str]]:
        """`documents`: (namespace, name) -> key -> value; `env`, `exported`: see `read_env`, `read_exported`.

        Returns the three there were before.
        """
        before = self._documents, self._env, self._exported
        self._documents = documents
        self._env = env
        self._exported = exported
        return before

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader."""
        value = self._documents.get((ref.namespace, ref.name), {}).get(ref.key)
        if value is not None:
            return value
        return self._env.get(ref.env) or (self._exported.get(ref.env) if ref.exported else None) or None
