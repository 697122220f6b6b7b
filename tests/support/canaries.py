"""Secrets that are nowhere but in Secrets, and whether one is in a text, whole or in large part, however spelt."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote

PEM = "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n"
# Every value has a part of letters and digits that no spelling of it changes, its core: that is what is looked for.
CORES = {
    "model-key": "c4naryM0delKey7Qx2vLw9",
    "pages-token": "c4naryPagesT0kenZr8Kd5",
    "report-env": "c4naryRep0rtEnvYs3Nb6",
    "tickets-token": "c4naryT1cketsHq4Zu7Ex",
    "clerk-login": "c4naryClerkPw5Rt9LmVa",
    "index-key": "c4naryIndexKeyPl0Wd6Oc",
    "oauth-secret": "c4nary0authSecretMf3Jt",
    "signing-key": "c4narySigningMIGHAgEAMBMGByqGSM49",
    "journal-password": "c4naryJ0urnalPw8Gi2Sx",
}
VALUES = {
    "model-key": f"sk-{CORES['model-key']}",
    "pages-token": f"Bearer {CORES['pages-token']}/+==",
    "report-env": f'"{CORES["report-env"]}" & <b>\\ü',
    "tickets-token": f"{CORES['tickets-token']}/a+b=",
    "clerk-login": f"clerk:{CORES['clerk-login']}%/x",
    "index-key": f"ix-{CORES['index-key']}",
    "oauth-secret": CORES["oauth-secret"],
    "signing-key": PEM.format(
        "\n".join([CORES["signing-key"], "AgEGCCqGSM49AwEHBG0wawIBAQQgc4nary", "Zr8KdQx2vLw9Ys3Nb6=="])
    ),
    "journal-password": CORES["journal-password"],
}
"""By the name of the Secret, whose key is `value`."""
LEAST = 10
"""Characters of a core that are found by themselves: half a token is a start."""


SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "token": lambda text: text.rpartition(" ")[2],
    "password": lambda text: text.partition(":")[2],
    "json": lambda text: json.dumps(text)[1:-1],
    "json-slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json-twice": lambda text: json.dumps(json.dumps(text))[3:-3],
    "url": lambda text: quote(text, safe=""),
    "url-lower": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64-bare": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "base64-url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "basic": lambda text: base64.b64encode(f"support:{text}".encode()).decode(),
    "login": lambda text: base64.b64encode(f"desk:{text}".encode()).decode(),
    "kept": lambda text: base64.b64encode(f'{{"auths": "{text}"}}'.encode()).decode(),
    "repr": lambda text: repr(text)[1:-1],
    "hex": lambda text: text.encode().hex(),
    "html": html.escape,
    "html-numbers": lambda text: "".join(f"&#{ord(each)};" if each in "&<>\"'/" else each for each in text),
    "indented": lambda text: text.replace("\n", "\n    "),
    "lines": lambda text: text.replace("\n", "\r\n"),
    "upper": str.upper,
    "reversed": lambda text: text[::-1],
    "halves": lambda text: f"{text[: len(text) // 2]} {text[len(text) // 2 :]}",
}
"""How a tool may write a secret."""
_MARK = re.compile(r"<<([\w-]+)(?:\|([\w-]+))?>>")


def filled(text: str) -> str:
    """The text with secrets in the place of their marks: `<<tickets-token>>`, `<<tickets-token|base64>>`."""
    return _MARK.sub(lambda found: SPELLINGS[found[2] or "raw"](VALUES[found[1]]), text)


def _needles(core: str) -> set[str]:
    data = core.encode()
    found = {core[:LEAST], core[-LEAST:], core[::-1][:LEAST], data.hex()[: 2 * LEAST]}
    for before in range(3):  # within something else that was encoded, it begins at one of three places
        encoded = base64.b64encode(b"\0" * before + data).decode()
        found.add(encoded[4 : 4 + LEAST + 2])
    return {needle.lower() for needle in found}


_NEEDLES = {name: _needles(core) for name, core in CORES.items()}


def found(text: str | bytes) -> set[str]:
    """The names of the secrets that are in it: a beginning or an end is enough; upper and lower case are one."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    text = text.lower()
    return {name for name, needles in _NEEDLES.items() if any(needle in text for needle in needles)}
