"""Where secret values come from on a laptop: Secret documents in the files, then `.env`, then the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from kadre.plan.types import SecretRef


def read_env(folders: Iterable[Path]) -> dict[str, str]:
    """The environment, with what a `.env` in one of the folders says on top of it."""
    env = dict(os.environ)
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

    def replace(self, documents: Mapping[tuple[str, str], Mapping[str, str]], env: Mapping[str, str]) -> None:
        """`documents`: (namespace, name) -> key -> value."""
        self._documents = documents
        self._env = env

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader."""
        value = self._documents.get((ref.namespace, ref.name), {}).get(ref.key)
        return value if value is not None else self._env.get(ref.env) or None
