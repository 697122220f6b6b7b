"""What Amazon's own library does for us: find a region and credentials, sign a request, cut a stream into frames.

The library (the extra `kadre[bedrock]`) is loaded when a Bedrock model is first called, and its look-ups, which read
files, start programs and wait for the network, run in a thread.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from kadre.base.errors import ModelError, shorten
from kadre.engine.models import keys
from kadre.engine.models.bedrock_wire import Frame
from kadre.engine.secrets import SecretReader
from kadre.plan.types import ModelPlan, SecretRef

T = TypeVar("T")
REGION = re.compile(r"[a-z0-9-]+")


class Identity(msgspec.Struct, frozen=True):
    """Credentials of one moment, by the names the library's signer knows."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        """Without the secret ones."""
        return f"Identity({self.access_key})"


class Surroundings:
    """The AWS settings one model is called with: its own, those among its secrets, then the machine's."""

    def __init__(self, plan: ModelPlan, secrets: SecretReader) -> None:
        self._plan = plan
        self._secrets = secrets
        self._lock = asyncio.Lock()
        self._session: Any = None
        self._credentials: Any = None

    async def region(self) -> str:
        """Where the model is called. Raises ModelError."""
        region = self._plan.region or self._setting("AWS_REGION") or self._setting("AWS_DEFAULT_REGION")
        if not region:
            async with self._lock:
                region = await self._look(lambda: self._opened().get_config_variable("region")) or ""
        if not REGION.fullmatch(region):
            what = f"{shorten(region, 60)!r} is no AWS region" if region else "there is no AWS region"
            fix = "write region in its ModelConfig, or set AWS_REGION"
            raise ModelError(f"{what} for bedrock model {self._plan.model}: {fix}", reason="ModelBadEndpoint")
        return region

    async def identity(self) -> Identity:
        """Who calls, refreshed where it is about to expire. Raises ModelError."""
        exported = self._plan.exported
        key = self._setting("AWS_ACCESS_KEY_ID", exported=exported)
        secret = self._setting("AWS_SECRET_ACCESS_KEY", exported=exported)
        if key and secret:
            return Identity(key, secret, self._setting("AWS_SESSION_TOKEN", exported=exported) or None)
        if not exported:
            raise self._none("only those in .env are used at an endpoint that is not Amazon's own")
        async with self._lock:
            if self._credentials is None:
                self._credentials = await self._look(lambda: self._opened().get_credentials())
            found = self._credentials
            if found is None:
                raise self._none("none were found")
            refreshes = getattr(found, "refresh_needed", None)
            if refreshes is not None and refreshes():
                frozen = await self._look(found.get_frozen_credentials)
            else:
                frozen = found.get_frozen_credentials()
        return Identity(frozen.access_key, frozen.secret_key, frozen.token)

    def forget(self) -> None:
        """Look for everything anew at the next call."""
        self._session = self._credentials = None

    def _setting(self, name: str, *, exported: bool = True) -> str:
        return (self._secrets.read(SecretRef(env=name, exported=exported)) or "").strip()

    def _opened(self) -> Any:
        if self._session is None:
            import botocore.session

            self._session = botocore.session.Session()
        return self._session

    async def _look(self, up: Callable[[], T]) -> T:
        import botocore.exceptions

        try:
            return await asyncio.to_thread(up)
        except (botocore.exceptions.BotoCoreError, OSError) as error:
            raise self._none(shorten(str(error), 200)) from error

    def _none(self, why: str) -> ModelError:
        ways = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ways += ", or AWS_BEARER_TOKEN_BEDROCK, or a profile or role" if self._plan.exported else " there"
        message = f"no AWS credentials for bedrock model {self._plan.model}: {why}; {ways}"
        return ModelError(message, reason=keys.MISSING)


class Frames:
    """Feed it chunks of an event stream as they come; it gives back the frames that are complete."""

    def __init__(self) -> None:
        from botocore import eventstream

        # What the library raises where checksums are right and headers are not.
        self._broken = (eventstream.ParserError, struct.error, LookupError)
        self._buffer = eventstream.EventStreamBuffer()

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that `chunk` completes. Raises ValueError where it is no event stream."""
        self._buffer.add_data(chunk)
        try:
            return [_frame(message.headers, message.payload) for message in self._buffer]
        except self._broken as error:
            raise ValueError(f"a broken event stream: {error}") from error


def _frame(headers: dict[str, Any], payload: bytes) -> Frame:
    kind = str(headers.get(":message-type", "event"))
    if kind == "error":
        said = msgspec.json.encode({"message": str(headers.get(":error-message", ""))})
        return Frame(kind, str(headers.get(":error-code", "")), said)
    return Frame(kind, str(headers.get(f":{kind}-type", "")), payload)


async def load() -> None:
    """Import the library, which takes too long to do so on the event loop. Raises ModelError where it is missing."""
    try:
        await asyncio.to_thread(_import)
    except ImportError as error:
        message = "bedrock models need the extra `bedrock`: pip install 'kadre[bedrock]'"
        raise ModelError(message, reason="ModelLibraryMissing") from error


def _import() -> None:
    import botocore.auth
    import botocore.eventstream
    import botocore.session  # noqa: F401


def signed(url: str, body: bytes, headers: dict[str, str], identity: Identity, region: str) -> dict[str, str]:
    """`headers` and those that sign the request with AWS Signature Version 4. `url` as its bytes go out."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest("POST", url, headers=headers, data=body)
    SigV4Auth(identity, "bedrock", region).add_auth(request)
    return dict(request.headers.items())
