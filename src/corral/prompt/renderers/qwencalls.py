"""The XML calls of Qwen3-Coder, which Qwen3.5 and Nemotron took over: what the models are told of them, and values."""

from __future__ import annotations

from typing import Any

from corral.prompt.govalues import printed
from corral.prompt.renderers.tooljson import value_json

HOW_TO_CALL = """\
</tools>

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within \
<tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell \
the user about function calls
</IMPORTANT>"""


def argument_text(value: Any) -> str:
    """A call's argument: strings bare, lists and objects as JSON, the rest as Go prints it."""
    if value is None:
        return "null"
    return value_json(value) if isinstance(value, dict | list) else printed(value)
