"""Talk to a running Anyloom server, from asyncio (`AsyncClient`) or without (`Client`).

with Client() as client:
    result = client.run("any_to_any", {"prompt.text": "Draw a cat that purrs."})
    print(result.text, client.save(result, "out"))
"""

from graph_engine.client.asynchronous import AsyncClient
from graph_engine.client.connection import NoServerError, ServerError
from graph_engine.client.result import Result
from graph_engine.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "NoServerError", "Result", "ServerError"]
