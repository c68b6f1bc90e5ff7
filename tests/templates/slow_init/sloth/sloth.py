import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI

from twolane import ApiHandler


@asynccontextmanager
async def hang(app):
    await asyncio.sleep(3600)
    yield


handler = ApiHandler(FastAPI(lifespan=hang))
