"""JSON schemas of all kinds, as hypothesis draws them: sound ones, contradictions, and keywords with odd values."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

NAMES = ("a", "b", "c", "xa", "xy", "id", 'q"\\', "é", "")
PATTERNS = (
    *(
        "^a+$",
        "b",
        "^[a-c]{2,3}$",
        "x|y",
        "^(ab|cd)*$",
        "^$",
        "[0-9]{3}",
        "^[^a]",
        r"\d+",
        r"^\w+\.\w+$",
        "a$",
        r"^\S+$",
    ),
    *("^(?=.*a)b", "[a&&b]", "^x", "y$", "^.{2}$", "(?i)^k", "^[[]$", r"^\p{Lu}", "a{2", "^a{,2}$", r"a\b", "(?!x)y"),
)
FORMATS = ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "nope")
ODD: SearchStrategy[Any] = st.sampled_from([None, True, -1, 2.5, "x", [], {}, [None], 10**20, 1e300])
NUMBERS: SearchStrategy[Any] = st.one_of(
    st.integers(-50, 50),
    st.sampled_from([0.5, -0.25, 1.5, 0.1, 1e-7, 12345.678, 1e15, -1e15, 10**17, 2**63, 1e308, -1e20]),
)
COUNTS = st.sampled_from([0, 0, 1, 1, 2, 3, 7, 65536])
VALUES: SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "a", "abc", "é😀", 'q"\\\n', "2024-01-01"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)),
    max_leaves=4,
)
REFS = st.sampled_from(["#/$defs/d0", "#/$defs/d1", "#", "#/$defs/d0", "#/properties/a", "#/nope"])

Schemas = SearchStrategy[Any]


def _with(**keywords: SearchStrategy[Any]) -> Schemas:
    """Some of the keywords."""
    return st.fixed_dictionaries({}, optional=keywords)


def _typed(inner: Schemas) -> Schemas:
    """Keywords of each type, with or without `type`."""
    strings = _with(
        minLength=COUNTS, maxLength=COUNTS, pattern=st.sampled_from(PATTERNS), format=st.sampled_from(FORMATS)
    )
    numbers = _with(
        minimum=NUMBERS,
        maximum=NUMBERS,
        exclusiveMinimum=NUMBERS,
        exclusiveMaximum=NUMBERS,
        multipleOf=st.sampled_from([1, 2, 5, 0.5, 0.01, 0.25, 7, 0]),
    )
    arrays = _with(
        items=inner,
        prefixItems=st.lists(inner, min_size=1, max_size=3),
        minItems=COUNTS,
        maxItems=COUNTS,
        uniqueItems=st.booleans(),
    )
    objects = _with(
        properties=st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
        required=st.lists(st.sampled_from(NAMES), max_size=3),
        additionalProperties=inner,
        patternProperties=st.dictionaries(st.sampled_from(["^x", "y$", "^a", "^[a-z]+$"]), inner, max_size=2),
        minProperties=COUNTS,
        maxProperties=COUNTS,
        propertyNames=st.sampled_from([{"pattern": "^[a-x]+$"}, {"enum": ["a", "b"]}, {"maxLength": 2}, True]),
    )
    kinds = [("string", strings), ("number", numbers), ("integer", numbers), ("array", arrays), ("object", objects)]
    made = [st.builds(lambda words, name=name: {"type": name, **words}, words) for name, words in kinds]
    several = st.lists(st.sampled_from([name for name, _ in kinds] + ["null", "boolean"]), min_size=1, max_size=3)
    mixed = st.builds(
        lambda types, *words: {"type": types, **{k: v for w in words for k, v in w.items()}}, several, strings, numbers
    )
    return st.one_of(*made, strings, numbers, arrays, objects, mixed)


def _combined(inner: Schemas) -> Schemas:
    """Schemas of schemas, with keywords beside them."""
    lists = st.lists(inner, min_size=1, max_size=3)
    one = st.one_of(
        st.builds(lambda arms: {"anyOf": arms}, lists),
        st.builds(lambda arms: {"allOf": arms}, lists),
        st.builds(lambda arms: {"oneOf": arms}, lists),
        st.builds(lambda target: {"$ref": target}, REFS),
        st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=5)),
        st.builds(lambda value: {"const": value}, VALUES),
    )
    beside = st.builds(lambda left, right: {**left, **right} if isinstance(right, dict) else left, one, inner)
    return st.one_of(one, beside)


def _odd(inner: Schemas) -> Schemas:
    """A keyword with a value that it must not have, or one that is not supported."""
    words = (
        "type enum const required properties items anyOf $ref minLength maxItems minimum multipleOf pattern format not "
        "if contains dependentRequired unevaluatedProperties title $comment examples additionalItems nullable"
    )
    keyword = st.sampled_from(words.split())
    return st.builds(
        lambda word, value, rest: {**(rest if isinstance(rest, dict) else {}), word: value}, keyword, ODD, inner
    )


def _node(inner: Schemas) -> Schemas:
    return st.one_of(_typed(inner), _typed(inner), _combined(inner), _odd(inner))


_LEAVES: Schemas = st.one_of(
    st.sampled_from([True, {}, {"type": "null"}, {"type": "boolean"}, {"type": "string"}, {"type": "integer"}, False]),
    _typed(st.just({})),
)

SCHEMAS: Schemas = st.builds(
    lambda root, definitions: {**root, "$defs": definitions} if isinstance(root, dict) else root,
    st.recursive(_LEAVES, _node, max_leaves=8),
    st.fixed_dictionaries({"d0": st.recursive(_LEAVES, _node, max_leaves=4), "d1": _LEAVES}),
)
