"""What was learned, stored and read back; and what is refused."""

import json
from dataclasses import replace

import pytest

from app.orchestration.evidence.confidence import Calibrator, Calibrators
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.artefacts import MOST_BYTES, Artefact, BadArtefact, artefact_of, lesson_of, version_of
from app.orchestration.learning.text_model import SuccessPredictor

PANEL = PanelWeights(
    {"a": 1.5, "b": 0.25},
    -0.5,
    {"a": 0.5, "b": 0.0},
    ("no", "yes"),
    {"no": 0.0, "yes": 0.5, "": -1.0},
    {"a": {"no": -0.5, "yes": 0.5, "": 0.0}},
    {"a": {"law": 0.25}},
    {"a": 0.9, "b": 0.5},
    learned=True,
    together={"a": {"b": -0.25}},
)
LESSONS = [
    PANEL,
    Calibrators(Calibrator(rows=3), {"law": Calibrator((0.5, 1.0, 0.0, 0.0), ceiling=1.0)}),
    SuccessPredictor(("one", "two"), (1.5, 2.0), {"m": (100, -250)}, {"m": 0.5}, {"m": 0.6, "n": 0.4}, 12),
]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: type(lesson).__name__)
def test_a_lesson_is_read_back_from_json(lesson):
    stored = artefact_of(lesson)
    again = Artefact(stored.kind, stored.version, json.loads(json.dumps(stored.body)))
    assert lesson_of(again) == lesson


def test_weights_of_before_anything_was_measured_of_errors_together_are_read():
    body = {name: value for name, value in artefact_of(PANEL).body.items() if name != "together"}
    assert lesson_of(Artefact("panel", version_of("panel", body), body)) == replace(PANEL, together={})


def test_the_same_lesson_has_the_same_version_and_another_has_another():
    assert artefact_of(PANEL).version == artefact_of(PANEL).version
    assert artefact_of(PANEL).version != artefact_of(replace(PANEL, none=-0.6)).version


def test_what_was_changed_by_hand_or_cut_off_is_refused():
    stored = artefact_of(PANEL)
    with pytest.raises(BadArtefact, match="not what its version says"):
        lesson_of(replace(stored, body={**stored.body, "none": 99}))


@pytest.mark.parametrize(
    ("lesson", "change"),
    [
        (LESSONS[0], {"members": {"a": "heavy"}}),
        (LESSONS[0], {"members": {"a": True}}),
        (LESSONS[0], {"classes": None}),
        (LESSONS[1], {"overall": {"coefficients": [1], "covariance": [], "ceiling": 1, "rows": 0}}),
        (LESSONS[1], {"overall": {"coefficients": [0, 1, 0, 0], "covariance": [[-1] * 4] * 4, "ceiling": 1, "rows": 0}}),
        (LESSONS[2], {"idf": [1.0]}),
        (LESSONS[2], {"intercepts": {}}),
    ],
)
def test_a_body_of_another_shape_is_refused_with_its_kind(lesson, change):
    stored = artefact_of(lesson)
    body = {**stored.body, **change}
    signed = Artefact(stored.kind, version_of(stored.kind, body), body)
    with pytest.raises(BadArtefact, match=f"the {stored.kind} artefact .* cannot be read"):
        lesson_of(signed)


def test_an_unknown_kind_and_one_that_is_too_large_are_refused():
    with pytest.raises(BadArtefact, match="not known; known are panel, calibrators, success"):
        lesson_of(Artefact("pickle", version_of("pickle", {}), {}))
    with pytest.raises(BadArtefact, match=f"{MOST_BYTES:,}"):
        artefact_of(PanelWeights({f"member {at:0100d}": 1.0 for at in range(10_000)}))
