"""Where an api tool goes, and where nobody can send it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from kadre.base.addresses import Policy
from kadre.base.errors import ToolError
from kadre.engine.tools.api import ApiToolset
from kadre.engine.tools.api_wire import Wire
from kadre.engine.tools.port import CallContext
from kadre.plan.types import ApiLogin, ApiTool, SecretRef
from tests.contract.tools.conftest import Secrets
from tests.contract.tools.rough_api import RoughApi, answer, rough
from tests.support.upping import free_port

pytestmark = pytest.mark.requirement("tool-api-addresses")
CONTEXT = CallContext(run_id="run-1", session_id="ses-1", key="run-1/1")
SECRET = "the-secret-of-the-api"
LOGIN: dict[str, Any] = {
    "login": ApiLogin(type="bearer", secret=SecretRef(env="K")),
    "secret_headers": {"X-Mine": SecretRef(env="K")},
    "headers": {"X-Team": "support"},
}
OK = answer(200, {"ok": True})
# Names and numbers by which this machine, or a cloud's metadata, may be meant.
PRIVATE = [
    *("127.0.0.1", "localhost", "localhost.", "127.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0"),
    *("0.0.0.0", "127.0.0.2", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]", "127.0.0.1.", "１２７.0.0.1"),
    *("①②⑦.⓪.⓪.①", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "127。0。0。1", "[fe80::1%25lo]", "[0:0:0:0:0:ffff:127.0.0.1]"),
    *("10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "[fd00:ec2::254]", "168.63.129.16"),
]


class Names(AbstractResolver):
    """A resolver of a stranger: each look-up of a name has the next of its answers, the last one again and again."""

    def __init__(self, **names: list[list[str]]) -> None:
        self._names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self._names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        kind = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in found]
        return [
            ResolveResult(hostname=host, host=each, port=port, family=kind[number], proto=0, flags=0)
            for number, each in enumerate(found)
        ]

    async def close(self) -> None:
        pass


def tool(endpoint: str, wire: Wire | None = None, **more: Any) -> ApiToolset:
    properties = {"host": {"type": "string"}, "port": {"type": "integer"}}
    plan = ApiTool(name="t", endpoint=endpoint, parameters={"properties": properties}, **more)
    return ApiToolset(plan, Secrets(K=SECRET), wire=wire)


async def called(toolset: ApiToolset, **arguments: Any) -> str:
    try:
        return (await toolset.call("t", arguments, CONTEXT)).content
    finally:
        await toolset.aclose()


async def refused(toolset: ApiToolset, **arguments: Any) -> str:
    with pytest.raises(ToolError) as raised:
        await called(toolset, **arguments)
    assert not raised.value.unknown
    return str(raised.value)


def to(place: str, status: int = 302) -> bytes:
    return answer(status, Location=place)


@pytest.mark.parametrize("host", PRIVATE)
async def test_a_redirect_to_where_only_this_process_may_go_is_not_followed(host: str) -> None:
    async with rough(OK) as inner:
        async with rough(to(f"http://{host}:{inner.port}/latest/meta-data")) as api:
            message = await refused(tool(f"{api.url}/x", **LOGIN))
            assert "is not called" in message or (host == "localhost." and "has no address" in message)
        assert inner.asked == []


@pytest.mark.parametrize("host", PRIVATE)
async def test_a_host_that_a_parameter_names_is_public_or_not_called(host: str) -> None:
    async with rough(OK) as inner:
        for endpoint in ("http://{host}:{port}/x", "http://{host}:" + f"{inner.port}/x"):
            message = await refused(tool(endpoint, method="POST"), host=host, port=inner.port)
            assert any(said in message for said in ("is not called", "cannot be in the place of a host", "no address"))
        assert inner.asked == []


async def test_a_port_that_a_parameter_names_is_none_of_a_private_host() -> None:
    async with rough(OK) as inner:
        message = await refused(tool("http://127.0.0.1:{port}/x"), port=inner.port)
        assert "only what the tool's author writes may be private" in message
        assert inner.asked == []


@pytest.mark.parametrize(
    "endpoint",
    [
        *("http://169.254.169.254/latest", "http://[fd00:ec2::254]/latest", "http://[::ffff:169.254.169.254]/latest"),
        *("http://[64:ff9b::a9fe:a9fe]/", "http://168.63.129.16/", "http://2852039166/", "http://169.254.43518/"),
    ],
)
async def test_where_clouds_hand_out_credentials_no_author_can_go(endpoint: str) -> None:
    assert "is not called" in await refused(tool(endpoint, timeout=5))


async def test_a_name_for_it_is_no_way_there_either() -> None:
    names = Names(metadata_example=[["169.254.169.254"]], mixed_example=[["127.0.0.1", "169.254.169.254"]])
    for host in ("metadata.example", "mixed.example"):
        message = await refused(tool(f"http://{host}/latest", Wire(names), timeout=5))
        assert "is not called" in message
        assert "clouds hand out credentials there" in message
    assert len(names.asked) == 2


async def test_an_author_may_name_a_host_of_their_own_network() -> None:
    async with rough(OK) as api:
        assert await called(tool(api.url)) == '{"ok":true}'
        assert await called(tool(f"http://localhost:{api.port}")) == '{"ok":true}'
        names = Names(tickets_support_svc=[["127.0.0.1"]])
        assert await called(tool(f"http://tickets.support.svc:{api.port}", Wire(names))) == '{"ok":true}'


async def test_a_name_that_also_means_a_private_address_is_not_called() -> None:
    async with rough(OK) as inner:
        names = Names(evil_example=[["8.8.8.8", "127.0.0.1"]], private_example=[["10.0.0.1"]], six_example=[["::1"]])
        for host in ("evil.example", "private.example", "six.example"):
            url = "http://{host}:" + f"{inner.port}/"
            assert "is not called" in await refused(tool(url, Wire(names), timeout=5), host=host)
        assert inner.asked == []


async def test_a_name_means_what_it_meant_when_it_was_judged() -> None:
    async with rough(OK) as api:
        # The second look-up would lead to a place that is not called: there is none.
        names = Names(rebind_example=[["127.0.0.1"], ["169.254.169.254"]])
        wire = Wire(names, Policy.of(["127.0.0.1/32"]))
        toolset = tool("http://{host}:" + f"{api.port}/", wire)
        await toolset.call("t", {"host": "rebind.example"}, CONTEXT)
        await toolset.call("t", {"host": "rebind.example"}, CONTEXT)  # on the connection that is there
        assert names.asked == ["rebind.example"]
        api.answers = [answer(200, {}, Connection="close")]
        await toolset.call("t", {"host": "rebind.example"}, CONTEXT)
        for task in api.serving:
            task.cancel()
        assert "is not called" in await refused(toolset, host="rebind.example")
        assert len(api.asked) == 3


async def test_a_connection_of_the_authors_is_none_for_what_an_answer_names() -> None:
    async with rough(OK) as inner, rough(to("")) as outer:
        names = Names(inner_example=[["127.0.0.1"]])
        wire = Wire(names)
        known = tool(f"http://inner.example:{inner.port}/", wire)
        assert (await known.call("t", {}, CONTEXT)).content == '{"ok":true}'  # its connection is kept
        outer.answers = [to(f"http://inner.example:{inner.port}/admin")]
        assert "is not called" in await refused(tool(outer.url, wire))
        assert len(inner.asked) == 1


async def test_a_redirect_within_the_api_is_followed_with_what_says_who_calls() -> None:
    for status in (301, 302, 303, 307, 308):
        async with rough(to("/v2/x?a=1#top", status), OK) as api:
            assert await called(tool(f"{api.url}/x", **LOGIN)) == '{"ok":true}'
            assert [asked.path for asked in api.asked] == ["/x", "/v2/x?a=1"]
            assert api.asked[1].headers["authorization"] == f"Bearer {SECRET}"


async def test_elsewhere_nobody_hears_who_calls_nor_back_from_there() -> None:
    async with rough(OK) as other, rough(OK) as api:
        api.answers = [to(f"{other.url}/there"), OK]
        other.answers = [to(f"{api.url}/back")]
        wire = Wire(elsewhere=Policy.of(["127.0.0.0/8"]))
        assert await called(tool(f"{api.url}/x", wire, **LOGIN)) == '{"ok":true}'
        assert [asked.path for asked in (*api.asked, *other.asked)] == ["/x", "/back", "/there"]
        for asked in (api.asked[1], other.asked[0]):
            assert {"authorization", "x-mine", "x-team"}.isdisjoint(asked.headers)
            assert SECRET not in str(asked)


async def test_another_port_or_scheme_is_elsewhere() -> None:
    async with rough(OK) as other, rough(to(f"http://127.0.0.1:{free_port()}/")) as api:
        assert "is not called" in await refused(tool(api.url, **LOGIN))
        api.answers = [to(f"https://127.0.0.1:{other.port}/")]
        assert "is not called" in await refused(tool(api.url, **LOGIN))


@pytest.mark.parametrize(
    "place",
    ["file:///etc/passwd", "ftp://h/x", "gopher://h", "http://[::1", "//user:pw@h/", "http://u@8.8.8.8/"],
)
async def test_what_is_no_place_for_a_redirect_is_told(place: str) -> None:
    async with rough(to(place)) as api:
        assert "redirects to what is no http or https URL" in await refused(tool(api.url, timeout=5))


async def test_redirects_end() -> None:
    async with rough(to("/again")) as api:
        assert "redirects more than 5 times" in await refused(tool(api.url, retries=3))
        assert len(api.asked) == 6


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_write_goes_where_its_author_says_and_no_further(method: str) -> None:
    async def answered(api: RoughApi, status: int) -> ToolError:
        api.answers = [to("/elsewhere", status)]
        with pytest.raises(ToolError, match="redirects of writes are not followed") as raised:
            await called(tool(api.url, method=method))
        return raised.value

    async with rough(OK) as api:
        assert [(await answered(api, status)).unknown for status in (301, 302, 307, 308)] == [False] * 4
        assert (await answered(api, 303)).unknown  # which says that it was done
        assert {asked.path for asked in api.asked} == {"/"}
