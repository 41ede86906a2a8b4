"""Refusals outside `/api/`: one line of text, in the reader's language, instead of a problem in JSON.

It must not know the refused requests.
"""

from tornado.web import RequestHandler

from handlers.language import preferred_language
from handlers.sentences import Sentence, title


def allowed_methods(handler: RequestHandler) -> list[str]:
    """The methods that the handler's class does not leave to Tornado, which refuses them."""
    kind = type(handler)
    return [
        method
        for method in handler.SUPPORTED_METHODS
        if getattr(kind, method.lower()) is not getattr(RequestHandler, method.lower())
    ]


def refuse(handler: RequestHandler, status: int, name: str = "") -> None:
    """Write status, headers and text, but do not finish. Without a `name` of `SENTENCES`, the status is the text."""
    language = preferred_language(handler.request.headers.get("Accept-Language"), "en")
    text = Sentence(name).in_language(language) if name else title(status, language)
    if status == 405:
        allowed = allowed_methods(handler)
        handler.set_header("Allow", ", ".join(allowed))
        text = Sentence("method_not_allowed", methods=allowed).in_language(language)
    handler.set_status(status)
    handler.set_header("Content-Type", "text/plain; charset=utf-8")
    handler.set_header("Cache-Control", "no-store")
    handler.set_header("Vary", "Accept-Language")
    handler.write(text + "\n")
