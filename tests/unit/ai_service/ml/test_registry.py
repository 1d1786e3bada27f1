import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ai_service.ml.registry import (
    ModelRefusedError,
    arrays_bytes,
    load_current,
    load_model,
    make_current,
    read_estimator,
)
from tests.unit.ai_service.ml.models import make_rows, save, small_trees

FEATURES = ("feature_0", "feature_1", "feature_2", "feature_3")
Arrays = dict[str, NDArray[Any]]


def changed_arrays(change: Callable[[Arrays], object]) -> bytes:
    arrays = {name: array.copy() for name, array in small_trees().as_dict().items()}
    change(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def set_first_split(name: str, value: float) -> Callable[[Arrays], object]:
    def change(arrays: Arrays) -> None:
        arrays[name][0] = value

    return change


def set_first_leaf(name: str, value: float) -> Callable[[Arrays], object]:
    def change(arrays: Arrays) -> None:
        arrays[name][np.flatnonzero(arrays["feature"] < 0)[0]] = value

    return change


def cast(name: str, dtype: type) -> Callable[[Arrays], object]:
    def change(arrays: Arrays) -> None:
        arrays[name] = arrays[name].astype(dtype)

    return change


def replace(name: str, array: NDArray[Any]) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: array})


def point_two_parents_to_one_child(arrays: Arrays) -> None:
    arrays["right"][0] = arrays["left"][0]


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


