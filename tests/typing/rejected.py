"""What type checkers must reject: every line that ends in ``# no``."""

from caraway import AsyncResult, Caraway

app = Caraway("shop")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(bind=True)
def bound(self: object, count: int) -> int:
    return count


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


add.delay("1")  # no
add.delay()  # no
add.delay(1, 2, 3)  # no
add.delay(1, z=2)  # no
add("1")  # no
bound.delay("many")  # no
bound.delay()  # no
fetch.delay(1)  # no
name: str = add.delay(1).get()  # no
result: AsyncResult[str] = add.delay(1)  # no
text: str = fetch.delay("u").get()  # no


async def client() -> None:
    await add.adelay("1")  # no
    wrong: str = await add.delay(1)  # no
    print(wrong)


app.conf.task_acks_late = "yes"  # no
app.conf.worker_pol = "solo"  # no
