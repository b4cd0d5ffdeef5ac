"""Matches the categories of an annotation file to a detector's classes, by their names."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from detectron2.data import MetadataCatalog

from resnest_d2.errors import UserError

from .coco import CocoFacts, is_ours, read_coco
from .normalise import shown
from .validate.findings import listed


class Match(NamedTuple):
    """Which category of a file is which class of a detector.

    Attributes:
        numbers: category id -> class of the detector, from 0.
        respelled: the file's name -> the detector's, where case or spaces differ.
        absent: classes of the detector that the file lacks.
        unknown: category id -> name, of categories that the detector lacks.
    """

    numbers: dict[int, int]
    respelled: dict[str, str]
    absent: list[str]
    unknown: dict[int, str]


def match_categories(
    categories: Mapping[int, str], classes: Sequence[str], *, source: str
) -> Match:
    """Matches equal names first, then those that differ in case or spaces alone, if unambiguous.

    Args:
        categories: names by id, in the order of the ids.
        classes: names of the detector's classes.
        source: annotation file, for the errors.

    Raises:
        UserError: no name in common, or a name in common that is used twice.
    """
    names = list(categories.values())
    if names == list(classes):  # names that are used twice included
        return Match({id_: i for i, id_ in enumerate(categories)}, {}, [], {})
    for counts in (Counter(names), Counter(classes)):
        if twice := [n for n, c in counts.items() if c > 1 and n in names and n in classes]:
            raise UserError(
                f"{source} cannot be matched to the detector's classes: {shown(twice[0])} is the "
                "name of two categories. Merge them with `resnest-d2 check-data --fix`."
            )
    index = {id_: classes.index(name) for id_, name in categories.items() if name in classes}
    left = {id_: name for id_, name in categories.items() if id_ not in index}
    free = [i for i in range(len(classes)) if i not in index.values()]
    keys, free_keys = [_key(n) for n in left.values()], [_key(classes[i]) for i in free]
    respelled = {}
    for id_, name in left.items():
        key = _key(name)
        if keys.count(key) == free_keys.count(key) == 1:
            index[id_] = free[free_keys.index(key)]
            respelled[name] = classes[index[id_]]
    if not index:
        raise UserError(
            f"{source} has no class of the detector: it has {show_classes(names)}, the detector "
            f"{show_classes(classes)}."
        )
    absent = [name for i, name in enumerate(classes) if i not in index.values()]
    return Match(index, respelled, absent, {i: n for i, n in left.items() if i not in index})


def _key(name: str) -> str:
    return " ".join(name.casefold().split())


def describe_match(match: Match) -> list[str]:
    """Sentences on what differs; empty if nothing does."""
    lines = []
    if match.respelled:
        pairs = [f"{name} as {known}" for name, known in match.respelled.items()]
        lines.append(f"names are matched in spite of case or spaces: {listed(pairs)}.")
    if match.absent:
        text = f"{len(match.absent)} of the detector's classes are not in the file and get no AP: "
        lines.append(f"{text}{listed(match.absent)}.")
    if match.unknown:
        text = f"{len(match.unknown)} categories without objects, unknown to the detector, are "
        lines.append(f"{text}left out: {listed(list(match.unknown.values()))}.")
    return lines


def show_classes(classes: Sequence[str]) -> str:
    """Number of classes and the names of the first ones, for messages."""
    more = ", ..." if len(classes) > 5 else ""
    return f"{len(classes)} classes ({', '.join(map(shown, classes[:5]))}{more})"


def facts_of(name: str) -> CocoFacts | None:
    """Facts about a dataset that :func:`register_coco` registered; None of any other."""
    if not is_ours(name):
        return None
    metadata = MetadataCatalog.get(name)
    return read_coco(metadata.json_file, metadata.image_root)


def match_dataset(name: str, classes: Sequence[str]) -> Match:
    """Numbers the categories of a dataset of :func:`register_coco` as a detector's classes.

    The metadata gets the detector's classes, and only the category ids that are matched to them by
    name. Differences are logged when the numbers change.

    Args:
        name: name of the dataset.
        classes: names of the detector's classes.

    Raises:
        UserError: objects of an unknown class; see also :func:`match_categories`.
    """
    facts, metadata = facts_of(name), MetadataCatalog.get(name)
    assert facts is not None
    match = match_categories(facts.categories, classes, source=metadata.json_file)
    if unknown := {n: facts.objects[i] for i, n in match.unknown.items() if facts.objects.get(i)}:
        raise UserError(
            f"{metadata.json_file} has objects of classes that the detector does not know: "
            f"{listed([f'{name} ({number})' for name, number in unknown.items()])}. It knows "
            f"{show_classes(classes)}. Rename these categories, or remove them from the file."
        )
    new = {"thing_classes": list(classes), "thing_dataset_id_to_contiguous_id": match.numbers}
    if any(metadata.get(key) != value for key, value in new.items()):
        kept = {key: value for key, value in metadata.as_dict().items() if key != "name"}
        MetadataCatalog.remove(name)  # its values cannot be replaced
        MetadataCatalog.get(name).set(**{**kept, **new})
        for line in describe_match(match):
            logging.getLogger(__name__).info(f"{metadata.json_file}: {line}")
    return match
