"""How Bedrock's calls are signed and by whom: keys, settings, profiles, and clear words where there are none."""

from __future__ import annotations

import hashlib
import hmac
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from kadre.plan.types import SecretRef
from tests.contract.models.conftest import Site, call, failure

pytestmark = pytest.mark.needs("bedrock")
STATIC = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AWS_SESSION_TOKEN": "tok-en"}


async def signature(request: web.Request, secret: str) -> str:
    """What AWS computes for a request, from the description of Signature Version 4."""
    terms = dict(part.split("=", 1) for part in request.headers["Authorization"].partition(" ")[2].split(", "))
    names = terms["SignedHeaders"].split(";")
    lines = [f"{name}:{request.headers[name].strip()}\n" for name in names]
    path = quote(request.raw_path, safe="/~-._")
    hashed = hashlib.sha256(await request.read()).hexdigest()
    canonical = "\n".join(["POST", path, "", "".join(lines), ";".join(names), hashed])
    scope = terms["Credential"].split("/")[1:]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers["X-Amz-Date"], "/".join(scope), digest])
    key = f"AWS4{secret}".encode()
    for part in [*scope, text]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert {"content-type", "host", "x-amz-date"} <= set(names)
    return f"{terms['Credential']} {key.hex() == terms['Signature']}"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_call_is_signed_as_aws_wants_it(bedrock: Site, stream: bool) -> None:
    bedrock.secrets.values = dict(STATIC)
    bedrock.answers = [bedrock.well]
    _, reply = await call(bedrock.model(api_key=None, headers={"X-Team": "blue"}), stream=stream)
    (request,) = bedrock.asked
    day = request.headers["X-Amz-Date"][:8]
    assert reply.message.content == "Hello there"
    assert request.raw_path.startswith("/model/anthropic.a-model-v1%3A0/converse")
    assert request.headers["X-Amz-Security-Token"] == "tok-en"
    found = await signature(request, STATIC["AWS_SECRET_ACCESS_KEY"])
    assert found == f"AKIDEXAMPLE/{day}/eu-west-1/bedrock/aws4_request True"


async def test_bedrocks_own_api_key_comes_before_signing(bedrock: Site) -> None:
    bedrock.secrets.values = {**STATIC, "AWS_BEARER_TOKEN_BEDROCK": "bearer-key\n"}
    bedrock.answers = [bedrock.well]
    await call(bedrock.model(api_key=SecretRef(env="AWS_BEARER_TOKEN_BEDROCK")), stream=True)
    assert bedrock.asked[0].headers["Authorization"] == "Bearer bearer-key"


async def test_what_is_only_exported_is_not_used_at_an_address_that_is_not_amazons(
    bedrock: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = first\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    bedrock.secrets.exported = {**STATIC, "AWS_BEARER_TOKEN_BEDROCK": "bearer-key"}
    error = await failure(bedrock.model(api_key=None), stream=True)
    assert (error.reason, bedrock.asked) == ("ModelKeyMissing", [])
    assert "only those in .env are used at an endpoint that is not Amazon's own" in str(error)

    bedrock.secrets.values = {"AWS_ACCESS_KEY_ID": "AKIDFILE", "AWS_SECRET_ACCESS_KEY": "of-file"}
    bedrock.answers = [bedrock.well]
    await call(bedrock.model(api_key=None), stream=True)
    (request,) = bedrock.asked
    assert "Credential=AKIDFILE/" in request.headers["Authorization"]
    assert "X-Amz-Security-Token" not in request.headers


async def test_an_endpoint_is_called_with_the_path_it_is_written_with(bedrock: Site) -> None:
    bedrock.answers = [bedrock.well]
    await call(bedrock.model(endpoint=f"{bedrock.base}/v1"), stream=False)
    assert bedrock.asked[0].path.startswith("/v1/model/")


async def test_a_profile_gives_credentials_and_region(
    bedrock: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text("[default]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = first\n")
    config.write_text("[default]\nregion = us-west-2\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    bedrock.answers = [bedrock.well]
    model = bedrock.model(api_key=None, region="", exported=True)
    await call(model, stream=True)
    assert await signature(bedrock.asked[0], "first") == (
        f"AKIDPROFILE/{bedrock.asked[0].headers['X-Amz-Date'][:8]}/us-west-2/bedrock/aws4_request True"
    )

    credentials.write_text("[default]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = second\n")
    expired = bedrock.refusing(403, "The security token included in the request is expired")
    bedrock.answers = [expired, bedrock.well]
    await call(model, stream=True)
    assert (await signature(bedrock.asked[2], "second")).endswith("True")

    bedrock.answers = [expired]
    error = await failure(model, stream=True)
    assert (error.reason, len(bedrock.asked)) == ("ModelUnauthorized", 5)
    assert "(check the AWS credentials, and access to this model)" in str(error)


async def test_without_credentials_the_ways_to_give_them_are_told(bedrock: Site) -> None:
    error = await failure(bedrock.model(api_key=None, exported=True), stream=True)
    assert (error.reason, bedrock.asked) == ("ModelKeyMissing", [])
    assert "no AWS credentials for bedrock model anthropic.a-model-v1:0: none were found" in str(error)
    assert "AWS_BEARER_TOKEN_BEDROCK" in str(error)


async def test_a_profile_that_is_not_there_is_told(bedrock: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    error = await failure(bedrock.model(api_key=None, exported=True), stream=True)
    assert (error.reason, "nobody" in str(error)) == ("ModelKeyMissing", True)


@pytest.mark.parametrize(
    ("region", "what"), [("", "there is no AWS region"), ("eu west", "'eu west' is no AWS region")]
)
async def test_without_a_region_the_ways_to_give_it_are_told(bedrock: Site, region: str, what: str) -> None:
    bedrock.secrets.values = dict(STATIC)
    error = await failure(bedrock.model(api_key=None, region=region), stream=True)
    assert error.reason == "ModelBadEndpoint"
    assert f"{what} for bedrock model anthropic.a-model-v1:0: write region" in str(error)


async def test_without_amazons_library_the_extra_to_install_is_told(
    bedrock: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    error = await failure(bedrock.model(), stream=True)
    assert error.reason == "ModelLibraryMissing"
    assert "pip install 'kadre[bedrock]'" in str(error)
