"""The engine's log: bounded, without server paths, and its most telling line comes last."""

from __future__ import annotations

import pytest

from corral.runner.logs import EngineLog

LOAD = b"""0.00.533.219 I load_tensors:   CPU_Mapped model buffer size =    92.00 MiB
0.00.538.659 I llama_context:        CPU  output buffer size =     0.50 MiB
0.00.538.836 I llama_kv_cache:        CPU KV buffer size =    90.00 MiB
0.00.595.711 I sched_reserve:        CPU compute buffer size =     2.50 MiB
"""
FAILURE = b"""0.00.008.985 E llama_model_load: error loading model: failed to load model from /srv/x/sha256-aa
0.00.008.987 E cmn  common_init_: failed to load model '/srv/x/sha256-aa'
0.00.020.160 E srv          init: exiting due to model loading error
"""


def test_the_memory_breakdown_is_read_from_the_load() -> None:
    log = EngineLog()
    log.feed(LOAD)
    memory = log.memory(5, 4)
    assert (memory.weights_bytes, memory.kv_cache_bytes, memory.compute_bytes) == (92 * 2**20, 90 * 2**20, 3 * 2**20)
    assert (memory.rss_bytes, memory.anonymous_bytes) == (5, 4)


def test_the_cause_comes_last_and_paths_are_hidden() -> None:
    log = EngineLog({"/srv/x/sha256-aa": "sha256-aa"})
    log.feed(FAILURE)
    assert log.tail()[-1] == "llama_model_load: error loading model: failed to load model from sha256-aa"
    assert "/srv" not in "".join(log.tail())


def test_lines_may_come_in_pieces_and_the_last_without_an_end() -> None:
    log = EngineLog()
    for byte in b"one\ntwo":
        log.feed(bytes([byte]))
    log.finish()
    assert log.tail() == ("one", "two")


def test_the_tail_is_bounded_in_lines_and_in_their_length() -> None:
    log = EngineLog()
    log.feed(b"x\n" * 1000 + b"y" * 10_000_000)
    log.finish()
    assert len(log.lines) == 100
    assert max(map(len, log.lines)) <= 2000


def test_what_lies_on_a_gpu_is_told_from_what_the_host_keeps_for_it() -> None:
    log = EngineLog()
    log.feed(b"""0.1.1.2 I load_tensors:        CUDA0 model buffer size =    90.00 MiB
0.1.1.2 I load_tensors:   CPU_Mapped model buffer size =     2.00 MiB
0.1.1.2 I llama_kv_cache:      CUDA0 KV buffer size =    10.00 MiB
0.1.1.2 I sched_reserve:  CUDA_Host compute buffer size =     5.00 MiB
0.1.1.2 I sched_reserve:      CUDA0 compute buffer size =     3.00 MiB
""")
    memory = log.memory()
    assert memory.device_bytes == 103 * 2**20
    assert memory.weights_bytes + memory.kv_cache_bytes + memory.compute_bytes == 110 * 2**20
    assert not log.device_error


def test_with_every_layer_on_a_gpu_all_counts_as_the_gpus() -> None:
    log = EngineLog()
    log.feed(LOAD + b"0.1.1.2 I load_tensors: offloaded 31/31 layers to GPU\n")
    memory = log.memory()
    assert memory.device_bytes == memory.weights_bytes + memory.kv_cache_bytes + memory.compute_bytes


def test_a_draft_on_the_gpu_is_not_the_model() -> None:
    log = EngineLog()
    log.feed(b"0.1.1.2 I load_tensors: offloaded 5/31 layers to GPU\n")
    log.feed(LOAD + b"0.1.1.2 I load_tensors: offloaded 9/9 layers to GPU\n")
    assert log.memory().device_bytes == 0


def test_why_no_gpu_was_found_is_kept_and_what_went_wrong_while_loading_explains_no_later_death() -> None:
    log = EngineLog()
    log.feed(b"ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\n")
    assert log.device_error == "failed to initialize CUDA: no CUDA-capable device is detected"
    assert "CUDA" in log.tail()[-1]
    log.loaded()
    log.feed(b"serving\n")
    assert log.tail()[-1] == "serving"


