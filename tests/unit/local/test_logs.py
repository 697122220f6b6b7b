"""How a pod writes its log: as a file says, of which only data is heeded."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from kadre.local.logs import JsonFormatter, Logging, configuration

DOCUMENT = """
version: 1
disable_existing_loggers: false
formatters:
  json:
    class: pythonjsonlogger.jsonlogger.JsonFormatter
    format: "%(asctime)s %(name)s %(levelname)s %(message)s"
handlers:
  console:
    class: logging.StreamHandler
    formatter: json
    stream: ext://sys.stdout
loggers:
  kagent:
    level: INFO
    handlers: [console]
    propagate: false
  langchain:
    level: WARNING
    handlers: [console]
    propagate: false
root:
  level: INFO
  handlers: [console]
"""
"""As document 001 shows it."""


@pytest.fixture
def untouched() -> Iterator[None]:
    """The process's own log, as it was before the test."""
    ours, root = logging.getLogger("kadre"), logging.getLogger()
    before = [(each, each.level, each.handlers[:], each.propagate) for each in (ours, root)]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def record(message: str = "hello %s") -> logging.LogRecord:
    return logging.LogRecord("kadre.local.pod", logging.INFO, __file__, 1, message, ("you",), None)


def test_a_line_has_the_fields_that_the_format_names() -> None:
    line = json.loads(JsonFormatter("%(asctime)s %(name)s %(levelname)s %(message)s").format(record()))
    assert list(line) == ["asctime", "name", "levelname", "message"]
    assert (line["name"], line["levelname"], line["message"]) == ("kadre.local.pod", "INFO", "hello you")


def test_a_failure_is_told_with_where_it_was() -> None:
    try:
        raise KeyError("gone")
    except KeyError as error:
        failed = record()
        failed.exc_info = (type(error), error, error.__traceback__)
    line = json.loads(JsonFormatter().format(failed))
    assert "KeyError: 'gone'" in line["exc_info"]


@pytest.mark.requirement("logging-config")
def test_what_the_document_shows_is_heeded_and_its_platform_is_us() -> None:
    made = configuration(DOCUMENT)
    assert made["loggers"]["kadre"] == {"level": "INFO", "handlers": ["console"], "propagate": False}
    assert made["formatters"]["json"]["()"] is JsonFormatter
    assert made["root"]["handlers"] == ["console"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("pythonjsonlogger.jsonlogger.JsonFormatter", "os.system", "os.system is not known here"),
        ("class: pythonjson", "(): pythonjsonx", "pythonjsonx"),
        ("logging.StreamHandler", "logging.FileHandler", "logging.FileHandler is not known here"),
        ('format: "%(asctime)s', 'datefmt: ext://this\n    format: "%(asctime)s', "ext://this is not heeded"),
        ("propagate: false", "propagate: ext://colorsys", "ext://colorsys is not heeded"),
        ("ext://sys.stdout", "ext://os.environ", "goes to ext://sys.stdout"),
        ("formatter: json", "formatter: text", "there is no formatter text"),
        ("[console]", "[file]", "names of handlers: console"),
        ("level: INFO", "level: LOUD", "LOUD is no level"),
        ("version: 1", "version: 2", "add version: 1"),
        ("version: 1", "version: 1\nfilters: {a: {(): os.system}}", "filters is not known here"),
        ("version: 1", "version: [", "no YAML"),
        ("root:\n  level: INFO\n  handlers: [console]", "root: {level: INFO}", "root has no handlers"),
    ],
)
def test_nothing_but_data_is_heeded_and_mistakes_are_told(before: str, after: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        configuration(DOCUMENT.replace(before, after))
    assert told in str(refused.value)


def test_a_file_that_comes_later_is_heeded_and_a_wrong_one_changes_nothing(
    tmp_path: Path, untouched: None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "logging.yaml"
    logs = Logging(file)
    logs.look()
    file.write_text(DOCUMENT.replace("level: INFO", "level: WARNING"))
    logs.look()
    logging.getLogger("kadre.test").info("too little")
    logging.getLogger("kadre.test").warning("enough")
    (line,) = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert (line["name"], line["message"]) == ("kadre.test", "enough")
    file.write_text("version: 7")
    logs.look()
    (line,) = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert "stays as it was: version must be 1" in line["message"]


def test_the_level_of_the_agent_wins_over_that_of_its_namespace(tmp_path: Path, untouched: None) -> None:
    file = tmp_path / "logging.yaml"
    file.write_text(DOCUMENT)
    Logging(file, "ERROR").look()
    assert not logging.getLogger("kadre.test").isEnabledFor(logging.WARNING)
    assert not logging.getLogger("somebody").isEnabledFor(logging.WARNING)
