"""Text from outside, as it may be shown, mailed and stored (pure)."""


def one_line(text: str) -> str:
    """Return `text` without anything that ends a line or hides."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
