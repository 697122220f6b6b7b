"""Models behind Amazon Bedrock's Converse API.

A call carries Bedrock's API key where there is one, else it is signed with the credentials that Amazon's own tools
would find; at an address that is not Amazon's, with none but those in `.env`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from urllib.parse import quote

from yarl import URL

from kadre.base.errors import ModelError
from kadre.engine.models import bedrock_aws, bedrock_wire, blocks, http, keys
from kadre.engine.models.port import ModelRequest
from kadre.engine.models.retries import Piece
from kadre.engine.models.target import Target, address
from kadre.engine.models.tool_cache import ToolCache
from kadre.engine.secrets import SecretReader
from kadre.plan.types import ModelPlan


class BedrockModel:
    """One model of one region."""

    def __init__(self, plan: ModelPlan, secrets: SecretReader, wire: http.Wire) -> None:
        self._plan = plan
        self._secrets = secrets
        self._wire = wire
        self._aws = bedrock_aws.Surroundings(plan, secrets)
        self._loaded = False
        self._endpoint = plan.endpoint.rstrip("/")
        if self._endpoint:
            address(self._endpoint, "")
        self._tools = ToolCache(bedrock_wire.encode_tools)
        self._config = bedrock_wire.encode_config(plan.params)

    def call(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """See `port.Model.call`."""
        return self._wire.retrying(lambda: self._once(request), self._learner())

    async def aclose(self) -> None:
        """Nothing to give back: the connections belong to the session."""

    async def _once(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        if not self._loaded:
            await bedrock_aws.load()
            self._loaded = True
        body = b"".join(
            (
                b"{",
                bedrock_wire.encode_messages(request.messages),
                self._config,
                self._encode_tools(request),
                b"}",
            )
        )
        target = await self._target("converse-stream" if request.stream else "converse", body)
        if request.stream:
            chunks = self._wire.stream(target, body)
            answer = http.pieces(chunks, bedrock_aws.Frames().feed, bedrock_wire.Stream(target))
        else:
            answer = self._wire.whole(target, body, lambda whole: bedrock_wire.decode_reply(whole, target))
        async with contextlib.aclosing(answer):
            async for piece in answer:
                yield piece

    def _encode_tools(self, request: ModelRequest) -> bytes:
        if request.tools:
            return self._tools.get(request.tools)
        used = blocks.tools_used(request.messages)
        return bedrock_wire.encode_tools(used) if used else b""

    async def _target(self, operation: str, body: bytes) -> Target:
        key = keys.read(self._plan, self._secrets)
        headers = http.headers()
        if key:
            url = await self._url(operation)
            headers["Authorization"] = f"Bearer {key}"
            headers.update(self._plan.headers)
            return Target(url, headers, keys.told(self._plan, key))
        region = await self._aws.region()
        identity = await self._aws.identity()
        url = await self._url(operation)
        plain = {"Content-Type": headers["Content-Type"], **self._plan.headers}
        headers.update(bedrock_aws.signed(str(url), body, plain, identity, region))
        return Target(url, headers, "the AWS credentials")

    async def _url(self, operation: str) -> URL:
        endpoint = self._endpoint
        if not endpoint:
            region = await self._aws.region()
            domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
            endpoint = f"https://bedrock-runtime.{region}.{domain}"
        return address(endpoint, f"/model/{quote(self._plan.model, safe='')}/{operation}")

    def _learner(self) -> Callable[[ModelError], bool]:
        """Credentials that expired may have been replaced: they are looked for anew, once a call."""
        tries = iter((True,))

        def learn(error: ModelError) -> bool:
            if error.status != 403 or "expired" not in str(error) or not next(tries, False):
                return False
            self._aws.forget()
            return True

        return learn