def test_that_memory_ran_out_is_remembered_when_the_line_has_left_the_tail() -> None:
    log = EngineLog()
    log.feed(b"cudaMalloc failed: out of memory\n" + b"x\n" * 200)
    assert log.ran_out_of_memory


def test_last_words_are_those_that_came_with_the_end() -> None:
    log = EngineLog()
    log.feed(b"0.1 E at 3(5): failed to compile JSON schema\n", now=100.0)
    log.loaded()
    log.feed(b"0.1 E at 3(5): failed to compile JSON schema\n0.2 I prompt cache update took 0.55 ms\n", now=100.0)
    assert log.last_words(ended=101.0, moved=99.0)[-1] == "at 3(5): failed to compile JSON schema"
    assert log.last_words(ended=101.0, moved=100.5) == ()  # it went on afterwards
    assert log.last_words(ended=130.0, moved=99.0) == ()  # long ago
    log.feed(b"GGML_ASSERT(a == b) failed\n", now=130.0)
    assert log.last_words(ended=130.1, moved=129.0)[-1] == "GGML_ASSERT(a == b) failed"


def test_a_death_without_a_word_is_told_without_one() -> None:
    log = EngineLog()
    log.loaded()
    log.feed(b"0.2 I get_availabl: prompt cache update took 0.55 ms\n", now=1.0)
    assert log.last_words(ended=1.0, moved=0.0) == ()


def test_a_template_that_does_not_parse_is_told_by_its_error_and_not_by_advice() -> None:
    log = EngineLog()
    log.feed(b"""0.00.1 E srv          init: init: chat template parsing error: Unexpected token type: CloseExpression
0.00.1 E srv          init: init: please consider disabling jinja via --no-jinja, or use a custom chat template
0.00.1 E srv          init: init: for example: --no-jinja --chat-template chatml
0.00.007.734 I
""")
    assert log.tail()[-1] == "init: init: chat template parsing error: Unexpected token type: CloseExpression"
    assert log.lines[-1].endswith("chatml")


def test_figures_that_have_been_made_up_are_not_taken() -> None:
    log = EngineLog()
    for mib in (b"9" * 500, b"1.2.3", b"99999999999", b"1e300", b"-5"):
        log.feed(b"load_tensors: CPU model buffer size = " + mib + b" MiB\n")
    assert log.memory().weights_bytes == 0
    log.loaded()
    log.feed(LOAD)
    assert log.memory().weights_bytes == 0  # what it says later is nobody's business


def test_a_grammar_that_the_engine_gives_up_is_told_at_once() -> None:
    log, lost = EngineLog(), list[str]()
    log.on_grammar_lost = lost.append
    log.feed(b"0.01.000.000 E llg error: at 3(5): failed to compile JSON schema: Unknown format: x\n  1 | start: r1\n")
    log.feed(b"0.01.000.000 I slot launch_slot_: the text says llg error: nothing\n")
    assert lost == ["at 3(5): failed to compile JSON schema: Unknown format: x"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["0.00.1 E common_chat_templates_init: error: Unexpected token type"], "Unexpected token type"),
        (["0.00.1 E While executing CallExpression", "0.00.1 E Error: Jinja Exception: need system"], "need system"),
        ([], "it does not parse"),
        (["0.00.1 E Error: " + "x" * 900], "x" * 200),
    ],
)
def test_a_chat_template_that_is_refused_is_told_with_the_reason(lines: list[str], why: str) -> None:
    log = EngineLog()
    advice = "0.00.1 E init: init: please consider disabling jinja via --no-jinja, or use a custom chat template"
    log.feed("".join(f"{line}\n" for line in lines).encode())
    assert log.template_error == ""
    log.feed(f"{advice}\n".encode())
    assert log.template_error == why
