"""Mutated annotation files end in a sentence or in true scores, never in a crash or a traceback."""

import json
import time

import pytest
from fuzzing import DEFECTS, FIGURES, Server, mutate, sound_data
from hypothesis import HealthCheck, given, seed, settings, strategies

SECONDS = 100  # for mutations; with the imports of the server it is two minutes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("fuzz"))
    yield server
    server.close()


def test_a_sound_file_scores_100(server):
    assert server.outcome(json.dumps(sound_data()).encode())[0] == "AP 100 / AP 100"


def test_a_defect_is_an_outcome(server, monkeypatch):
    content = json.dumps(sound_data()).encode()
    assert server.outcome(content, before="raise")[0] == "traceback"
    assert server.outcome(content, before="memory")[0] == "traceback"
    assert server.outcome(content, before="signal") == ("signal", "-11")
    assert server.outcome(content)[0] == "AP 100 / AP 100"  # the server goes on


def test_no_mutation_leads_to_a_defect(server):
    end, outcomes = time.monotonic() + SECONDS, set()

    @seed(0)
    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=HealthCheck)
    @given(strategies.randoms(use_true_random=False))
    def mutations(number):
        content = mutate(number)
        if time.monotonic() > end:
            return
        figures = number.randrange(FIGURES) == 0
        outcome, why = server.outcome(content, before="" if figures else "no figures")
        outcomes.add(outcome)
        assert outcome not in DEFECTS and "lower" not in outcome, (why, content)

    mutations()
    assert {"AP 100 / AP 100", "AP 100 / refused", "refused / refused"} <= outcomes
