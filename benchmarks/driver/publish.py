"""The hook for `load.py fanout --publish-cmd`, for servers that publish a change of the dream itself.

publish.py BASE DREAM_ID COUNT   renames the dream COUNT times in a row, as the first user of the load generator
"""

import http.client
import json
import sys
from urllib.parse import urlsplit

connection = http.client.HTTPConnection(urlsplit(sys.argv[1]).netloc)


def call(method: str, path: str, body: dict[str, str], token: str = "") -> dict[str, str]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request(method, path, json.dumps(body), headers)
    answer = connection.getresponse()
    content: dict[str, str] = json.loads(answer.read())
    assert answer.status in (200, 201), (answer.status, content)
    return content


token = call("POST", "/api/auth/login", {"username": "load-0", "password": "Dream-benchmark-1"})["access"]
for number in range(int(sys.argv[3])):
    call("PATCH", f"/api/dreams/{sys.argv[2]}", {"title": f"a dream, {number}"}, token)
