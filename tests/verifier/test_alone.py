"""The verifier where nothing that trains can be imported."""

import os
import subprocess
import sys
from pathlib import Path

from tests.small_bundles import bundled

ROOT = Path(__file__).parents[2]
NEEDED = (
    "certvae.answers",
    "certvae.certificate",
    "certvae.errors",
    "certvae.preconditions",
    "certvae.verifier",
)
TERMINAL = (
    "certvae.__main__",
    "certvae.commands",
    "certvae.installed",
    "certvae.interrupted",
    "certvae.shadowing",
    "certvae.terminal",
    "certvae.upkeep",
)  # of the command line
ALONE = f"""
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        ours = name.startswith(("certvae.", "analysis", "sweeps"))
        if ours and not name.startswith({(*NEEDED, *TERMINAL)!r}):
            raise ImportError(f"{{name}} is not needed to verify")
        if name.split(".")[0] in ("sklearn", "scipy", "ray", "mlflow", "optuna", "pandas", "pydantic", "PIL", "psutil"):
            raise ImportError(f"{{name}} is not needed to verify")

sys.meta_path.insert(0, Nothing())
from certvae.__main__ import main
code = main(["verify", sys.argv[1]])
print(sorted(name for name in sys.modules if name.startswith("certvae.")))
sys.exit(code)
"""


def test_a_bundle_is_verified_without_training_code_from_another_folder(tmp_path):
    bundle, row = bundled(tmp_path)
    command = [sys.executable, "-c", ALONE, str(bundle)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"margin {row['margin']:+.4f}" in done.stdout
    assert "certvae.verifier" in done.stdout
