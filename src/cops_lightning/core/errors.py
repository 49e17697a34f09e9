"""The family of errors a user can meet. Each message says what was found, what was expected and what to do."""


class CopsError(Exception):
    """Base of all errors that stem from input, not from a defect in the code: the console shows only the message."""


class ConfigError(CopsError):
    """A configuration that names something unknown, leaves something out or contradicts itself."""


class WeightsError(CopsError):
    """CLIP weights that are absent, damaged or of an architecture that CoPS cannot use."""


class CheckpointError(CopsError):
    """A checkpoint whose keys, shapes or backbone differ from the model that should load it."""


class DatasetError(CopsError):
    """A dataset that cannot be found, recognised or read in full."""


class CacheError(CopsError):
    """A feature cache that has no room, or holds a file that is not what was written."""


class ProtocolError(CopsError):
    """A request that would break the zero-shot protocol, such as testing on categories that were trained on."""
