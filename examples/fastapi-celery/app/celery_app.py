import os

from celery import Celery

app = Celery("thumbnails", include=["app.tasks"])
app.conf.update(
    broker_url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    result_backend=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    broker_connection_retry_on_startup=True,
    task_default_queue="thumbnails",  # several projects may use the same Redis
    task_acks_late=True,  # a task whose worker died is done again, so write tasks that may run twice
    worker_prefetch_multiplier=1,  # no task waits in a worker that is about to end
    result_expires=3600,
    beat_schedule={"tidy": {"task": "app.tasks.tidy", "schedule": 5.0}},
)
