from __future__ import annotations

import pytest

from tests.config.conftest import Faults, Load

HTTP = """\
tools:
  hosts: [api.example.com]
  http:
    weather:
      description: Tells.
      url: {url}
      input: {{type: object, properties: {{city: {{type: string}}, days: {{type: integer}}}}, required: [city]}}
"""


def told(faults: list[str]) -> list[str]:
    """Faults without their file and line."""
    return [fault.split(": ", 1)[1] for fault in faults]


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://api.example.com/v1/{city}", None),
        ("https://api.example.com:443/v1", None),
        ("https://api.example.com:8443/v1", "its host 'api.example.com:8443' is not listed; add it to tools.hosts"),
        ("https://{city}.example.com/", "its host must stand there as it is: arguments may not say where a request goes"),
        ("https://user@api.example.com/", "is not a URL"),
        ("ftp://api.example.com/", "is not a URL"),
        ("https://api.example.com/{town}", "{town} stands for nothing; the input schema has no property 'town'"),
        ("https://api.example.com/{days}", "{days} may be missing; list 'days' as required in the input schema"),
    ],
)
def test_a_url_has_a_fixed_listed_host_and_known_placeholders(
    faults_of: Faults, load_text: Load, url: str, fault: str | None
) -> None:
    text = HTTP.format(url=f'"{url}"')
    if fault is None:
        load_text(text)
    else:
        [found] = told(faults_of(text))
        assert found.startswith(f"tools.http.weather.url: {fault}")


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        ("query: {a: '{nothing}'}", "tools.http.weather.query: {nothing} stands for nothing"),
        ("headers: {Host: x}", "tools.http.weather.headers.Host: is decided by the connection"),
        ("headers: {A: x, a: y}", "tools.http.weather.headers.a: is the same header as 'A'"),
        ("headers: {'a b': x}", "tools.http.weather.headers.a b: is not a header's name"),
        ("result: body.", "tools.http.weather.result: line 1"),
        ("result: answer", "tools.http.weather.result: there is no variable 'answer'"),
        ("output: {type: nothing}", "tools.http.weather.output: is no JSON schema"),
    ],
)
def test_what_an_http_tool_is_made_of_is_checked(faults_of: Faults, member: str, fault: str) -> None:
    text = HTTP.format(url="https://api.example.com/{city}") + f"      {member}\n"
    [found] = told(faults_of(text))
    assert found.startswith(fault)


def test_names_and_versions_are_unique(faults_of: Faults) -> None:
    text = """\
tools:
  hosts: [a.test]
  http:
    clock: {description: d, url: "http://a.test/"}
    a: {description: d, url: "http://a.test/"}
    a@1.0: {description: d, url: "http://a.test/"}
    a@2: {description: d, url: "http://a.test/"}
"""
    assert told(faults_of(text)) == [
        "tools.http.clock: 'clock' is a built-in tool; choose another name",
        "tools.http.a@1.0: is the same version as 'a'; give it another",
    ]


def test_hosts_name_hosts(faults_of: Faults) -> None:
    assert [fault.partition(";")[0] for fault in told(faults_of("tools: {hosts: ['*', 'http://a.test', a.test]}\n"))] == [
        "tools.hosts.0: fits every host",
        "tools.hosts.1: is no host",
    ]


def test_an_mcp_server_is_a_program_or_a_url(faults_of: Faults) -> None:
    text = """\
tools:
  mcp:
    a: {}
    b: {command: [x], url: "http://b.test/mcp"}
    c: {url: "file:///mcp"}
    d: {url: "http://d.test/mcp", env: {A: b}}
    e: {command: [x], headers: {A: b}}
    f: {command: [x], only: [y], tools: {z: {}}}
    g_h: {command: [x]}
"""
    found = told(faults_of(text))
    rule = "use letters, digits, -, beginning with a letter, at most 32 characters"
    assert found == [f"tools.mcp.g_h: is not a usable name; {rule}"]
    assert told(faults_of(text.rpartition("    g_h")[0])) == [
        "tools.mcp.a: needs either 'command', for a program, or 'url'",
        "tools.mcp.b: needs either 'command', for a program, or 'url'",
        "tools.mcp.c.url: is not a URL; write it like https://mcp.example.com/mcp",
        "tools.mcp.d: 'env' and 'cwd' are for a program; a URL has 'headers'",
        "tools.mcp.e.headers: are for a URL; a program has 'env'",
        "tools.mcp.f.tools.z: is not one of 'only', so it is not served",
    ]


def test_permissions_say_what_they_mean(faults_of: Faults) -> None:
    text = """\
tools:
  permissions:
    - {effect: allow, name: a, when: "argument.x"}
    - {effect: deny, name: a, tools: ["weather@latest", "no tool"]}
    - {effect: deny, recipes: [travel, travl, "tra*", "none-yet-*"]}
recipes: {travel: {strategy: tools}}
"""
    found = told(faults_of(text))
    assert found[0].startswith("tools.permissions.0.when: there is no variable 'argument'")
    assert found[1:] == [
        "tools.permissions.1.name: 'a' is the name of another rule too; every rule needs its own",
        "tools.permissions.1.tools.0: is no tool; write it like clock, files__* or weather@1",
        "tools.permissions.1.tools.1: is no tool; write it like clock, files__* or weather@1",
        "tools.permissions.2.recipes.1: 'travl' is not a recipe, so no call fits the rule by it; did you mean 'travel'?",
    ]
