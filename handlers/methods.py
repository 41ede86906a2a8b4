"""Which methods a handler has: for the header `Allow` of a 405.

It must not know what a handler does.
"""

from tornado.web import RequestHandler


def allowed_methods(handler: RequestHandler) -> list[str]:
    """Those that the handler's class does not leave to Tornado, which refuses them."""
    kind = type(handler)
    return [
        method
        for method in handler.SUPPORTED_METHODS
        if getattr(kind, method.lower()) is not getattr(RequestHandler, method.lower())
    ]
