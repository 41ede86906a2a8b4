"""Refusals outside `/api/`: a line of text, and `Allow` on every 405."""

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.web import Application, RequestHandler

from handlers.plain import refuse


class Plain(RequestHandler):
    """Refuses what its query says."""

    def get(self) -> None:
        refuse(self, int(self.get_query_argument("status")), self.get_query_argument("name", ""))

    head = get

    def write_error(self, status_code: int, **_: object) -> None:
        refuse(self, status_code)
        self.finish()


@pytest.fixture
def app() -> Application:
    return Application([("/plain", Plain)], log_function=lambda handler: None)


async def call(http_client: AsyncHTTPClient, url: str, method: str = "GET", language: str = "") -> HTTPResponse:
    headers = {"Accept-Language": language}
    return await http_client.fetch(
        url, method=method, headers=headers, raise_error=False, allow_nonstandard_methods=True
    )


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("query", "language", "status", "text"),
    [
        ("status=404&name=no_picture", "", 404, "There is no such image.\n"),
        ("status=404&name=no_picture", "zh-CN", 404, "没有这张图片。\n"),
        ("status=503", "en", 503, "Service Unavailable\n"),
        ("status=503", "zh", 503, "服务暂时不可用\n"),
    ],
)
async def test_a_refusal_is_a_line_in_the_readers_language(
    http_client: AsyncHTTPClient, base_url: str, query: str, language: str, status: int, text: str
) -> None:
    """A sentence, or what the status says; no cache keeps it."""
    answer = await call(http_client, f"{base_url}/plain?{query}", language=language)
    assert (answer.code, answer.body.decode()) == (status, text)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"] == "Accept-Language"


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_a_method_that_is_not_allowed_learns_which_are(
    http_client: AsyncHTTPClient, base_url: str, method: str
) -> None:
    """In the header, and in words."""
    answer = await call(http_client, f"{base_url}/plain", method)
    assert (answer.code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.body == b"Methods that are allowed here: GET, HEAD.\n"
