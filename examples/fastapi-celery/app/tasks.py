import time

from app.celery_app import app


@app.task
def make_thumbnail(picture: str) -> str:
    time.sleep(2)  # such as a large picture
    return f"{picture}.thumbnail"


@app.task(ignore_result=True)
def tidy() -> None:
    print("tidied", flush=True)
