"""Which passwords may be chosen (pure)."""

import unicodedata

MIN_CHARACTERS = 12
MAX_CHARACTERS = 128
MIN_DIFFERENT = 5

# Guessed first and long enough to pass the length rule; shorter well-known ones fail that rule anyway.
_COMMON = frozenset(
    [
        "012345678910",
        "0123456789ab",
        "112233445566",
        "123123123123",
        "1234567890ab",
        "12345678910",
        "123456789012",
        "1234567890123",
        "123456789abc",
        "1234567890qw",
        "123qweasdzxc",
        "1q2w3e4r5t6y",
        "1q2w3e4r5t6y7u",
        "1qaz2wsx3edc",
        "1qazxsw23edc",
        "987654321098",
        "a1b2c3d4e5f6",
        "abc123abc123",
        "abcd12345678",
        "abcdefghijkl",
        "abcdefghijklm",
        "abcdefghijklmnop",
        "abcdefghijklmnopqrstuvwxyz",
        "admin1234567",
        "admin12345678",
        "adminadminadmin",
        "administrator",
        "administrator1",
        "asdfghjkl123",
        "asdfghjkl;'",
        "basketball123",
        "changeme1234",
        "changemechangeme",
        "changemenow1",
        "chocolate123",
        "correcthorsebatterystaple",
        "defaultpassword",
        "football1234",
        "fraudfraudfraud",
        "helloworld12",
        "helloworld123",
        "iloveyou1234",
        "iloveyou12345",
        "iloveyouforever",
        "letmein12345",
        "letmein123456",
        "letmeinletmein",
        "liverpool123",
        "manchester123",
        "monkey123456",
        "mypassword12",
        "mypassword123",
        "mypassword1234",
        "p@ssw0rd1234",
        "p@ssw0rd12345",
        "p@ssword1234",
        "passw0rd1234",
        "password0123",
        "password1234",
        "password12345",
        "password123456",
        "password1234567",
        "password12345678",
        "password123456789",
        "password2024",
        "password2025",
        "password2026",
        "passwordpassword",
        "princess1234",
        "q1w2e3r4t5y6",
        "qazwsxedcrfv",
        "qazwsxedc123",
        "qwerty123456",
        "qwerty1234567",
        "qwertyqwerty",
        "qwertyuiop12",
        "qwertyuiop123",
        "qwertyuiop[]",
        "qwertyuiopas",
        "qwertyuiopasdfghjkl",
        "sandboxsandbox",
        "secret123456",
        "secretpassword",
        "starwars1234",
        "sunshine1234",
        "superman1234",
        "testpassword",
        "testtesttest",
        "thisismypassword",
        "trustno1trustno1",
        "unknown12345",
        "welcome12345",
        "welcome123456",
        "welcomewelcome",
        "zaq12wsxcde3",
        "zxcvbnm12345",
        "zxcvbnmasdfghjkl",
    ]
)


def normalised(password: str) -> str:
    """Return `password` as it is hashed: one form for characters that look the same (NFC), nothing cut off."""
    return unicodedata.normalize("NFC", password)


def form_fault(password: str) -> str | None:
    """Return what is wrong with the form of a normalised new password, or None."""
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        return f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters"
    if "\x00" in password or any("\ud800" <= character <= "\udfff" for character in password):
        return "a password has no NUL and no half characters"
    return None


def weakness(password: str, *, email: str) -> str | None:
    """Return why a normalised new password of the right form is too easy to guess, or None."""
    folded = password.casefold()
    address = email.casefold()
    if folded in {address, address.split("@")[0]}:
        return "The password is the e-mail address."
    if len(set(folded)) < MIN_DIFFERENT:
        return f"The password has fewer than {MIN_DIFFERENT} different characters."
    if folded in _COMMON:
        return "The password is one of those that are tried first."
    return None
