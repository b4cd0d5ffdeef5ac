import pytest

from resnest_d2.engine.history import cut_history, history_size

LINES = ['{"iteration": 19, "loss": 1}\n', '{"iteration": 24}\n', '{"iteration": 39}\n', '{"iter']


@pytest.mark.parametrize(
    ("size", "before", "kept", "last"),
    [
        (None, 30, 2, 24),
        (None, 24, 1, 19),
        (None, 99, 3, 39),  # a run was killed while it wrote the fourth
        (len(LINES[0]), 99, 1, 19),
        (0, 99, 0, -1),
        (10_000, 99, 3, 39),  # the file was shortened since
        (len(LINES[0]) + 3, 99, 1, 19),
    ],
)
def test_what_came_after_the_checkpoint_goes(size, before, kept, last, tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("".join(LINES))
    with open(path, "a") as writer:  # a writer that has it open goes on at the new end
        assert cut_history(str(path), size, before=before) == last
        assert path.read_text() == "".join(LINES[:kept])
        writer.write("next\n")
    assert path.read_text() == "".join([*LINES[:kept], "next\n"])


def test_without_a_file_there_is_nothing_to_cut(tmp_path):
    assert cut_history(str(tmp_path / "metrics.json"), 5, before=3) == -1
    assert history_size(str(tmp_path / "metrics.json")) == 0
