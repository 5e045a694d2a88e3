"""The doors: HTTP API, websocket, web page, command line. They hold no state of their own beside open connections."""
