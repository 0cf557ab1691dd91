"""The examples of the OpenAPI document. Each runs as it stands on a service without configuration."""

from __future__ import annotations

from typing import Any

CHAT: dict[str, Any] = {
    "panel": {
        "summary": "A panel of the default models, synthesised",
        "value": {
            "model": "quorum/simple",
            "messages": [{"role": "user", "content": "What is 17 * 23? Answer with the number and one sentence."}],
        },
    },
    "fallback": {
        "summary": "The default models, one after the other until one answers",
        "value": {"model": "quorum/fallback", "messages": [{"role": "user", "content": "What is 17 * 23?"}]},
    },
    "streamed": {
        "summary": "A panel, streamed with usage",
        "value": {
            "model": "quorum/simple",
            "messages": [{"role": "user", "content": "Name three uses of a quorum."}],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    },
}

EMBEDDINGS: dict[str, Any] = {
    "two": {
        "summary": "Two texts",
        "value": {"model": "mock/mock-swift", "input": ["A quorum decides.", "Enough members are present to decide."]},
    },
}

ORCHESTRATIONS: dict[str, Any] = {
    "simple": {
        "summary": "Three models and a lead",
        "value": {"input": "What is 17 * 23? Answer with the number and one sentence.", "strategy": "simple"},
    },
    "critique": {
        "summary": "With a critique before the synthesis",
        "value": {
            "input": "Should a small team write its own message queue?",
            "strategy": "simple",
            "options": {"analysis": "critique"},
            "generation": {"max_tokens": 400},
        },
    },
    "budget": {
        "summary": "Within a budget, with what it has when that is used up",
        "value": {
            "input": "Name three uses of a quorum.",
            "strategy": "simple",
            "generation": {"max_tokens": 200},
            "budget": {"tokens": 20000, "cost_usd": 0.05},
            "on_budget": "best_so_far",
        },
    },
    "fallback": {
        "summary": "A chain whose first model is overloaded",
        "value": {
            "input": "What is 17 * 23? [[mock: fault=overloaded model=mock-swift]]",
            "strategy": "fallback",
            "options": {"chain": [{"model": "mock/mock-swift", "retry": 0}, {"model": "mock/mock-careful"}]},
        },
    },
    "cascade": {
        "summary": "A cascade: the cheap model, where a judge is content with it",
        "value": {
            "input": "What is 17 * 23?",
            "strategy": "fallback",
            "options": {
                "chain": [
                    {
                        "model": "mock/mock-swift",
                        "when": "tokens < 4000",
                        "check": {"judge": {"model": "mock/mock-careful", "threshold": 0.7}},
                    },
                    {"model": "mock/mock-careful"},
                ]
            },
        },
    },
    "consensus": {
        "summary": "A vote, with how sure it is; unsure ones go to review",
        "value": {
            "input": "What is 17 * 23?",
            "strategy": "consensus",
            "options": {"extract": {"type": "number"}, "review_below": 1},
            "metadata": {"category": "arithmetic"},
        },
    },
    "tools": {
        "summary": "A model that calls tools of the service",
        "value": {
            "input": "Use the calculator: what is 17 * 23?",
            "strategy": "tools",
            "options": {"tools": ["calculator", "clock"]},
        },
    },
    "approval": {
        "summary": "A call of a tool that waits for a person",
        "value": {"input": "Use the calculator: what is 17 * 23?", "strategy": "tools", "options": {"approval": "all"}},
    },
    "conversation": {
        "summary": "The next turn of a conversation that is kept",
        "value": {"input": "What did I ask before?", "strategy": "direct", "conversation_id": "demo"},
    },
    "reliable": {
        "summary": "A tool, run directly",
        "value": {
            "input": "What is 17 * 23?",
            "strategy": "reliable",
            "options": {"tool_name": "calculator", "tool_options": {"expression": "17 * 23"}},
        },
    },
    "direct": {
        "summary": "One model",
        "value": {"input": "Say hello in one short sentence.", "strategy": "direct"},
    },
    "background": {
        "summary": "In the background: answered at once, read at its Location",
        "value": {"input": "Name three uses of a quorum.", "strategy": "simple", "background": True, "priority": "low"},
    },
    "events": {
        "summary": "Every model's answer, live",
        "value": {"input": "Name three uses of a quorum.", "strategy": "simple", "stream": True},
    },
}

ESTIMATES: dict[str, Any] = {
    "panel": {
        "summary": "Three models and a lead, at their worst and as expected",
        "value": {
            "input": "What is 17 * 23? Answer with the number and one sentence.",
            "strategy": "simple",
            "generation": {"max_tokens": 200},
            "budget": {"cost_usd": 0.05},
        },
    },
    "planned": {
        "summary": "What the planner would pick, and why",
        "value": {
            "input": "What is 17 * 23?",
            "strategy": "reliable",
            "options": {"type": "sum", "attributes": {"customer": {"tier": "gold"}}},
        },
    },
}

BATCHES: dict[str, Any] = {
    "two": {
        "summary": "Two prompts, one strategy",
        "value": {
            "strategy": "direct",
            "items": [
                {"custom_id": "one", "input": "What is 17 * 23?"},
                {"custom_id": "two", "input": "Name three uses of a quorum.", "strategy": "simple"},
            ],
        },
    },
    "openai": {
        "summary": "Lines as OpenAI's batch API has them",
        "value": {
            "items": [
                {
                    "custom_id": "chat",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {"model": "mock/mock-swift", "messages": [{"role": "user", "content": "Hi"}]},
                },
                {
                    "custom_id": "vectors",
                    "method": "POST",
                    "url": "/v1/embeddings",
                    "body": {"model": "mock/mock-swift", "input": ["A quorum decides."]},
                },
            ],
        },
    },
}

REVIEWS: dict[str, Any] = {
    "accept": {
        "summary": "The answer stands; run something unsure first",
        "value": {"decision": "accept", "comment": "checked by hand"},
    },
    "choose": {
        "summary": "A candidate's answer stands",
        "value": {"decision": "choose", "candidate_id": "c1"},
    },
    "edit": {
        "summary": "Another answer stands",
        "value": {"decision": "edit", "text": "391", "reviewer": "ann@example.com"},
    },
    "reject": {"summary": "No answer stands", "value": {"decision": "reject"}},
}

APPROVALS: dict[str, Any] = {
    "approve": {"summary": "The call is made; run the example 'approval' first", "value": {"decision": "approve"}},
    "deny": {"summary": "It is not", "value": {"decision": "deny", "reason": "too expensive"}},
    "edit": {
        "summary": "It is made with other arguments",
        "value": {"decision": "edit", "arguments": {"expression": "17 * 24"}, "approver": "ann@example.com"},
    },
}

TOOLS: dict[str, Any] = {
    "calculator": {"summary": "For the tool calculator", "value": {"arguments": {"expression": "(17 * 23 + 4) / 5"}}},
}

FEEDBACK: dict[str, Any] = {
    "score": {
        "summary": "The newest run was right; run a consensus first",
        "value": {"run_id": "latest", "score": 1},
    },
    "label": {
        "summary": "The right answer, from which follows who was right",
        "value": {"run_id": "latest", "label": "391", "comment": "by hand"},
    },
    "preferred": {
        "summary": "The candidate that answered best",
        "value": {"run_id": "latest", "preferred": "c1"},
    },
}

WORKFLOWS: dict[str, Any] = {
    "greeting": {
        "summary": "Two steps",
        "value": {
            "name": "greeting",
            "inputs": {"who": {"type": "string", "default": "the world"}},
            "steps": {
                "draft": {"orchestration": {"strategy": "direct", "input": "Greet ${inputs.who} in one sentence."}},
                "shout": {"transform": {"expression": "${steps.draft.output.text} + '!'"}},
            },
            "returns": "${steps.shout.output}",
        },
    },
    "errand": {
        "summary": "Waits for a signal",
        "value": {
            "name": "errand",
            "steps": {
                "payment": {"wait": {"signal": "paid", "schema": {"type": "object", "required": ["order"]}}},
                "thanks": {"transform": {"value": "Order ${steps.payment.output.order} is paid."}},
            },
            "returns": "${steps.thanks.output}",
        },
    },
}

SIGNALS: dict[str, Any] = {
    "paid": {
        "summary": "What the workflow `errand` waits for; store it and run it first",
        "value": {"name": "paid", "payload": {"order": 7}},
    },
}

WORKFLOW_RUNS: dict[str, Any] = {
    "greeting": {"summary": "Run it", "value": {"inputs": {"who": "Ada"}}},
}