class TestLoadModel:
    def test_returns_the_model_that_was_saved(self, tmp_path: Path) -> None:
        folder = save(tmp_path)

        model = load_model(folder, expected_features=FEATURES)

        assert (model.ref.name, model.ref.version) == ("fraud-test", "v1")
        assert model.simulated_only
        assert model.feature_names == FEATURES
        for name, array in small_trees().as_dict().items():
            assert np.array_equal(array, getattr(model.trees, name))
        assert 0 < model.predict(make_rows(1, features=4)[0]) < 1

    def test_refuses_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ModelRefusedError, match=r"python -m ai_service\.ml\.training"):
            load_model(tmp_path / "fraud-test" / "v1")

    @pytest.mark.parametrize(
        ("expected", "message"),
        [
            ((*FEATURES, "another"), "missing .*another"),
            (FEATURES[:3], "unknown .*feature_3"),
            (FEATURES[::-1], "the order differs"),
        ],
    )
    def test_refuses_a_model_of_other_features(
        self, tmp_path: Path, expected: tuple[str, ...], message: str
    ) -> None:
        folder = save(tmp_path)

        with pytest.raises(ModelRefusedError, match=message):
            load_model(folder, expected_features=expected)

    @pytest.mark.parametrize("name", ["arrays.npz", "manifest.json"])
    def test_refuses_a_missing_file(self, tmp_path: Path, name: str) -> None:
        folder = save(tmp_path)
        (folder / name).unlink()

        with pytest.raises(ModelRefusedError, match=name):
            load_model(folder)

    def test_refuses_arrays_of_which_one_bit_changed(self, tmp_path: Path) -> None:
        path = save(tmp_path) / "arrays.npz"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

        with pytest.raises(ModelRefusedError, match="hash differs"):
            load_model(path.parent)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"schema_version": 2}, "schema version 2"),
            ({"schema_version": "one"}, "schema_version"),
            ({"name": "../elsewhere"}, "name"),
            ({"version": "v2"}, "not its folder"),
            ({"features": []}, "features"),
            ({"features": ["feature_0"] * 4}, "twice"),
            ({"arrays_sha256": "0"}, "arrays_sha256"),
            ({"surprise": 1}, "surprise"),
            ({"created_at": "2026-11-02T00:00:00"}, "created_at"),
            ({"calibration": {"slope": -1, "intercept": 0, "bins": []}}, "slope"),
            ({"calibration": {"slope": 1, "intercept": 0, "bins": []}}, "bins"),
            ({"calibration": {"slope": float("nan"), "intercept": 0, "bins": []}}, "calibration"),
        ],
    )
    def test_refuses_a_manifest_that_says_something_else(
        self, tmp_path: Path, changes: dict[str, object], message: str
    ) -> None:
        folder = save(tmp_path)
        edit_json(folder / "manifest.json", **changes)

        with pytest.raises(ModelRefusedError, match=message):
            load_model(folder)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
    def test_refuses_a_manifest_that_is_no_manifest(self, tmp_path: Path, content: bytes) -> None:
        folder = save(tmp_path)
        (folder / "manifest.json").write_bytes(content)

        with pytest.raises(ModelRefusedError, match=r"manifest\.json"):
            load_model(folder)

    def test_refuses_a_manifest_beyond_any_size_it_could_have(self, tmp_path: Path) -> None:
        folder = save(tmp_path)
        (folder / "manifest.json").write_bytes(b" " * (5 * 2**20))

        with pytest.raises(ModelRefusedError, match="larger"):
            load_model(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (set_first_leaf("value", np.nan), "value .* not finite"),
            (set_first_leaf("value", np.inf), "value .* not finite"),
            (set_first_split("threshold", np.nan), "threshold .* not finite"),
            (set_first_split("threshold", -np.inf), "threshold .* not finite"),
            (set_first_split("cover", 0.0), "cover .* not positive"),
            (set_first_split("cover", np.nan), "cover .* not finite"),
            (set_first_split("cover", 7.0), "cover does not add up"),
            (replace("baseline", np.array([np.nan])), "baseline .* not finite"),
            (replace("baseline", np.zeros(2)), "baseline"),
            (set_first_split("left", 0), "outside its tree or before its parent"),
            (set_first_split("left", -1), "outside its tree or before its parent"),
            (set_first_split("left", 10**6), "outside its tree or before its parent"),
            (set_first_split("right", small_trees().roots[1] + 1), "outside its tree"),
            (point_two_parents_to_one_child, "no parent or two"),
            (set_first_leaf("left", 3), "a leaf has children"),
            (set_first_split("feature", 4), "feature that does not exist"),
            (set_first_split("feature", -2), "feature that does not exist"),
            (set_first_split("roots", 1), "roots"),
            (replace("roots", np.array([0, 0], dtype=np.int32)), "roots"),
            (replace("roots", np.array([0, 10**6], dtype=np.int32)), "roots"),
            (replace("roots", np.array([], dtype=np.int32)), "no tree"),
            (cast("feature", np.int64), "feature has the wrong type"),
            (cast("value", np.float32), "value has the wrong type"),
            (cast("missing_left", np.int8), "missing_left has the wrong type"),
            (replace("value", np.zeros((2, 2))), "value has the wrong shape"),
            (replace("value", np.zeros(1)), "value has the wrong shape"),
            (lambda arrays: arrays.pop("cover"), "other arrays"),
            (replace("extra", np.zeros(1)), "other arrays"),
        ],
    )
    def test_refuses_trees_that_cannot_be_walked_safely(
        self, tmp_path: Path, change: Callable[[Arrays], object], message: str
    ) -> None:
        folder = save(tmp_path, arrays=changed_arrays(change))

        with pytest.raises(ModelRefusedError, match=message):
            load_model(folder)

    def test_never_runs_what_is_pickled_in_an_array(self, tmp_path: Path) -> None:
        trace = tmp_path / "executed"
        payload = np.array([Payload(trace)], dtype=object)
        folder = save(tmp_path, arrays=changed_arrays(replace("value", payload)))

        with pytest.raises(ModelRefusedError, match="does not hold trees"):
            load_model(folder)

        assert not trace.exists()

    @pytest.mark.parametrize("wrap", [pickle.dumps, lambda payload: pickle.dumps(payload, protocol=0)])
    def test_never_runs_a_pickle_in_place_of_the_archive(
        self, tmp_path: Path, wrap: Callable[[object], bytes]
    ) -> None:
        trace = tmp_path / "executed"
        folder = save(tmp_path, arrays=wrap(Payload(trace)))

        with pytest.raises(ModelRefusedError, match="does not hold trees"):
            load_model(folder)

        assert not trace.exists()

    def test_refuses_an_archive_that_would_unpack_to_more_than_a_model_can_be(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in small_trees().as_dict():
                archive.writestr(f"{name}.npy", b"\0" * (30 * 2**20))
        folder = save(tmp_path, arrays=buffer.getvalue())

        with pytest.raises(ModelRefusedError, match="too large"):
            load_model(folder)

    def test_refuses_a_single_array_in_place_of_the_archive(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(3))
        folder = save(tmp_path, arrays=buffer.getvalue())

        with pytest.raises(ModelRefusedError, match="does not hold trees"):
            load_model(folder)


class TestCurrent:
    def test_names_the_champion(self, tmp_path: Path) -> None:
        save(tmp_path)
        make_current(tmp_path, save(tmp_path, version="v2"))

        model = load_current(tmp_path, expected_features=FEATURES)

        assert model.version == "v2"

    def test_can_be_changed_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        make_current(tmp_path, save(tmp_path))
        make_current(tmp_path, save(tmp_path, version="v2"))

        assert load_current(tmp_path).version == "v2"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["current.json", "fraud-test"]
        assert sorted(path.name for path in (tmp_path / "fraud-test").iterdir()) == ["v1", "v2"]

    def test_refuses_to_start_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelRefusedError, match="train a model"):
            load_current(tmp_path)

    def test_refuses_a_manifest_other_than_the_one_that_was_chosen(self, tmp_path: Path) -> None:
        folder = save(tmp_path)
        make_current(tmp_path, folder)
        edit_json(folder / "manifest.json", simulated_only=False)

        with pytest.raises(ModelRefusedError, match="hash differs"):
            load_current(tmp_path)

    @pytest.mark.parametrize(
        "changes", [{"name": "../.."}, {"version": "a/b"}, {"schema_version": 9}, {"manifest_sha256": None}]
    )
    def test_refuses_a_choice_that_cannot_be(self, tmp_path: Path, changes: dict[str, object]) -> None:
        make_current(tmp_path, save(tmp_path))
        edit_json(tmp_path / "current.json", **changes)

        with pytest.raises(ModelRefusedError, match=r"current\.json"):
            load_current(tmp_path)


class TestSaveModel:
    def test_never_overwrites_a_version(self, tmp_path: Path) -> None:
        save(tmp_path)

        with pytest.raises(FileExistsError, match="already saved"):
            save(tmp_path)

        assert [path.name for path in (tmp_path / "fraud-test").iterdir()] == ["v1"]

    def test_writes_equal_trees_as_equal_bytes(self) -> None:
        assert arrays_bytes(small_trees()) == arrays_bytes(small_trees())


class TestReadEstimator:
    def test_returns_the_bytes_the_manifest_names(self, tmp_path: Path) -> None:
        assert read_estimator(save(tmp_path)) == b"pickled"

    def test_refuses_other_bytes_before_anybody_unpickles_them(self, tmp_path: Path) -> None:
        folder = save(tmp_path)
        (folder / "estimator.joblib").write_bytes(b"something else")

        with pytest.raises(ModelRefusedError, match="hash differs"):
            read_estimator(folder)
