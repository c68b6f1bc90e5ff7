from collections.abc import Iterator

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from settings import DATABASE_URL

# A frozen environment does not notice that the database has closed its connections.
engine = create_engine(DATABASE_URL, pool_pre_ping=True)
new_session = sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    paid: Mapped[bool] = mapped_column(default=False)


def get_session() -> Iterator[Session]:
    with new_session() as session:
        yield session
