"""src/kadre/operator/installation.yaml: the chart without Helm, as `kadre manifests` prints it.

The chart stays the only place in which the installation is written. `make gen` has Helm render it, where there is
one, because `kadre manifests` has none to ask; a test that builds one compares.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from kadre.operator.installation import IMAGE, NAMESPACE

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "src" / "kadre" / "operator" / "installation.yaml"
OLDEST = "1.25.0"
"""Of Kubernetes, that the chart supports: a manifest has no cluster to ask."""
SETTINGS = ("controller.replicaCount=2", "webhook.enabled=false", f"image.repository={IMAGE}", "image.tag=it")
HELMS = re.compile(r"^ *(?:# Source:|helm\.sh/chart:|app\.kubernetes\.io/(?:managed-by|version):).*\n", re.MULTILINE)
"""Lines that only Helm means, and the version, which is the image's to say."""
HEAD = f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
"""


def rendered(helm: str) -> str:
    """The objects of the chart in one file, with placeholders for the namespace and the image."""
    command = [helm, "template", "kagent", str(ROOT / "charts" / "kadre"), f"--namespace={NAMESPACE}", "--no-hooks"]
    command += [f"--kube-version={OLDEST}", *(f"--set={each}" for each in SETTINGS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return HEAD + HELMS.sub("", done.stdout).replace(f"{IMAGE}:it", IMAGE)


if __name__ == "__main__":
    TARGET.write_text(rendered(sys.argv[1]), encoding="utf-8")
