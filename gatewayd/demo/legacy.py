"""Legacy: the policy administration of 1998. Slow answers, XML in ISO 8859-1, a connection for each."""

from __future__ import annotations

import asyncio
from datetime import date
from xml.sax.saxutils import escape

from aiohttp import web

from gatewayd.demo import book
from gatewayd.demo.service import application, options, run


def seconds(number: int) -> float:
    """How long the inquiry about policy `number` takes: 1 to 3 seconds, the same for the same policy."""
    return 1 + book.Draw(f"legacy/{number}").below(2_001) / 1_000


async def inquiry(request: web.Request) -> web.Response:
    """`POLINQ`: one policy as a record of upper-case elements; one not on file is a record as well."""
    reference = request.query.get("POLNO", "").removeprefix("POL-")
    number = book.number_of(f"POL-{reference}", "POL", book.POLICIES)
    await asyncio.sleep(seconds(number or 0))
    return _record({"RETCODE": "08", "MSG": "POLICY NOT ON FILE"} if number is None else _fields(number))


def _fields(number: int) -> dict[str, str]:
    policy = book.policy(number)
    return {
        "RETCODE": "00",
        "POLNO": f"{number:09d}",
        "LOB": policy["product"][:3].upper(),
        "STAT": policy["status"][:1].upper(),
        "INSNAME": policy["holder"]["name"].upper(),
        "EFFDT": _old_date(policy["period"]["from"]),
        "EXPDT": _old_date(policy["period"]["until"]),
        "ANNPREM": f"{book.yearly_premium(number):011d}",
        "AGTCD": policy["agent"],
    }


def _old_date(text: str) -> str:
    return date.fromisoformat(text).strftime("%d/%m/%y")


def _record(fields: dict[str, str]) -> web.Response:
    lines = "".join(f"  <{name}>{escape(value)}</{name}>\r\n" for name, value in fields.items())
    text = f'<?xml version="1.0" encoding="ISO-8859-1"?>\r\n<POLINQ-RESP>\r\n{lines}</POLINQ-RESP>\r\n'
    response = web.Response(body=text.encode("iso-8859-1"), content_type="text/xml", charset="ISO-8859-1")
    response.headers["Pragma"] = "no-cache"
    response.force_close()
    return response


def make_app() -> web.Application:
    """The service. Its one transaction answers below any path, as it always has."""
    app = application("legacy")
    app.router.add_get("/{anywhere:.*}", inquiry)
    return app


if __name__ == "__main__":
    run(make_app(), options("legacy", 9107).port)
