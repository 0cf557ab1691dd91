from __future__ import annotations

import pytest

from app.tools.builtins.calculator import calculated
from app.tools.builtins.clock import clock_on
from app.tools.failures import BadArguments
from tests.tools.conftest import ME, MakeToolbox


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("17 * 23 + 4", 395),
        ("2^10", 1024),
        ("10 / 4", 2.5),
        ("-7 // 2", -4),
        ("7 % 4", 3),
        ("sqrt(2) ** 2", pytest.approx(2)),
        ("max(1, 2, 3) + round(2.567, 1)", 5.6),
        ("factorial(20)", 2432902008176640000),
        ("6 × 7 ÷ 2", 21),
        ("log(8, 2)", pytest.approx(3)),
        ("2 * pi", pytest.approx(6.283185307)),
    ],
)
def test_the_calculator_works_out(expression: str, value: object) -> None:
    assert calculated(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "1 / 0",
        "2 ** 100000",
        "10 ** 10 ** 10",
        "factorial(100000)",
        "9" * 900 + "* 2 ** 4000",
        "(-8) ** 0.5",
        "1e308 * 10",
        "(" * 300 + "1",
        "-" * 900 + "1",
        "[" + "-" * 900 + "1]",
        "__import__('os').system('true')",
        "(1).__class__",
        "[x for x in (1, 2)]",
        "'a' * 1000000",
        "True + 1",
        "sqrt",
        "sqrt(x=2)",
        "round(1, 10 ** 9) + a",
    ],
)
def test_the_calculator_refuses_what_is_no_arithmetic_or_too_large(expression: str) -> None:
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        calculated(expression)


async def test_the_clock_tells_the_time_at_a_place() -> None:
    moment = await clock_on(lambda: 1_700_000_000)("Asia/Tokyo")
    assert (moment["iso"], moment["weekday"], moment["week"]) == ("2023-11-15T07:13:20+09:00", "Wednesday", 46)
    for name in ("Mars/Olympus", "../../etc/passwd", "/etc/localtime"):
        with pytest.raises(BadArguments, match="no time zone"):
            await clock_on(lambda: 0)(name)


@pytest.mark.parametrize(
    ("data", "expression", "value"),
    [
        ({"rows": [{"n": 1}, {"n": 2}]}, "data.rows.filter(row, row.n > 1)", [{"n": 2}]),
        ('{"a": {"b": [10, 20]}}', "data.a.b[1]", 20),
        ("a text", "size(data)", 6),
        ({"a": 1}, "has(data.b)", False),
        ({"t": "x"}, "{'y': data.t + '!'}", {"y": "x!"}),
    ],
)
async def test_json_is_asked_in_cel(toolbox: MakeToolbox, data: object, expression: str, value: object) -> None:
    result = await toolbox().execute("json_query", {"data": data, "expression": expression}, ME)
    assert result.value == value


@pytest.mark.parametrize(
    ("data", "expression", "said"),
    [
        ({}, "data.", "expression"),
        ({}, "nothing", "no variable 'nothing'"),
        ({}, "data.a", "no"),
        ({"rows": list(range(1_000))}, "data.rows.map(x, x + 1)", "too large"),
    ],
)
async def test_a_question_that_has_no_answer_is_the_callers_fault(
    toolbox: MakeToolbox, data: object, expression: str, said: str
) -> None:
    result = await toolbox().execute("json_query", {"data": data, "expression": expression}, ME)
    assert result.error is not None
    assert (result.error.code, result.error.param) == ("invalid_request", "arguments")
    assert said in result.error.message
