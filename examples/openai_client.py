"""OpenAI's own SDK as a client of Quorum: another base URL, everything else as it was.

    pip install openai
    make run                              # in another terminal
    python examples/openai_client.py "Is 97 a prime number?"

`model` is a model, a recipe, or quorum/<strategy>. QUORUM_URL and QUORUM_API_KEY name another service and its key.
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI

URL = os.environ.get("QUORUM_URL", "http://127.0.0.1:8000")
MODEL = "quorum/simple"


def main(question: str) -> None:
    with OpenAI(base_url=f"{URL}/v1", api_key=os.environ.get("QUORUM_API_KEY", "none-is-needed")) as client:
        whole = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
        print(whole.choices[0].message.content)
        print("evidence:", (whole.model_extra or {}).get("quorum"))  # what OpenAI's answers do not have

        pieces = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}], stream=True)
        for piece in pieces:
            print(piece.choices[0].delta.content or "" if piece.choices else "", end="", flush=True)
        print()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "Is 97 a prime number?")
