import os

from celery.result import AsyncResult
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from app.celery_app import app as celery
from app.tasks import make_thumbnail

GREETING = "Send me a picture"
app = FastAPI(title="Thumbnails")


class Picture(BaseModel):
    name: str


@app.get("/health")
def health() -> dict[str, str]:
    """Each new worker must answer it before it gets requests."""
    return {"status": "ok"}


@app.get("/")
def greet() -> dict[str, str | None]:
    return {"greeting": GREETING, "release": os.environ.get("PERCORE_RELEASE")}


@app.post("/thumbnails", status_code=202)
def order(picture: Picture) -> dict[str, str]:
    return {"id": make_thumbnail.delay(picture.name).id}


@app.get("/thumbnails/{task_id}")
def fetch(task_id: str) -> dict[str, str | None]:
    result = AsyncResult(task_id, app=celery)
    if result.failed():
        raise HTTPException(502, "the thumbnail could not be made")
    return {"state": result.state, "file": result.result if result.successful() else None}
