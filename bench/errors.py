"""What keeps the bench from measuring; the messages are for the person at the terminal."""


class BenchError(Exception):
    """A measurement cannot be made, or what it found must not be believed."""
