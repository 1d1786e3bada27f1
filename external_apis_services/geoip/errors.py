"""What keeps the location data from being used."""

from common.errors import StartupError


class GeoDataError(StartupError):
    """A data file is missing or unreadable; the message tells the operator which one, and what to do."""
