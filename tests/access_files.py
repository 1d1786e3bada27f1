"""Makes what a service kept of who may get in older or younger than it is."""

from common.auth.access_file import AccessFile, Head, Moment, Times


def confirmed_at(file: AccessFile, moment: Moment) -> None:
    """Say that what is kept was last confirmed at `moment`."""
    kept = file.read()
    assert kept is not None
    head = Head(source=file.source, times=Times(access=moment, keys=moment), keys=kept.head.keys)
    for path in file.path.parent.glob(f"{file.path.stem}.*"):
        path.unlink()
    file.write(head, kept.feed)
