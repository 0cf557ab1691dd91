"""What a run of `simple` may cost at most."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.models import Model
from app.orchestration.analysis import own_generation
from app.orchestration.context import RunContext
from app.orchestration.tools.panels import most_steps, worst_steps
from app.reliability.forecast import PlannedCall


def worst_calls(
    context: RunContext, leads: Sequence[Model], *, layers: int, analysis: str | None, ranked: bool
) -> list[PlannedCall]:
    """Every model in every layer, the analysis, and one synthesis of all answers by the costliest lead.

    A lead that fails is not counted beside the one that follows it: vendors charge nothing for a call without an answer.

    Parameters:
        leads: who may lead.
        analysis: the name of its prompt, None where there is none.
        ranked: whether every model makes an analysis, as in a mutual ranking.
    """
    models, many = context.models, len(context.models)
    calls = [call for model in models for call in worst_steps(context, model)]
    layers = max(layers, most_steps(context))
    template = context.prompts.render("layer")
    for stage in range(2, 1 if context.acts else layers + 1):
        calls += [context.planned(model, stage=stage, quoting=many, prompt=template) for model in models]
    if many == 1:
        return calls
    quoting = many
    if analysis is not None:
        judges = models if ranked else leads
        prompt = context.prompts.render(analysis)
        asked = [
            context.planned(
                model, "analysis", stage=layers + 1, generation=own_generation(context, model), quoting=many, prompt=prompt
            )
            for model in judges
        ]
        calls += asked if ranked else [_costliest(asked)]
        quoting += 1
    prompt = context.prompts.render("synthesis")
    calls.append(
        _costliest([context.planned(lead, "synthesis", stage=layers + 2, quoting=quoting, prompt=prompt) for lead in leads])
    )
    return calls


def _costliest(calls: Sequence[PlannedCall]) -> PlannedCall:
    return max(calls, key=lambda call: (call.nano_usd or 0, call.tokens))
