"""A port that cannot be had is told with the words that choose another."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from kadre.base.errors import ProblemError
from kadre.base.problems import Problem
from kadre.local import serving


class Refusing:
    """A socket that is given no port."""

    def __init__(self, number: int) -> None:
        self.number = number

    def setsockopt(self, *_: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def bind(self, _: object) -> None:
        """See socket."""
        raise OSError(self.number, os.strerror(self.number))


def refused(monkeypatch: pytest.MonkeyPatch, number: int, port: int, *words: str) -> Problem:
    monkeypatch.setattr(socket, "socket", lambda *_: Refusing(number))
    with pytest.raises(ProblemError) as told:
        serving.listen("0.0.0.0", port, *words)
    (problem,) = told.value.problems
    return problem


METRICS = ("--metrics-port", "spec.observability.metrics.port")


def test_a_port_that_only_the_system_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = refused(monkeypatch, errno.EACCES, 80, *METRICS)
    assert problem.message == "cannot listen on 0.0.0.0:80: Permission denied"
    assert "--metrics-port of 1024 or more" in problem.fix
    assert problem.fix.endswith("in a cluster it is spec.observability.metrics.port")
    assert "cluster" not in refused(monkeypatch, errno.EACCES, 80).fix


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, errno.EADDRINUSE, 8080).fix == "use --port 8081"
    assert refused(monkeypatch, errno.EADDRINUSE, 9090, *METRICS).fix.startswith(
        "use --metrics-port 9091; in a cluster"
    )


def test_an_address_that_this_machine_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, errno.EADDRNOTAVAIL, 8080).fix == "check --host"
