"""pip with a line every few seconds: what it does, and how many packages it has installed of how many.

Arguments are those of `pip install`. By itself pip says nothing where there is no terminal, for minutes.
"""

import re
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterable
from pathlib import Path

from lines import Lines

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
SITE = Path(sysconfig.get_path("purelib"))
LOG = Path(sys.prefix, "install.log")
EVERY = 5.0  # seconds between two lines

COLLECTING = re.compile(r"Collecting ([\w.-]+)")
DOWNLOADING = re.compile(r"\s*(?:Downloading|Using cached) (?:\S*/)?(\S+?)-\S+\.(?:whl|tar\.gz) (\(.+?\))")
INSTALLING = re.compile(r"Installing collected packages: (.+)")


class Pip:
    """What pip is at, by the lines that it prints."""

    def __init__(self) -> None:
        self.found, self.doing, self.total, self.before = set[str](), "starting", 0, 0

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            if match := COLLECTING.match(line):
                self.found.add(match[1])
                self.doing = f"looking for {match[1]}"
            elif match := DOWNLOADING.match(line):
                self.doing = f"fetching {match[1]} {match[2]}"
            elif match := INSTALLING.match(line):
                self.before, self.total = installed(), len(match[1].split(", "))

    def __str__(self) -> str:
        if self.total:
            return f"{installed() - self.before} of {self.total} packages installed"
        return f"{len(self.found)} packages found, {self.doing}"


def installed() -> int:
    return sum(1 for _ in SITE.glob("*.dist-info"))


def main(arguments: list[str]) -> int:
    """Returns pip's exit code; where it fails, all that it said is printed."""
    lines, pip = Lines(), Pip()
    lines.say(f"Installing {arguments[-1]} and what it needs: a minute or two, and the time of the downloads.")
    with (
        LOG.open("w", encoding="utf-8") as log,
        subprocess.Popen([*PIP, *arguments], stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None

        def kept(output: Iterable[str]) -> Iterable[str]:
            for line in output:
                log.write(line)
                log.flush()
                yield line

        reader = threading.Thread(target=pip.read, args=[kept(process.stdout)])
        reader.start()
        while reader.is_alive():
            lines.now(str(pip))
            reader.join(EVERY)
    if process.returncode:
        lines.end()
        print(LOG.read_text(encoding="utf-8"))
    else:
        lines.say("Installed.")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
