"""Who talks to clients: HTTP and WebSocket. Begin with `routes.py`."""
