import logging

from fastapi import BackgroundTasks, FastAPI
from twolane import ApiHandler, tasks_router

from tasks import celery, send_welcome

logger = logging.getLogger(__name__)

app = FastAPI()
app.include_router(tasks_router(celery))


def count_signup(name: str) -> None:
    logger.info("Counted %s", name)


@app.post("/signups/{name}", status_code=202)
def sign_up(name: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(count_signup, name)
    return {"id": send_welcome.delay(name).id}


handler = ApiHandler(app)
