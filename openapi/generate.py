"""Write the published contracts, or with `--check` fail where they differ from the code: `make openapi`, `make openapi-check`.

`openapi.json` describes the HTTP API, `quorum.schema.json` the configuration file and `workflow.schema.json` a
workflow's, for editors that complete and check them.
"""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path

from pydantic import SecretStr

from app.config.loading import json_schema, workflow_json_schema
from app.config.settings import Settings
from app.main import create_app

HERE = Path(__file__).parent
NOTHING_STARTED = Settings(redis_url=SecretStr("redis://127.0.0.1"), secret=SecretStr("signs nothing here"))
"""The application is built to be described: nobody connects, and nothing is written."""


def contracts() -> dict[str, str]:
    """File name to content, as the code has it now."""
    documents = {"openapi.json": create_app(NOTHING_STARTED).openapi(), "quorum.schema.json": json_schema()}
    documents["workflow.schema.json"] = workflow_json_schema()
    return {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in documents.items()}


def drift(name: str, content: str) -> str:
    """The difference between the committed file and `content`; empty where there is none."""
    path = HERE / name
    committed = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = difflib.unified_diff(committed.splitlines(), content.splitlines(), f"openapi/{name}", "the code", lineterm="")
    return "\n".join(list(lines)[:60])


def main() -> int:
    fresh = contracts()
    if "--check" not in sys.argv[1:]:
        for name, content in fresh.items():
            (HERE / name).write_text(content, encoding="utf-8")
        return 0
    differences = [difference for name, content in fresh.items() if (difference := drift(name, content))]
    if differences:
        print(*differences, "openapi/ is out of date: run `make openapi` and commit it.", sep="\n", file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
