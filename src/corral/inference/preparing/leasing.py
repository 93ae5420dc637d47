"""From a request to a leased runner: find the model, merge the options, plan the load, hold the lease.

Called by every use case.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from corral.aio import LARGE_CHARACTERS, run_blocking
from corral.core import Capability, Common, Notice
from corral.errors import (
    ChatTemplateUnusable,
    InvalidRequest,
    ModelNotFound,
    RunnerDied,
    RunnerKilled,
    UnsupportedModel,
)
from corral.goquote import quote
from corral.inference.preparing.checks import check_makes_no_images
from corral.inference.preparing.choices import Choices, choose
from corral.inference.preparing.way import is_rendered
from corral.inference.progress import Emit
from corral.inference.shared import Shared
from corral.names import ModelName, split_source
from corral.sched.memory import HostFigures
from corral.sched.plan import LaunchPlan, Purpose, plan
from corral.sched.request import Lease, LeaseRequest
from corral.store.models import Model

_PLAIN = "chatml"  # stands in the place of the model's own template, and is not used
_NO_SHIFT_FAMILIES = frozenset({"deepseek2"})  # Source: ollama server/routes.go, 2026-08


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request whose model and options are known: what to load, and what has to be told so far."""

    common: Common
    model: Model
    choices: Choices
    launch: LaunchPlan
    notices: tuple[Notice, ...]
    plan: Callable[[int, HostFigures], LaunchPlan]  # the same with a window of at least so many tokens; blocking
    slots: int = 1
    large: bool = False  # as of LeaseRequest
    templated: bool = False  # whether the engine's template makes the prompt
    least_window: int = 0  # tokens that a runner must have been planned with
    prefixes: tuple[str, ...] = ()  # as of LeaseRequest
    llguidance: bool = True  # whether the engine has it; an external llama-server may not

    @property
    def window(self) -> int:
        """Tokens per slot that were planned; a lease may have fewer."""
        return self.launch.spec.context_window


async def find_model(shared: Shared, common: Common, *, required: bool, pull_hint: bool = False) -> Model:
    """The model that a request names.

    required: an empty name is a bad request instead of an unknown model. pull_hint: the other wording for an unknown
    one. Raises InvalidRequest, UnsupportedModel, InvalidModelName, ModelNotFound, BlobMissing, CloudDisabled.
    """
    sent = common.model
    if not sent.strip():
        if required:
            raise InvalidRequest("model is required", field="model")
        raise ModelNotFound(sent)

    def load() -> Model:
        model = shared.store.load(shared.store.resolve(sent))
        if model.template is None or not shared.bad_templates.knows(model):
            return model
        mended = replace(model, go_template_setting=True)  # it has another template, whichever would be preferred
        mended.read_files()
        return mended

    try:
        model = await run_blocking(load)
    except ModelNotFound as error:
        hint = f"model {quote(sent)} not found, try pulling it first" if pull_hint else ""
        raise ModelNotFound(sent, hint) from error
    check_makes_no_images(model)
    if model.weights is None:
        raise InvalidRequest(f"{model.name.short} has no GGUF weights, and Corral runs nothing else", field="model")
    if not model.verdict.runs:
        raise UnsupportedModel(model.name.short, model.verdict.why_not)
    return model


def loaded_key(shared: Shared, common: Common) -> str | None:
    """The runner key of a loaded model that may have been deleted since; None when no runner has this name."""
    name = ModelName.parse(split_source(common.model).name)
    for row in shared.scheduler.loaded():
        if row.name.lower() == name.short.lower():
            return row.key
    return None


async def prepare(
    shared: Shared,
    common: Common,
    model: Model,
    *,
    shift: bool | None = None,
    slots: int = 1,
    characters: int = 0,
    templated: bool = False,
) -> Prepared:
    """Options merged and checked, and the load planned.

    characters: of all its texts; templated: the engine's template will make the prompt.

    Raises InvalidRequest for an option of the wrong type, and for any notice so far when the caller is strict;
    ChatTemplateUnusable when that is known of the template.
    """
    if templated:
        shared.bad_templates.check(model)
    host = await shared.scheduler.figures()
    choices = choose(shared.settings, model.parameters, common.options, host)
    purpose = purpose_of(model)

    def make_plan(least_window: int, host: HostFigures) -> LaunchPlan:
        return plan(
            model,
            choices.values,
            shared.settings,
            host,
            explicit=choices.explicit,
            purpose=purpose,
            context_shift=model.family not in _NO_SHIFT_FAMILIES if shift is None else shift,
            chat_template=_PLAIN if is_rendered(model) or shared.bad_templates.knows(model) else None,
            least_window=least_window,
            reading=shared.scheduler.reading(model.weights),
        )

    launch = await run_blocking(make_plan, 0, host)
    notices = (*common.notices, *choices.notices, *launch.notices)
    if (common.strict or shared.settings.strict) and notices:
        raise InvalidRequest(notices[0].message, field=str(notices[0].facts.get("parameter", "options")))
    ours = not shared.settings.llama_server
    large = characters > LARGE_CHARACTERS
    return Prepared(common, model, choices, launch, notices, make_plan, slots, large, templated, llguidance=ours)


def purpose_of(model: Model) -> Purpose:
    """What the model's runner is for."""
    if Capability.EMBEDDING not in model.capabilities:
        return Purpose.COMPLETION
    header = model.header
    is_ranker = header is not None and header.get("pooling_type") == _RANK_POOLING
    return Purpose.RERANK if is_ranker else Purpose.EMBEDDING


_RANK_POOLING = 4  # llama.cpp LLAMA_POOLING_TYPE_RANK


@asynccontextmanager
async def leased(shared: Shared, prepared: Prepared, emit: Emit | None = None) -> AsyncIterator[Lease]:
    """The runner for a prepared request, loaded if need be; a runner that fails meanwhile is reported.

    Raises what `Scheduler.lease` and the runner's calls raise.
    """
    model, launch = prepared.model, prepared.launch
    want = LeaseRequest(
        key=str(model.weights),
        name=model.name.short,
        digest=model.digest,
        spec=launch.spec,
        automatic=launch.automatic,
        keep_alive_s=prepared.common.keep_alive_s,
        caller=prepared.common.caller,
        details=_details(model),
        memory=launch.memory,
        on_progress=emit,
        slots=prepared.slots,
        large=prepared.large,
        least_window=prepared.least_window,
        prefixes=prepared.prefixes,
    )
    async with AsyncExitStack() as stack:
        try:
            lease = await stack.enter_async_context(shared.scheduler.lease(want))
        except ChatTemplateUnusable as error:
            shared.bad_templates.note(model, error)
            if prepared.templated:
                raise
            other = replace(want, spec=replace(want.spec, chat_template=_PLAIN))
            lease = await stack.enter_async_context(shared.scheduler.lease(other))
        try:
            yield lease
        except (RunnerDied, RunnerKilled) as error:
            await shared.scheduler.report_failure(lease, error)
            raise


def _details(model: Model) -> dict[str, object]:
    """`details` of /api/ps; the parent is never named there."""
    return {
        "parent_model": "",
        "format": model.config.model_format,
        "family": model.family,
        "families": None if model.families is None else list(model.families),
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization_level,
    }
