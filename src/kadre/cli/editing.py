"""A call's arguments, changed by a person before it is allowed: typed, or in an editor as `kubectl edit` has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kadre.base.errors import KadreError, shorten
from kadre.cli import client, render

HEAD = """\
# Change the arguments of {name}, save and leave: the call is allowed with what is here then.
# Lines that begin with # are left out. Where nothing is changed, or all is deleted, nothing is decided.
"""
UNCHANGED = "the call is as it was, and waits"
_TAKEN_OTHERWISE = frozenset({400, 413, 503})
"""Refusals of what was sent, or was sent too soon: the call waits as before."""

Edit = Callable[[str], str | None]
"""Shows a text in an editor; the text that was saved, None where it was not. Raises KadreError."""


def in_editor(text: str) -> str | None:
    """See Edit: $VISUAL, else $EDITOR."""
    import click

    try:
        return click.edit(text, extension=".json")
    except click.ClickException as error:
        raise KadreError(f"{error.message}; set EDITOR to an editor that is there") from error
    except UnicodeDecodeError as error:
        raise KadreError("what was saved is not UTF-8; have the editor save it so") from error
    except (OSError, ValueError) as error:  # the file is gone, or EDITOR has a quote that nothing ends
        raise KadreError(f"no text came out of the editor ({error}); see what EDITOR is set to") from error


def arguments(text: str) -> dict[str, Any]:
    """Arguments as a person types them. Raises KadreError where they are none."""
    try:
        made = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KadreError(f"the arguments are not JSON: {error}") from error
    if not isinstance(made, dict):
        raise KadreError('the arguments are a JSON object, as in {"text": "hello"}')
    return made


def is_mendable(error: client.Answered) -> bool:
    """Whether other arguments, or the same a little later, may be taken."""
    return error.status in _TAKEN_OTHERWISE


def edit(name: str, before: Any, send: Callable[[dict[str, Any]], None], edit: Edit = in_editor) -> str:
    """Have the arguments changed, and again with what is wrong with them, until `send` takes them.

    Returns why nothing was decided; empty where `send` has taken them. Raises KadreError, and what `send` does that is
    not about the arguments.
    """
    text, wrong = render.as_json(before, indent=2), ""
    while True:
        told = f"#\n# error: {shorten(wrong)}\n#\n" if wrong else ""
        saved = edit(HEAD.format(name=name) + told + text + "\n")
        lines = [line for line in (saved or "").split("\n") if not line.startswith("#")]
        typed = "\n".join(lines).strip()
        if not typed or typed == text:
            return f"{UNCHANGED} ({wrong})" if wrong else UNCHANGED
        text = typed
        try:
            changed = arguments(typed)
            if changed == before:
                return UNCHANGED
            send(changed)
        except client.Answered as error:
            if not is_mendable(error):
                raise
            wrong = str(error)
        except client.Unreachable:
            raise
        except KadreError as error:
            wrong = str(error)
        else:
            return ""
