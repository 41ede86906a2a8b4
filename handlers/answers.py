"""The answer that several calls share: one dream.

It must not know how the dream came about.
"""

from handlers import views
from handlers.base import ApiHandler
from handlers.views import UrlForHost
from storage.model import Dream


def answer_dream(handler: ApiHandler, status: int, dream: Dream, url_for_host: UrlForHost) -> None:
    handler.log_about = f"dream={dream.id}"
    url_for = url_for_host(handler.access.base_url(handler.request))
    handler.answer(status, views.dream(dream, url_for, handler.language))
