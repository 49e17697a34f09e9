"""What a report over many runs needs beyond what every user has: the extra `report`."""

from cops_lightning.core.errors import require_modules

NEEDS = ("pandas", "scikit_posthocs", "jinja2")


def require_report(what: str) -> None:
    """Raise ConfigError, with what to install, where any of it is missing."""
    require_modules(what, "report", NEEDS)
