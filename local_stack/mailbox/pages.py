"""The pages that show the mails. What a mail brings along is text here, or locked into a frame that can do nothing."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from local_stack.mailbox.store import Mail, MailStore

SHOWN = 200
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
MAIL_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
_templates = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


def mailbox_app(store: MailStore) -> Starlette:
    """Make the pages for the mails in `store`."""
    pages = MailPages(store)
    return Starlette(
        routes=[
            Route("/", pages.show_all),
            Route("/ready", pages.show_ready),
            Route("/newest", pages.show_newest),
            Route("/mails/{mail_id}", pages.show_one),
            Route("/mails/{mail_id}/html", pages.show_html),
            Route("/mails/{mail_id}/source", pages.show_source),
        ]
    )


class MailPages:
    """One method for each page."""

    def __init__(self, store: MailStore) -> None:
        self._store = store

    async def show_ready(self, _request: Request) -> Response:
        """Answer while mails are taken."""
        return JSONResponse({"ready": True})

    async def show_all(self, _request: Request) -> Response:
        """List the newest mails."""
        ids = await run_in_threadpool(self._store.ids)
        mails = await run_in_threadpool(lambda: [self._store.read(mail_id) for mail_id in ids[:SHOWN]])
        return _page("list.html", mails=[mail for mail in mails if mail], total=len(ids), shown=SHOWN)

    async def show_newest(self, request: Request) -> Response:
        """Return the text of the newest mail to the address `to` whose subject holds `subject`, for the terminal."""
        to, subject = (request.query_params.get(name, "") for name in ("to", "subject"))
        mail = await run_in_threadpool(self._store.newest, to=to, subject=subject)
        if mail is None:
            raise HTTPException(404)
        return _locked(
            Response(mail.text("plain") or "", media_type="text/plain; charset=utf-8"), MAIL_POLICY
        )

    async def show_one(self, request: Request) -> Response:
        """Show one mail: its headers, its HTML in a frame, its text."""
        mail = await self._read(request)
        return _page("mail.html", mail=mail, text=mail.text("plain"), has_html=mail.text("html") is not None)

    async def show_html(self, request: Request) -> Response:
        """Show the HTML part alone, for the frame."""
        mail = await self._read(request)
        return _locked(HTMLResponse(mail.text("html") or ""), MAIL_POLICY)

    async def show_source(self, request: Request) -> Response:
        """Return the mail as it was delivered."""
        mail_id = request.path_params["mail_id"]
        content = await run_in_threadpool(self._store.content, mail_id)
        if content is None:
            raise HTTPException(404)
        return _locked(Response(content, media_type="text/plain; charset=utf-8"), MAIL_POLICY)

    async def _read(self, request: Request) -> Mail:
        mail = await run_in_threadpool(self._store.read, request.path_params["mail_id"])
        if mail is None:
            raise HTTPException(404)
        return mail


def _page(template: str, **values: object) -> Response:
    return _locked(HTMLResponse(_templates.get_template(template).render(values)), PAGE_POLICY)


def _locked(response: Response, policy: str) -> Response:
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response
