from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from common.auth.bearer import require_scope
from common.contracts.fields import Contract
from common.contracts.tokens import Scope
from common.errors import InvalidRequestError, NotFoundError, OverloadedError, UnavailableError
from common.openapi import install_openapi
from common.paging import Cursor
from common.problems import PROBLEM_JSON, refusals
from common.strict_json import StrictRoute

router = APIRouter(prefix="/v1", route_class=StrictRoute)


class Thing(Contract):
    name: str


@router.get("/open")
async def read_open() -> None: ...


@router.get("/guarded", dependencies=[Depends(require_scope(Scope.SCORE_WRITE))])
async def read_guarded() -> None: ...


@router.post("/body", responses=refusals(OverloadedError))
async def post_body(thing: Thing) -> None: ...


@router.get("/list")
async def read_list(cursor: Cursor = None) -> None: ...


def document() -> dict[str, Any]:
    app = FastAPI()
    install_openapi(app)
    app.include_router(router)
    return app.openapi()


def refused(path: str) -> set[tuple[str, str]]:
    """Return status and type of every failure that a route is documented to answer."""
    (operation,) = document()["paths"][path].values()
    return {
        (status, type_)
        for status, response in operation["responses"].items()
        for type_ in response["content"].get(PROBLEM_JSON, {}).get("examples", ())
    }


ANY = {("422", "invalid-request"), ("429", "rate-limited"), ("503", "unavailable")}


class TestRefusals:
    def test_are_made_from_the_classes_that_are_raised(self) -> None:
        made = refusals(NotFoundError, OverloadedError, UnavailableError)

        assert made.keys() == {404, 503}
        assert made[404]["description"] == f"`not-found`: {NotFoundError.title}"
        assert made[503]["description"].splitlines() == [
            f"- `overloaded`: {OverloadedError.title}",
            f"- `unavailable`: {UnavailableError.title}",
        ]

    def test_that_are_shared_by_routes_are_not_changed_by_one_of_them(self) -> None:
        shared = refusals(NotFoundError)

        StrictRoute("/v1/x", read_open, responses=shared)

        assert shared == refusals(NotFoundError)


class TestEveryRoute:
    def test_says_what_it_answers_to_anybody(self) -> None:
        assert refused("/v1/open") == ANY

    def test_says_who_is_let_in(self) -> None:
        assert refused("/v1/guarded") == ANY | {("401", "unauthenticated"), ("403", "forbidden")}

    def test_says_which_bodies_are_refused_beside_what_it_raises_itself(self) -> None:
        assert refused("/v1/body") == ANY | {
            ("400", "malformed-json"),
            ("413", "body-too-large"),
            ("415", "unsupported-media-type"),
            ("503", "overloaded"),
        }

    def test_says_that_a_cursor_may_be_wrong(self) -> None:
        assert refused("/v1/list") == ANY | {("422", "cursor-invalid")}

    def test_refers_to_one_example_of_each_problem(self) -> None:
        made = document()

        content = made["paths"]["/v1/open"]["get"]["responses"]["422"]["content"][PROBLEM_JSON]
        example = made["components"]["examples"]["invalid-request.422"]["value"]
        assert content["examples"]["invalid-request"] == {"$ref": "#/components/examples/invalid-request.422"}
        assert (example["status"], example["title"]) == (422, InvalidRequestError.title)
