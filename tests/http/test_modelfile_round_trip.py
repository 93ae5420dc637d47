"""`/api/show` prints a Modelfile that `/api/create` makes the same model of."""

from __future__ import annotations

import pytest
from tests.fakes.server import RunningServer

ODD = [
    '"Hi" is what you say',
    '"""',
    '"quoted"',
    '"',
    'first "line"\nsecond # line\n',
    'a line with """\nand another ""\n"""',
    " lead",
    "trail\t",
    "\n\n",
    " ",
    "\t",
    "one\rtwo\r\nthree",
    "\u3000全角\u3000",
    "zwj \U0001f469\u200d\U0001f4bb zwnj \u200c sep \u2028 end",
    "nul \x00 esc \x1b",
    "# not a comment",
    "SYSTEM nested",
    '# corral:json\n"""x"""\ny',
]


def _from(model: str, shown: str) -> str:
    """What its second line tells the user to do."""
    head, _, rest = shown.partition("\nFROM ")
    return f"{head}\nFROM {model}\n" + rest.partition("\n")[2]


@pytest.mark.parametrize("text", ODD)
async def test_the_model_is_the_same_again(server: RunningServer, text: str) -> None:
    template = text.replace("{", "") + "{{ .Prompt }}" + text
    made = {
        "model": "one",
        "from": "go",
        "stream": False,
        "system": text,
        "template": template,
        "license": [text, "MIT"],
        "parameters": {"stop": [text, "b"], "temperature": 0.3},
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}],
    }
    assert await server.call("POST", "/api/create", made) == (200, {"status": "success"})
    one = (await server.call("POST", "/api/show", {"model": "one"}))[1]
    assert (one["system"], one["template"]) == (text, template)
    again = _from("go", one["modelfile"])
    answer = await server.call("POST", "/api/create", {"model": "two", "stream": False, "modelfile": again})
    assert answer == (200, {"status": "success"})
    two = (await server.call("POST", "/api/show", {"model": "two"}))[1]
    kept = ("license", "parameters", "template", "system", "messages", "capabilities")
    assert {key: two[key] for key in kept} == {key: one[key] for key in kept}


async def test_a_model_without_a_template_gets_none(server: RunningServer) -> None:
    shown = (await server.call("POST", "/api/show", {"model": "jinja"}))[1]
    assert "TEMPLATE {{ .Prompt }}\n" in shown["modelfile"]
    again = _from("jinja", shown["modelfile"])
    await server.call("POST", "/api/create", {"model": "two", "stream": False, "modelfile": again})
    assert (await server.call("POST", "/api/show", {"model": "two"}))[1]["template"] == shown["template"]


async def test_a_wrong_parameter_is_named_with_its_line(server: RunningServer) -> None:
    body = {"model": "x", "stream": False, "modelfile": "FROM go\n\nPARAMETER temperature hot\n"}
    status, answer = await server.call("POST", "/api/create", body)
    assert (status, answer) == (400, {"error": "(line 3): PARAMETER temperature: invalid float value [hot]"})
    body = {"model": "x", "from": "go", "stream": False, "parameters": {"temperature": "hot"}}
    status, answer = await server.call("POST", "/api/create", body)
    assert (status, answer) == (400, {"error": 'option "temperature" must be of type float32'})
