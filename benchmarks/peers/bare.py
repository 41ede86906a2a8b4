"""A Tornado server that takes any upload and throws its bytes away: what HTTP itself costs.

bare.py PORT
"""

import asyncio
import sys

from tornado.web import Application, RequestHandler, stream_request_body


@stream_request_body
class Everything(RequestHandler):
    def prepare(self) -> None:
        self.request.connection.set_max_body_size(1 << 40)

    def data_received(self, chunk: bytes) -> None:
        pass

    def get(self) -> None:
        self.write({"status": "completed", "images": []})

    def post(self) -> None:
        self.set_status(201)
        self.write({"id": "1", "access": "anyone"})


async def main() -> None:
    Application([(".*", Everything)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
