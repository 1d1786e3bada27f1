from pathlib import Path

import numpy as np
import pytest

from ai_service.features import snapshot as snapshots
from ai_service.features.snapshot import Snapshot, SnapshotRefusedError, read_snapshot, write_snapshot
from ai_service.features.store import EmbeddedVelocity
from common.contracts.geoip import GeoLocation, GeoStatus
from tests.factories import make_accepted

NOWHERE = GeoLocation(status=GeoStatus.UNKNOWN)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    store = EmbeddedVelocity()
    for number in range(50):
        store.observe(make_accepted(transaction_id=f"tx-{number}"), NOWHERE)
    path = tmp_path / "state" / "velocity.npz"
    write_snapshot(path, Snapshot(store.copy_state(), {"ins_test": 49}))
    return path


class TestSnapshot:
    def test_gives_back_the_same_state_and_positions(self, written: Path) -> None:
        found = read_snapshot(written)

        reading = EmbeddedVelocity(found.state).observe(make_accepted(transaction_id="next"), NOWHERE)
        assert found.positions == {"ins_test": 49}
        assert reading.observed_sequence == 51
        assert reading.values[0, 1] == 50

    def test_gives_back_the_readings_of_what_was_not_saved(self, tmp_path: Path) -> None:
        store = EmbeddedVelocity()
        for number in range(3):
            store.observe(make_accepted(transaction_id=f"tx-{number}"), NOWHERE)
        store.saved([("ins_test", "tx-1")])
        path = tmp_path / "velocity.npz"
        write_snapshot(path, Snapshot(store.copy_state(), {}))

        restored = EmbeddedVelocity(read_snapshot(path).state)
        retried = restored.observe(make_accepted(transaction_id="tx-2"), NOWHERE)
        saved = restored.observe(make_accepted(transaction_id="tx-1"), NOWHERE)

        assert (retried.values[0, 1], retried.observed_sequence, retried.counted) == (2, 3, True)
        assert saved.values[0, 1] == 3, "what was saved is no longer known by its first reading"

    def test_refuses_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(SnapshotRefusedError):
            read_snapshot(tmp_path / "none.npz")

    @pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
    def test_refuses_a_file_that_was_cut(self, written: Path, keep: float) -> None:
        whole = written.read_bytes()
        written.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])

        with pytest.raises(SnapshotRefusedError):
            read_snapshot(written)

    def test_refuses_another_version(self, written: Path, tmp_path: Path) -> None:
        with np.load(written) as arrays:
            contents = dict(arrays)
        contents["header"] = np.frombuffer(
            b'{"version": 0, "positions": {}, "sequences": {}}', dtype=np.uint8
        )
        other = tmp_path / "other.npz"
        np.savez(other, **contents)

        with pytest.raises(SnapshotRefusedError, match="version"):
            read_snapshot(other)

    def test_refuses_arrays_of_another_type(self, written: Path, tmp_path: Path) -> None:
        with np.load(written) as arrays:
            contents = dict(arrays)
        contents["slots"] = contents["slots"].astype(np.float64)
        other = tmp_path / "other.npz"
        np.savez(other, **contents)

        with pytest.raises(SnapshotRefusedError, match="type"):
            read_snapshot(other)

    def test_a_crash_while_writing_leaves_the_old_file(self, written: Path) -> None:
        written.with_suffix(".partial").write_bytes(b"half")

        assert read_snapshot(written).positions == {"ins_test": 49}
        assert set(snapshots.ARRAYS) <= set(np.load(written).files)
