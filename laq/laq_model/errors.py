"""What a caller may want to catch. Each message says what was expected, what came and what to do."""


class LAQError(Exception):
    """Anything that this project refuses; a door prints it as one line and exits with status 1."""


class ConfigError(LAQError, ValueError):
    """A setting that cannot work, found where the configuration is made."""


class WeightsError(LAQError):
    """A weights file that is missing, damaged, unsafe to open, or of another network."""


class VideoReadError(LAQError):
    """A video, or one frame of it, that cannot be decoded."""


class DatasetError(LAQError):
    """A folder of data that holds nothing usable, or whose parts disagree."""


class GeometryError(LAQError, ValueError):
    """Depth, cameras or points that cannot describe a scene."""


class RunError(LAQError):
    """A run folder that cannot be written, resumed or read."""
