"""Install a wheel into an empty environment, without what it depends on, and look at what is there."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

# Importing is lazy, so it needs none of the dependencies.
PROBE = """
from importlib.metadata import distribution
from importlib.resources import files
import cops_lightning as cl

package = files(cl.__name__)
needed = ("conf/train.yaml", "conf/model/cops.yaml", "experiments/README.md", "demo/mini/recipe.json", "py.typed")
missing = [name for name in needed if not package.joinpath(name).is_file()]
assert not missing, f"the wheel lacks {missing}"
commands = [entry.name for entry in distribution("cops_lightning").entry_points if entry.group == "console_scripts"]
print(f"cops_lightning {cl.__version__}: {len(cl.__all__)} names, {len(commands)} commands")
"""


def check(wheel: Path) -> str:
    """What the installed package says of itself. Raises CalledProcessError where it is incomplete."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        python = Path(folder, "bin", "python")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
        subprocess.run([*pip, str(wheel)], check=True)
        return subprocess.run(
            [python, "-I", "-c", PROBE], check=True, cwd=folder, stdout=subprocess.PIPE, text=True
        ).stdout.strip()


if __name__ == "__main__":
    print(check(Path(sys.argv[1]).absolute()))
