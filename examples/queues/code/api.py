from celery import group
from celery.result import GroupResult
from fastapi import FastAPI, HTTPException
from twolane import ApiHandler

from tasks import book, celery, send_mail, thumbnail

app = FastAPI()


@app.post("/mails/{address}", status_code=202)
def send(address: str) -> dict[str, str]:
    return {"id": send_mail.delay(address).id}


@app.post("/albums", status_code=202)
def add_album(photos: list[str]) -> dict[str, str]:
    album = group(thumbnail.s(photo) for photo in photos).apply_async()
    album.save()
    return {"id": album.id}


@app.get("/albums/{identity}")
def get_album(identity: str) -> dict[str, int]:
    album = GroupResult.restore(identity, app=celery)
    if album is None:
        raise HTTPException(404)
    return {"photos": len(album), "done": album.completed_count()}


@app.post("/accounts/{account}/bookings", status_code=202)
def add_booking(account: str, cents: int) -> dict[str, str]:
    # The bookings of one account stay in order; those of two accounts run side by side.
    return {"id": book.apply_async((account, cents), MessageGroupId=account).id}


handler = ApiHandler(app)
