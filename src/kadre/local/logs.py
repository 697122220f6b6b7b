"""How an agent's pod writes its log: as the ConfigMap `agent-logging-config` of its namespace says, where there is one.

What it holds is Python's own configuration of logging, of which only data is heeded: formatters and handlers are those
named here. A class of somebody's choosing would be code of theirs in the agent's process.
"""

from __future__ import annotations

import json
import logging
import logging.config
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kadre.base.clock import Clock
from kadre.base.errors import shorten

log = logging.getLogger(__name__)

SECONDS = 10.0
"""Between two looks at whether the file is another one: Kubernetes itself takes a minute to renew it."""
MAX_BYTES = 256 * 1024
MAX_VALUES = 10_000
OURS = "kadre"
PLATFORM = "kagent"
"""What documents call the logger of the platform: ours."""
_JSON = ("pythonjsonlogger.jsonlogger.JsonFormatter", "pythonjsonlogger.json.JsonFormatter")
_PLAIN = ("logging.Formatter",)
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_HANDLERS = ("logging.StreamHandler", "logging.NullHandler")
_REFERENCE = re.compile(r"(ext|cfg)://")
_PART = re.compile(r"%\((\w+)\)")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, with the fields that the format names, as python-json-logger writes it."""

    def __init__(self, fmt: str | None = None, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self._names = list(dict.fromkeys(_PART.findall(fmt or ""))) or ["message"]

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        known = vars(record) | {"message": record.getMessage(), "asctime": self.formatTime(record, self.datefmt)}
        line = {name: known.get(name) for name in self._names}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configuration(text: str) -> dict[str, Any]:
    """What `logging.config.dictConfig` is to be given. Raises ValueError, with what to write instead."""
    import yaml  # slow to load, and few pods have such a file

    try:
        written = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"no YAML: {shorten(str(error), 200)}") from error
    _refuse_references(written)
    fields = ("version", "disable_existing_loggers", "formatters", "handlers", "loggers", "root")
    whole = _mapping(written, "the file", fields)
    if whole.get("version") != 1:
        raise ValueError("version must be 1: add version: 1")
    formatters = {name: _formatter(value, f"formatters.{name}") for name, value in _all(whole, "formatters")}
    handlers = {name: _handler(value, f"handlers.{name}", formatters) for name, value in _all(whole, "handlers")}
    loggers = {name: _logger(value, f"loggers.{name}", handlers) for name, value in _all(whole, "loggers")}
    if PLATFORM in loggers:
        loggers.setdefault(OURS, loggers[PLATFORM])
    made: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": whole.get("disable_existing_loggers") is True,
        "formatters": formatters,
        "handlers": handlers,
        "loggers": loggers,
    }
    if whole.get("root") is not None:
        made["root"] = _logger(whole["root"], "root", handlers)
        if not made["root"].get("handlers"):
            raise ValueError("root has no handlers, so that nothing would be written: add handlers, or take root out")
    return made


class Logging:
    """The log of this process, as a file says that may come, change and go."""

    def __init__(self, file: Path, level: str = "") -> None:
        """`level`: what LOG_LEVEL says, which is the agent's own and so wins over what its namespace says; or empty."""
        self._file = file
        self._level = level
        self._read: tuple[int, int] | None = None

    def look(self) -> None:
        """Heed the file if it is another one than before. One that cannot be heeded changes nothing, and is told."""
        try:
            found = self._file.stat()
        except OSError:
            return
        version = (found.st_ino, found.st_mtime_ns)
        if version == self._read:
            return
        self._read = version
        try:
            if found.st_size > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            logging.config.dictConfig(configuration(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s is not heeded, the log stays as it was: %s", self._file, shorten(str(error), 300))
            return
        if self._level:
            for name in ("", OURS):
                logging.getLogger(name).setLevel(self._level)
        log.info("the log is written as %s says", self._file)

    async def follow(self, clock: Clock) -> None:
        """Look again and again, until cancelled."""
        while True:
            await clock.sleep(SECONDS)
            self.look()


def _refuse_references(written: Any) -> None:
    """dictConfig imports what `ext://…` names, wherever it stands: nothing but a stream may be named so."""
    left, seen = [written], 0
    while left:
        part = left.pop()
        seen += 1
        if seen > MAX_VALUES:  # aliases make many of few
            raise ValueError(f"more than {MAX_VALUES} values")
        if isinstance(part, dict):
            left += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            left += part
        elif isinstance(part, str) and _REFERENCE.match(part) and part not in _STREAMS:
            raise ValueError(f"{part} is not heeded: the log of a pod goes to {' or '.join(_STREAMS)}")


def _formatter(written: Any, where: str) -> dict[str, Any]:
    value = _mapping(written, where, ("class", "()", "format", "fmt", "datefmt", "style"))
    name = value.get("class", value.get("()", _PLAIN[0]))
    if name not in (*_JSON, *_PLAIN):
        raise ValueError(f"{where}: the class {name} is not known here: write one of {', '.join((*_JSON, *_PLAIN))}")
    if value.get("style", "%") != "%":
        raise ValueError(f"{where}: only the style % is known here")
    made = JsonFormatter if name in _JSON else logging.Formatter
    return {"()": made, "fmt": value.get("format", value.get("fmt")), "datefmt": value.get("datefmt")}


def _handler(written: Any, where: str, formatters: Mapping[str, Any]) -> dict[str, Any]:
    value = _mapping(written, where, ("class", "level", "formatter", "stream"))
    if value.get("class") not in _HANDLERS:
        raise ValueError(f"{where}: the class {value.get('class')} is not known here: write {_HANDLERS[0]}")
    if value.get("stream", _STREAMS[0]) not in _STREAMS:
        raise ValueError(f"{where}: the log of a pod goes to {' or '.join(_STREAMS)}")
    if "formatter" in value and value["formatter"] not in formatters:
        raise ValueError(f"{where}: there is no formatter {value['formatter']}")
    return {**value, **_level(value, where)}


def _logger(written: Any, where: str, handlers: Mapping[str, Any]) -> dict[str, Any]:
    value = _mapping(written, where, ("level", "handlers", "propagate"))
    named = value.get("handlers") or []
    if not isinstance(named, list) or any(name not in handlers for name in named):
        raise ValueError(f"{where}: handlers must be a list of names of handlers: {', '.join(handlers)}")
    return {**value, **_level(value, where)}


def _level(value: Mapping[str, Any], where: str) -> dict[str, str]:
    if "level" not in value:
        return {}
    level = str(value["level"]).upper()
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"{where}: {value['level']} is no level: write DEBUG, INFO, WARNING or ERROR")
    return {"level": level}


def _all(whole: Mapping[str, Any], section: str) -> Iterable[tuple[str, Any]]:
    return _mapping(whole.get(section) or {}, section, None).items()


def _mapping(value: Any, where: str, fields: tuple[str, ...] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping")
    unknown = [str(key) for key in value if fields is not None and key not in fields]
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)} is not known here: write {', '.join(fields or ())}")
    return value
