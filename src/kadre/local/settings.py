"""What `kadre up` is told, by flags or by environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kadre.base.errors import ProblemError
from kadre.base.problems import Problem
from kadre.plan.types import ModelPlan, Override

DATA_DIR = ".kadre"
MAX_PORT = 65_535
MAX_PORT_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Mapped:
    """Traffic meant for `host:port` goes to `to_host:to_port`: a service name of a cluster, on a laptop."""

    host: str
    port: int
    to_host: str
    to_port: int


@dataclass(frozen=True, slots=True)
class UpSettings:
    """Everything `kadre up` can be told."""

    paths: tuple[str, ...] = (".",)
    """Files and folders of YAML; `-` is standard input."""
    host: str = "127.0.0.1"
    """Address to listen on. Callers that are not on this machine are refused whatever it is."""
    port: int = 8080
    """The documents' own port."""
    data_dir: str = ""
    """Where runs are kept; empty: `.kadre` beside the first path."""
    model: str = ""
    """`scripted`, `scripted:RULES` or `local`: put in place of every agent's model. Empty: what the YAML says."""
    maps: tuple[Mapped, ...] = ()
    grpc_port: int = 0
    """Where A2A is served over gRPC besides; 0: nowhere."""
    webhook_networks: tuple[str, ...] = ()
    """Where a run's webhooks may be besides public addresses, as CIDR."""
    unsafe_code: bool = False
    """Where there is no sandbox, code that models write runs with the rights of this process."""
    color: bool = True
    started: float = 0.0
    """The monotonic second at which the command began, for the time it says it took."""

    def data_path(self) -> Path:
        """The data folder."""
        if self.data_dir:
            return Path(self.data_dir)
        first = Path(self.paths[0]) if self.paths and self.paths[0] != "-" else Path()
        return (first if first.is_dir() else first.parent) / DATA_DIR

    def override(self) -> Override:
        """`model` as the plan takes it. Raises ProblemError for one that cannot be put in."""
        provider, _, detail = self.model.partition(":")
        if not provider:
            return Override()
        if provider == "scripted":
            return Override(model=ModelPlan(provider="scripted", model="scripted", rules=detail))
        if provider == "local" and not detail:
            return Override(model=ModelPlan(provider="local", model="smollm2:135m"))
        raise ProblemError(
            [
                Problem(
                    "BadModel",
                    f"--model {self.model!r} is none that can be put in place of the agents' own",
                    "use --model scripted, --model scripted:RULES.yaml or --model local",
                )
            ]
        )


def parse_map(text: str) -> Mapped:
    """`host:port=host:port`. Raises ProblemError that says so."""
    wanted, _, to = text.strip().partition("=")
    host, _, port = wanted.rpartition(":")
    to_host, _, to_port = to.rpartition(":")
    if host and to_host and _is_port(port) and _is_port(to_port):
        return Mapped(host, int(port), to_host, int(to_port))
    fix = "write host:port=host:port, as in redis.data.svc:6379=localhost:6379"
    raise ProblemError([Problem("BadMap", f"--map {text!r} is not understood", fix)])


def _is_port(text: str) -> bool:
    return len(text) <= MAX_PORT_DIGITS and text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT
