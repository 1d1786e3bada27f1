"""Ends with 1 when a test was skipped for a reason that is not allowed: `skipped.py ALLOWED_SKIPS JUNIT_XML...`."""

import sys
from pathlib import Path
from xml.etree import ElementTree as Xml


def main() -> None:
    """Compare the reasons in the reports with the allowed ones; a line allows the reasons that begin with it."""
    allowed_file, *reports = map(Path, sys.argv[1:])
    lines = (line.strip() for line in allowed_file.read_text().splitlines())
    allowed = tuple(line for line in lines if line and not line.startswith("#"))
    found = [list(Xml.parse(report).iter("testcase")) for report in reports]  # noqa: S314 - pytest wrote them
    tests = [test for each in found for test in each]
    if not found or not all(found):
        sys.exit("No test was run.")
    skipped = [
        f"{test.get('classname')}::{test.get('name')}: {reason}"
        for test in tests
        for reason in [each.get("message", "") for each in test.iter("skipped")]
        if not reason.startswith(allowed)
    ]
    if skipped:
        sys.exit("Skipped, though it could have run:\n  " + "\n  ".join(skipped))


if __name__ == "__main__":
    main()
