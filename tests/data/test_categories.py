"""Categories of a file are matched to a detector's classes by name."""

import pytest

from resnest_d2.data.categories import describe_match, match_categories


def match(names, classes):
    return match_categories(dict(enumerate(names, 5)), classes, source="val.json")


def test_equal_names_in_another_order():
    found = match(["dog", "cat"], ["cat", "dog"])
    assert found.numbers == {5: 1, 6: 0}
    assert describe_match(found) == []


def test_case_and_spaces():
    found = match(["Dog", " traffic  light"], ["Traffic Light", "dog"])
    assert found.numbers == {5: 1, 6: 0}
    (line,) = describe_match(found)
    assert "Dog as dog" in line and "traffic" in line


def test_an_equal_name_comes_before_another_case():
    found = match(["DOG", "dog"], ["dog", "cat"])
    assert found.numbers == {6: 0}
    assert found.unknown == {5: "DOG"} and found.absent == ["cat"]


@pytest.mark.parametrize(
    ("names", "classes"),
    [(["Dog", "DOG", "cat"], ["dog", "cat"]), (["DOG", "cat"], ["Dog", "dog", "cat"])],
)
def test_an_ambiguous_case_is_not_matched(names, classes):
    found = match(names, classes)
    assert [names[id_ - 5] for id_ in found.numbers] == ["cat"]


def test_what_differs_is_described():
    absent, unknown = describe_match(match(["dog", "wolf", "ox"], ["dog", "cat"]))
    assert absent.startswith("1 of the detector's classes") and absent.endswith(": cat.")
    assert unknown.startswith("2 categories") and unknown.endswith("are left out: wolf, ox.")


def test_no_class_in_common():
    with pytest.raises(
        ValueError, match=r"val.json has no class .*: it has 1 classes .wolf., .* 2 classes .dog"
    ):
        match(["wolf"], ["dog", "cat"])


def test_a_name_that_is_used_twice():
    with pytest.raises(ValueError, match="val.json cannot be matched .*: dog is the name of two"):
        match(["dog", "dog", "cat"], ["dog", "cat"])
    assert match(["dog", "cat", "ox", "ox"], ["dog", "cat"]).numbers == {5: 0, 6: 1}
    assert match(["dog", "dog"], ["dog", "dog"]).numbers == {5: 0, 6: 1}  # trained on it
