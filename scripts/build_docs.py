"""Build the documentation site into site/: strictly, without a network, and with all its links checked."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from documentation.check import faults, repeated
from documentation.gather import ROOT, DeadLinkError, gather


def build(site: Path, quiet: bool = False) -> None:
    """Build the site. Raises SystemExit naming what is wrong with it."""
    if twice := repeated((ROOT / "mkdocs.yml").read_text(encoding="utf-8")):
        raise SystemExit(f"error: the navigation of mkdocs.yml lists more than once: {', '.join(twice)}.")
    try:
        gather(ROOT / "build" / "docs")
    except DeadLinkError as error:
        raise SystemExit(f"error: {error}") from error
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", ROOT / "mkdocs.yml"]
    quietly = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run([*command, "--site-dir", site], capture_output=True, text=True, check=False, env=quietly)
    if done.returncode or "WARNING" in done.stderr:
        raise SystemExit(f"error: the site cannot be built:\n{done.stderr}")
    if found := list(faults(site)):
        raise SystemExit("\n".join(f"error: {fault}" for fault in found))
    if not quiet:
        print(f"Open {site / 'index.html'}; its search needs a server: python -m http.server --directory {site}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, default=ROOT / "site", help="where to (default: %(default)s)")
    build(parser.parse_args().site.absolute())


if __name__ == "__main__":
    main()
