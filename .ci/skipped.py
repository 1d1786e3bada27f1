"""Ends with 1 when a test was skipped for a reason that is not allowed: `skipped.py JUNIT_XML ALLOWED_SKIPS`."""

import sys
from pathlib import Path
from xml.etree import ElementTree as Xml


def main() -> None:
    """Compare the reasons in the report with the allowed ones; a line allows the reasons that begin with it."""
    report, allowed_file = map(Path, sys.argv[1:3])
    lines = (line.strip() for line in allowed_file.read_text().splitlines())
    allowed = tuple(line for line in lines if line and not line.startswith("#"))
    tests = list(Xml.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote it a moment ago
    if not tests:
        sys.exit("No test was run.")
    skipped = [
        f"{test.get('classname')}::{test.get('name')}: {reason}"
        for test in tests
        for reason in [found.get("message", "") for found in test.iter("skipped")]
        if not reason.startswith(allowed)
    ]
    if skipped:
        sys.exit("Skipped, though it could have run:\n  " + "\n  ".join(skipped))


if __name__ == "__main__":
    main()
