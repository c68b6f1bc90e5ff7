from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.orm import Session
from twolane import ApiHandler

from database import Order, get_session
from tasks import pay

app = FastAPI()
OpenSession = Annotated[Session, Depends(get_session)]


@app.post("/orders", status_code=202)
def add_order(item: str, session: OpenSession) -> dict[str, int]:
    order = Order(item=item)
    session.add(order)
    session.commit()
    pay.delay(order.id)  # after the commit, or the task may not find it
    return {"id": order.id}


@app.get("/orders/{order_id}")
def get_order(order_id: int, session: OpenSession) -> dict[str, int | str | bool]:
    if (order := session.get(Order, order_id)) is None:
        raise HTTPException(404)
    return {"id": order.id, "item": order.item, "paid": order.paid}


handler = ApiHandler(app)
