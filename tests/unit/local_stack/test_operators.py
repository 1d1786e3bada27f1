from pathlib import Path

import pytest

from local_stack.errors import StackError
from local_stack.operators import operator_token
from local_stack.settings import StackSettings


class TestOperatorToken:
    def test_says_what_to_start_when_nothing_runs(self, tmp_path: Path) -> None:
        settings = StackSettings(var_dir=tmp_path)

        with pytest.raises(StackError, match="make run"):
            operator_token(settings, email="operator@assay.example")

        assert list(tmp_path.iterdir()) == []
