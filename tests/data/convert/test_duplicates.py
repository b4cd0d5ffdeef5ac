"""Planted near-duplicates are found, and different images are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from resnest_d2.data.convert.duplicates import group_images, group_keys

pytest.importorskip("imagehash", reason="the extra split is not installed")


def scene(seed, size=(240, 180)):
    """Coarse noise with some finer noise on it."""
    rng = np.random.default_rng(seed)
    w, h = size
    image = np.zeros((h, w, 3))
    for cells, height in ((5, 90), (16, 50), (60, 25)):
        noise = rng.integers(0, 255, (cells, cells, 3), np.uint8)
        scaled = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        image += (np.asarray(scaled, float) - 128) * height / 128
    return Image.fromarray(np.clip(image + 128, 0, 255).astype(np.uint8))


def recompressed(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=15)
    return Image.open(file).convert("RGB")


def cropped(left, top, right, bottom):
    def crop(image):
        w, h = image.size
        return image.crop((int(left * w), int(top * h), w - int(right * w), h - int(bottom * h)))

    return crop


CHANGES = {
    "the same": lambda image: image,
    "recompressed": recompressed,
    "smaller": lambda image: image.resize((96, 72)),
    "another shape": lambda image: image.resize((300, 150)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "grey": lambda image: image.convert("L"),
    "cropped around": cropped(0.05, 0.05, 0.05, 0.05),
    "cropped more": cropped(0.1, 0.1, 0.1, 0.1),
    "cropped at a side": cropped(0, 0, 0.1, 0),
    "cropped at a corner": cropped(0.08, 0.09, 0, 0),
}


def save(folder, images):
    paths = []
    for i, image in enumerate(images):
        paths.append(str(folder / f"{i}.png"))
        image.save(paths[-1])
    return paths


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_grouped_with_theirs(change, tmp_path):
    originals = [scene(seed) for seed in range(12)]
    paths = save(tmp_path, originals + [CHANGES[change](image) for image in originals])
    groups = group_images(paths, range(24), progress=False)
    assert groups.tolist() == [*range(12)] * 2


def test_different_images_are_apart(tmp_path):
    paths = save(tmp_path, [scene(seed) for seed in range(60)])
    assert len(set(group_images(paths, range(60), progress=False))) == 60


def test_groups_are_transitive(tmp_path):
    """Frames of a camera that turns: the last one has nothing in common with the first."""
    wide = scene(1, (480, 180))
    frames = [wide.crop((x, 0, x + 240, 180)) for x in range(0, 241, 8)]
    paths = save(tmp_path, [*frames, scene(2)])
    apart = group_images([paths[0], paths[30]], range(2), progress=False)
    assert apart.tolist() == [0, 1]
    assert group_images(paths, range(32), progress=False).tolist() == [0] * 31 + [1]


def test_keys_and_duplicates_are_joined(tmp_path):
    paths = save(tmp_path, [scene(1), scene(2), recompressed(scene(2)), scene(3)])
    keys = ["a", "a", "b", "c"]
    assert group_images(paths, keys, progress=False).tolist() == [0, 0, 0, 1]
    assert group_images(paths, keys, max_distance=-1).tolist() == [0, 0, 1, 2]
    assert group_images(paths, range(4), max_distance=256, progress=False).tolist() == [0] * 4


def test_images_without_structure_are_compared_by_their_pixels(tmp_path):
    flat = [Image.new("RGB", (60, 40), (v, v, v)) for v in (50, 150, 50)]
    assert group_images(save(tmp_path, flat), range(3), progress=False).tolist() == [0, 1, 0]


def test_images_of_16_bits_are_not_all_white(tmp_path):
    paths = []
    for i, seed in enumerate((1, 2, 1)):
        grey = np.asarray(scene(seed).convert("L"), np.uint16)
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(grey * 100 + 5000 + i).save(paths[-1])
    assert Image.open(paths[0]).mode == "I;16"
    assert group_images(paths, range(3), progress=False).tolist() == [0, 1, 0]


def test_an_image_turned_by_exif_is_the_same(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    scene(1).rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    (path,) = save(tmp_path, [scene(1)])
    groups = group_images([path, str(tmp_path / "turned.jpg")], range(2), progress=False)
    assert groups.tolist() == [0, 0]


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match="a.png cannot be read"):
        group_images([str(tmp_path / "a.png")], [0], progress=False)


def test_without_imagehash_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("resnest_d2.data.convert.duplicates.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"resnest-d2\[split\].*--ignore-duplicates"):
        group_images(["a.png"], [0])
    assert group_images(["a.png"], [0], max_distance=-1).tolist() == [0]


def test_keys_of_fields_and_file_names():
    images = [{"file_name": f"{name}.png", "video": v} for name, v in (("a_1", 7), ("a_2", 8))]
    assert group_keys(images, None) == [0, 1]
    assert group_keys(images, "video") == ["7", "8"]
    assert len(set(group_keys(images, r"^(\w)_"))) == 1
    assert group_keys(images, r"\d") == ["1", "2"]
    with pytest.raises(ValueError, match=r"2 images have no field \^b .*such as a_1.png"):
        group_keys(images, "^b")
    with pytest.raises(ValueError, match=r"'\(' ?: no field .*no regular expression"):
        group_keys(images, "(")
    del images[1]["video"]
    with pytest.raises(ValueError, match="1 images have no field video, such as a_2.png"):
        group_keys(images, "video")
