import pytest

from bench.profile import count_places, profile_figures

STACKS = (
    "run (/home/a/project/common/serve.py:9);loads (/venv/site-packages/orjson/x.py:1) 30\n"
    "run (/home/a/project/common/serve.py:9);save_batch (/home/a/project/ai_service/scoring/saving.py:40);"
    "execute (/venv/lib/site-packages/sqlalchemy/engine.py:5) 50\n"
    "main (/usr/lib/python3/asyncio/runners.py:1);feed (/venv/site-packages/uvicorn/http.py:3) 15\n"
    "select (/usr/lib/python3/selectors.py:4) 5\n"
)


class TestCountPlaces:
    def test_a_sample_counts_for_the_innermost_of_our_own_functions(self) -> None:
        counts = count_places(STACKS)

        assert counts["ai_service/scoring/saving.py save_batch"] == 50
        assert counts["common/serve.py run"] == 30

    def test_without_one_it_counts_for_its_library(self) -> None:
        counts = count_places(STACKS)

        assert counts["library uvicorn"] == 15
        assert counts["Python itself"] == 5


class TestProfileFigures:
    def test_shares_add_up_and_the_greatest_comes_first(self) -> None:
        figures = list(profile_figures(STACKS))

        assert sum(figure.value for figure in figures) == pytest.approx(100)
        assert [figure.value for figure in figures] == [50, 30, 15, 5]
