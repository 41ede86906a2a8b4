"""The HTTP and WebSocket interface of the server. Begin with `routes.py`."""
