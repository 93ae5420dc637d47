"""What each command asks the server for, prints and returns. Tables are those of Ollama's own tests."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.library import add_kit_model
from tests.fakes.native_api import FakeApi, Reply
from tests.fakes.stores import add_model

import corral
from corral.cli.console import Console
from corral.cli.models import processor_split
from corral.cli.show import describe
from corral.config import Settings
from corral.store import ModelStore

Cli = Callable[..., Any]
NOT_FOUND = Reply({"error": "model 'foo' not found"}, 404)


def ago(**parts: float) -> str:
    return (datetime.now(UTC) - timedelta(**parts)).isoformat()


def test_list_is_ollamas_table(cli: Cli, api: FakeApi) -> None:
    api.routes["GET /api/tags"] = Reply(
        {
            "models": [
                {"name": "model1", "digest": "sha256:abc123", "size": 1024, "modified_at": ago(hours=24)},
                {"name": "model2", "digest": "sha256:def456", "size": 2048, "modified_at": ago(hours=48)},
            ]
        }
    )
    assert cli("list").out == (
        "NAME      ID              SIZE      MODIFIED     \n"
        "model1    sha256:abc12    1.0 KB    24 hours ago    \n"
        "model2    sha256:def45    2.0 KB    2 days ago      \n"
    )
    assert cli("ls", "MODEL1", "ignored").out.count("\n") == 2


def test_list_shows_what_could_be_pulled(cli: Cli, api: FakeApi) -> None:
    models = [{"name": "a:1b", "size": 1_500_000_000}, {"name": "b:pt", "size": 92_000_000, "about": "a base model"}]
    api.routes["GET /api/catalog"] = Reply({"models": models})
    assert cli("list", "--available").out == (
        "NAME    SIZE      NOTE         \na:1b    1.5 GB                    \nb:pt    92 MB     a base model    \n"
    )
    assert cli("list", "--available", "B").out.count("\n") == 2
    assert json.loads(cli("list", "--available", "--json").out) == {"models": models}


def test_list_of_an_empty_store_is_the_header(cli: Cli, api: FakeApi) -> None:
    api.routes["GET /api/tags"] = Reply({"models": []})
    assert cli("list").out == "NAME    ID    SIZE    MODIFIED \n"


def test_ps_shows_where_a_model_is_and_until_when(cli: Cli, api: FakeApi) -> None:
    model = {"digest": "0123456789abcdef", "size": 2_000_000_000, "context_length": 4096}
    api.routes["GET /api/ps"] = Reply(
        {
            "models": [
                {"name": "a:latest", "size_vram": 0, "expires_at": ago(minutes=-4, seconds=-30), **model},
                {"name": "b:latest", "size_vram": 1_040_000_000, "expires_at": ago(seconds=5), **model},
            ]
        }
    )
    assert cli("ps").out == (
        "NAME        ID              SIZE    PROCESSOR          CONTEXT    UNTIL              \n"
        "a:latest    0123456789ab    2 GB    100% CPU           4096       4 minutes from now    \n"
        "b:latest    0123456789ab    2 GB    48%/52% CPU/GPU    4096       Stopping...           \n"
    )
    assert cli("ps", "B").out.count("\n") == 1


def test_ps_names_the_node_of_a_cluster(cli: Cli, api: FakeApi) -> None:
    model = {
        "digest": "0123456789abcdef",
        "size": 2,
        "size_vram": 0,
        "context_length": 64,
        "expires_at": ago(minutes=-9),
    }
    api.routes["GET /api/ps"] = Reply({"models": [{"name": "a:latest", "node": "n2", **model}]})
    titles, row = cli("ps").out.splitlines()
    assert titles.split()[-1] == "NODE"
    assert row.split()[-1] == "n2"


@pytest.mark.parametrize(
    ("size", "on_gpu", "text"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (100, 101, "Unknown"),
        (0, 1, "Unknown"),
        (1000, 5, "100%/0% CPU/GPU"),
    ],
)
def test_processor_split(size: int, on_gpu: int, text: str) -> None:
    assert processor_split(size, on_gpu) == text


def test_cp_says_what_it_copied(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/copy"] = Reply()
    assert cli("cp", "a", "b").out == "copied 'a' to 'b'\n"
    assert api.bodies("POST /api/copy") == [{"source": "a", "destination": "b"}]


def test_cp_passes_the_servers_words_on(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/copy"] = Reply({"error": 'model "foo" not found'}, 404)
    outcome = cli("cp", "foo", "b")
    assert (outcome.status, outcome.out, outcome.err) == (1, "", 'Error: model "foo" not found\n')


def test_rm_unloads_then_deletes_and_stops_at_the_first_error(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/show"] = Reply({})
    api.routes["POST /api/generate"] = Reply({"done": True})
    api.routes["DELETE /api/delete"] = lambda body: NOT_FOUND if body["model"] == "foo" else Reply()
    outcome = cli("rm", "a", "foo", "c")
    assert (outcome.status, outcome.out) == (1, "deleted 'a'\n")
    assert outcome.err == "Error: model 'foo' not found\n"
    assert [body["model"] for body in api.bodies("DELETE /api/delete")] == ["a", "foo"]
    assert api.bodies("POST /api/generate")[0]["keep_alive"] == 0


def test_rm_goes_on_when_the_model_cannot_be_stopped(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/show"] = Reply({"error": "boom"}, 500)
    api.routes["DELETE /api/delete"] = Reply()
    outcome = cli("rm", "a")
    assert (outcome.status, outcome.out) == (0, "deleted 'a'\n")
    assert outcome.err == "Warning: unable to stop model 'a'\n"


def test_stop_is_silent_and_names_what_it_cannot_find(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/show"] = Reply({})
    api.routes["POST /api/generate"] = Reply({"done": True})
    assert cli("stop", "a").out == ""
    api.routes["POST /api/show"] = NOT_FOUND
    assert cli("stop", "foo").err == 'Error: couldn\'t find model "foo" to stop\n'


def test_show_prints_one_field_with_a_newline_only_where_ollama_does(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/show"] = Reply({"license": "MIT", "template": "T", "system": "S", "modelfile": "M"})
    assert cli("show", "--license", "m").out == "MIT\n"
    assert cli("show", "m", "--modelfile").out == "M\n"
    assert cli("show", "m", "--template").out == "T"
    assert cli("show", "m", "--system").out == "S"


def test_show_takes_one_selector(cli: Cli) -> None:
    outcome = cli("show", "m", "--license", "--system")
    assert outcome.err == (
        "Error: only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified\n"
    )


DETAILS = {"family": "test", "parameter_size": "7B", "quantization_level": "FP16"}
BARE = "  Model\n    architecture    test    \n    parameters      7B      \n    quantization    FP16    \n\n"


def test_show_with_bare_details() -> None:
    assert describe({"details": DETAILS}) == BARE


def test_show_with_model_info() -> None:
    info = {
        "general.architecture": "test",
        "general.parameter_count": 7_000_000_000,
        "test.context_length": 131072,
        "test.embedding_length": 0,
    }
    assert describe({"details": DETAILS, "model_info": info}) == (
        "  Model\n"
        "    architecture        test      \n"
        "    parameters          7B        \n"
        "    context length      131072    \n"
        "    embedding length    0         \n"
        "    quantization        FP16      \n"
        "\n"
    )


def test_show_verbose_has_metadata_and_tensors() -> None:
    info = {"general.parameter_count": 8_000_000_000, "some.false": False, "some.list": [1, 2, 30, 400, 5], "x.y": {}}
    tensors = [{"name": "blk.0.attn_k.weight", "type": "BF16", "shape": [42, 3117]}]
    text = describe({"details": DETAILS, "model_info": info, "tensors": tensors}, verbose=True)
    assert text.partition("  Metadata\n")[2].splitlines() == [
        f"    general.parameter_count    {'8e+09':<23}    ",
        f"    some.false                 {'false':<23}    ",
        f"    some.list                  {'[1 2 30 ...+2 more]':<23}    ",
        "    x.y                        map[string]interface {}    ",
        "",
        "  Tensors",
        "    blk.0.attn_k.weight    BF16    [42 3117]    ",
        "",
    ]


def test_show_parameters_capabilities_and_projector() -> None:
    projector = {
        "general.architecture": "clip",
        "general.parameter_count": 133_700_000,
        "clip.vision.embedding_length": 0,
        "clip.vision.projection_dim": 0,
    }
    answer = {
        "details": DETAILS,
        "capabilities": ["vision", "tools"],
        "projector_info": projector,
        "parameters": "stop never\ntemperature 99",
    }
    assert describe(answer) == BARE + (
        "  Capabilities\n    vision    \n    tools     \n\n"
        "  Projector\n"
        "    architecture        clip       \n"
        "    parameters          133.70M    \n"
        "    embedding length    0          \n"
        "    dimensions          0          \n\n"
        "  Parameters\n    stop           never    \n    temperature    99       \n\n"
    )


def test_show_cuts_system_and_license_to_two_lines() -> None:
    answer = {"details": DETAILS, "system": "You are a pirate!\n\nAhoy, matey!\nWeigh anchor!\n", "license": "MIT\n"}
    assert describe(answer) == BARE + (
        "  System\n    You are a pirate!    \n    Ahoy, matey!         \n    ...                  \n\n"
        "  License\n    MIT    \n\n"
    )


def test_pull_prints_each_new_status_once_when_nobody_watches(cli: Cli, api: FakeApi) -> None:
    digest = f"sha256:{'ab' * 32}"
    events: list[dict[str, Any]] = [{"status": "pulling manifest"}, {"status": "pulling manifest"}]
    events += [
        {"status": "pulling abababababab", "digest": digest, "total": 2000, "completed": n} for n in (0, 900, 2000)
    ]
    api.routes["POST /api/pull"] = Reply(stream=[*events, {"status": "success"}])
    outcome = cli("pull", "m", "--insecure")
    assert outcome.status == 0
    assert outcome.out == ""
    assert outcome.err == "pulling manifest\npulling abababababab: 2 KB\nsuccess\n"
    assert api.bodies("POST /api/pull")[0]["insecure"] is True


def test_pull_of_an_unknown_model(cli: Cli, api: FakeApi) -> None:
    error = {"error": "pull model manifest: file does not exist"}
    api.routes["POST /api/pull"] = Reply(stream=[{"status": "pulling manifest"}, error])
    outcome = cli("pull", "foo")
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1] == "Error: pull model manifest: file does not exist"


def test_push_says_where_the_model_is(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/push"] = Reply(stream=[{"status": "success"}])
    assert cli("push", "me/m").out == "\nYou can find your model at:\n\n\thttps://ollama.com/me/m\n"
    assert cli("push", "host:5000/me/m:1").out == "\nYou can find your model at:\n\n\thost:5000/me/m:1\n"


def test_push_without_rights(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/push"] = Reply(stream=[{"error": "access denied"}])
    assert cli("push", "library/m").err == (
        "Error: you are not authorized to push to this namespace, create the model under a namespace you own\n"
    )


def test_streaming_calls_prefix_the_status_and_others_do_not(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/pull"] = Reply({"error": "bad name"}, 400)
    api.routes["GET /api/tags"] = Reply({"error": "bad name"}, 400)
    assert cli("pull", "m").err == "Error: 400 Bad Request: bad name\n"
    assert cli("list").err == "Error: bad name\n"


def test_an_error_without_words_points_at_the_logs(cli: Cli, api: FakeApi) -> None:
    api.routes["GET /api/tags"] = Reply({}, 500)
    assert cli("list").err == "Error: something went wrong, please see the corral server logs for details\n"
    api.routes["GET /api/tags"] = Reply(status=502, text="bad gateway")
    assert cli("list").err == "Error: bad gateway\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_server_is_an_error_that_says_what_to_do(cli: Cli) -> None:
    outcome = cli("ps", environ={"CORRAL_HOST": f"127.0.0.1:{free_port()}"})
    assert outcome.status == 1
    assert outcome.err == "Error: could not connect to corral server, run 'corral serve' to start it\n"


def test_the_count_is_checked_before_the_server(cli: Cli) -> None:
    outcome = cli("show", environ={"CORRAL_HOST": f"127.0.0.1:{free_port()}"})
    assert outcome.err == "Error: accepts 1 arg(s), received 0\n"


def test_a_bad_setting_names_itself(cli: Cli) -> None:
    outcome = cli("list", environ={"CORRAL_MAX_QUEUE": "many"})
    assert outcome.status == 1
    assert outcome.err == "Error: CORRAL_MAX_QUEUE='many': expected a whole number, 0 or more\n"


def test_an_unknown_command_suggests(cli: Cli) -> None:
    outcome = cli("lst")
    assert outcome.status == 1
    assert outcome.err == 'Error: unknown command "lst" for "corral"\n\nDid you mean this?\n\tlist\n\tps\n\n'
    assert cli("xyzzyfoo").err == 'Error: unknown command "xyzzyfoo" for "corral"\n'


def test_nothing_and_help_print_the_same_and_succeed(cli: Cli) -> None:
    bare, flag, word = cli(), cli("--help"), cli("help")
    assert bare.status == flag.status == word.status == 0
    assert bare.out == flag.out == word.out
    names = [line.split()[0] for line in bare.out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    wanted = (
        "serve create show run ui stop pull push login logout list ps top launch batch cp rm tune import export fsck "
        "prune doctor engine"
    )
    assert names == [*wanted.split(), "completion", "help"]


def test_the_help_of_a_command_has_cobras_layout(cli: Cli) -> None:
    assert (
        cli("help", "ls").out
        == cli("list", "-h").out
        == (
            "List models\n\nUsage:\n  corral list [flags]\n\nAliases:\n  list, ls\n\n"
            "Flags:\n      --available   List what pull takes from the Python package index\n"
            "  -h, --help        help for list\n      --json        Print the server's answer as JSON\n\n"
            "Environment Variables:\n      CORRAL_HOST                   address to listen on, or to connect to\n"
        )
    )
    assert '      --think string[="true"]   ' in cli("run", "--help").out


def test_version_asks_the_server(cli: Cli, api: FakeApi) -> None:
    api.routes["GET /api/version"] = Reply({"version": corral.__version__})
    assert cli("-v").out == f"corral version is {corral.__version__}\n"
    api.routes["GET /api/version"] = Reply({"version": "0.0.1"})
    assert cli("--version").out == f"corral version is 0.0.1\nWarning: client version is {corral.__version__}\n"
    outcome = cli("--version", environ={"CORRAL_HOST": f"127.0.0.1:{free_port()}"})
    assert outcome.status == 0
    assert outcome.out == (
        f"corral {corral.__version__}\nWarning: could not connect to a running Corral instance\n"
        f"Warning: client version is {corral.__version__}\n"
    )


def test_an_output_that_cannot_show_a_character_shows_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    Console.standard().print("naïve 模型")
    assert raw.getvalue() == b"na?ve ??\n"


def test_a_reader_that_left_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    child = subprocess.Popen([sys.executable, "-m", "corral", "--help"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (141, b"")


def test_fsck_and_prune_of_an_empty_store(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "models" / "blobs").mkdir(parents=True)
    (tmp_path / "models" / "manifests").mkdir()
    checked, pruned = cli("fsck"), cli("prune")
    assert (checked.status, checked.out) == (0, "checked 0 models, 0 blobs, 0 B: no problems found\n")
    assert (pruned.status, pruned.out) == (0, "freed 0 B\n")


def test_fsck_names_a_damaged_blob_and_fails(cli: Cli, tmp_path: Path) -> None:
    blobs = tmp_path / "models" / "blobs"
    blobs.mkdir(parents=True)
    (tmp_path / "models" / "manifests").mkdir()
    (blobs / f"sha256-{'0' * 64}").write_bytes(b"not that")
    outcome = cli("fsck")
    assert outcome.status == 1
    assert f"blob does not hash to its name: blobs/sha256-{'0' * 64}" in outcome.out
    assert outcome.out.splitlines()[-1] == "checked 0 models, 1 blobs, 8 B: 1 problem found"


def test_import_says_of_every_model_of_an_ollama_store_whether_it_runs_here(cli: Cli, tmp_path: Path) -> None:
    theirs = ModelStore(tmp_path / "ollama")
    add_kit_model(theirs, "gemma3-vision-q4")
    add_model(theirs, "plain", make_gguf(tmp_path / "a.gguf", "llama", {}, {"w": (2, 2)}))
    add_model(theirs, "solar", make_gguf(tmp_path / "b.gguf", "solar", {}, {"w": (2, 2)}))
    outcome = cli("import", "ollama", str(theirs.root))
    assert outcome.status == 0
    assert [line.partition("): ")[2] for line in sorted(outcome.out.splitlines())] == [
        "runs here, sees images",
        "runs here",
        'cannot run here: its architecture, "solar", is not one that this server\'s engine knows; '
        "a newer Corral may know it; else look for another build of the model, as a GGUF for llama.cpp",
    ]


def test_import_of_an_unknown_source_lists_the_known(cli: Cli) -> None:
    assert cli("import", "gpt4all").err == (
        'Error: unknown source "gpt4all" (must be ollama, lmstudio, hf-cache, or an archive that export wrote)\n'
    )
    assert "is no directory" in cli("import", "ollama", "/nowhere/at/all").err


def test_no_color_reaches_the_settings() -> None:
    assert Settings.from_env({"HOME": "/", "NO_COLOR": "1"}).color is False
    assert Settings.from_env({"HOME": "/", "NO_COLOR": ""}).color is True


def test_flags_before_the_command_are_the_commands(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/show"] = Reply({"license": "MIT"})
    assert cli("--license=true", "show", "m").out == "MIT\n"
    outcome = cli("--keepalive", "5m", "ps")
    assert (outcome.status, outcome.err) == (1, "Error: unknown flag: --keepalive\n")
    outcome = cli("--license", "show")
    assert (outcome.status, outcome.err) == (1, "Error: unknown flag: --license\n")
    assert cli("-").out == cli("--", "ps").out == cli().out


def test_a_port_that_is_none_is_told_before_anything_is_asked(cli: Cli) -> None:
    done = cli("ps", environ={"CORRAL_HOST": "", "OLLAMA_HOST": "127.0.0.77:99999"})
    assert done.err.startswith("Warning: 99999 is no port, http://127.0.0.77:11434 is asked\n")
    done = cli("ps", environ={"CORRAL_HOST": "127.0.0.77:abc"})
    assert done.err.startswith("Error: CORRAL_HOST='127.0.0.77:abc': expected an address such as 127.0.0.1:11434")
    assert done.status == 1
