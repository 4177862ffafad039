"""A small web app in plain ASGI. It binds its port as usual and does not know about percore."""

import json
import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    found = scope["path"] in ("/", "/health")
    body = {"pid": os.getpid(), "instance": os.environ.get("NODE_APP_INSTANCE", "0")} if found else {"error": "not found"}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode() + b"\n"})


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "5100")), log_level="warning")
