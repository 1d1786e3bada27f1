"""What can go wrong while data is fetched; the messages are for the person at the terminal."""


class DownloadError(Exception):
    """A package could not be had."""


class WrongFileError(DownloadError):
    """A file is there, but it is not the one that is pinned."""
