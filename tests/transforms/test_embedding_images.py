"""EmbedImage: the pixels of Hugging Face's processors, the vectors of torch; images that cannot be decoded."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.errors import BadRows, ColumnTypeError, ParameterError, ParameterTypeError, StoreError
from featuremill.transforms import image_models
from featuremill.transforms.embedding_images import EmbedImage
from featuremill.transforms.embedding_models import describe
from featuremill.transforms.image_models import ImageFiles
from featuremill.transforms.image_pixels import PROCESSORS, configuration_of, preprocessing_of
from support.serving import artifact_of
from support.small_encoders import PREPROCESSING, image_bytes, make_vision, small_vision, vision_in_torch

IMAGES = [
    image_bytes(1), image_bytes(2, (40, 13)), image_bytes(3, (12, 12), mode="L"), image_bytes(4, format_="JPEG"),
    image_bytes(5, (3, 50), mode="RGBA"), image_bytes(6, mode="P", format_="GIF"), image_bytes(7, format_="WEBP"),
]  # fmt: skip
NO_IMAGES = [b"", b"nonsense", IMAGES[0][:70], IMAGES[3][:200]]


def processed(data: bytes, config: dict[str, Any], kind: str = "CLIPImageProcessor") -> np.ndarray:
    """What Hugging Face's processor makes of an image file's content."""
    import transformers
    from PIL import Image

    given = {k: v for k, v in config.items() if k != "image_processor_type"}
    with Image.open(io.BytesIO(data)) as image:
        made = getattr(transformers, f"{kind}Pil")(**given)(images=image.convert("RGB"), return_tensors="np")
    pixels: np.ndarray = made["pixel_values"][0]
    return pixels


def vectors_of(op: EmbedImage, images: list[Any], type_: pa.DataType | None = None) -> list[list[float] | None]:
    batch = pa.record_batch({"x": pa.array(images, type_ or pa.binary())})
    (array,) = op.apply(batch, op.prepare({}, batch.schema))
    array.validate(full=True)
    assert [array.type] == [f.type for f in op.output_fields(batch.schema)]
    found: list[list[float] | None] = array.to_pylist()
    return found


# --- the values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"size": {"height": 15, "width": 9}, "do_center_crop": False, "resample": 2},
        {"do_resize": False, "crop_size": {"height": 31, "width": 9}},
        {"do_rescale": False, "do_normalize": False},
        {"image_mean": [0, 0, 0], "rescale_factor": 0.5, "resample": 0},
    ],
)
def test_pixels_are_those_of_hugging_face(changes: dict[str, Any]) -> None:
    config = PREPROCESSING | changes
    made = preprocessing_of(configuration_of(config, "m"), "m")
    for data in IMAGES:
        np.testing.assert_allclose(made.pixels(data), processed(data, config), atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", sorted(PROCESSORS))
def test_defaults_are_those_of_the_processor(kind: str) -> None:
    made = preprocessing_of(configuration_of({"image_processor_type": f"{kind}Fast"}, "m"), "m")
    data = image_bytes(9, (300, 200))
    np.testing.assert_allclose(made.pixels(data), processed(data, {}, kind), atol=2e-6)


def test_vectors_are_those_of_torch() -> None:
    found = vectors_of(EmbedImage(["x"], small_vision()), [*IMAGES, None, IMAGES[0]])
    wanted = vision_in_torch(np.stack([processed(data, PREPROCESSING) for data in IMAGES]))
    np.testing.assert_allclose(np.array(found[: len(IMAGES)]), wanted, atol=1e-6)
    assert found[-2] is None and found[-1] == found[0]
    op = EmbedImage(["x"], small_vision(), normalize=True, truncate_dim=4, dtype="float16")
    cut = wanted[:, :4] / np.linalg.norm(wanted[:, :4], axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(vectors_of(op, IMAGES)), cut, atol=1e-3)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_vectors_of_patches_become_one(tmp_path: Path, pooling: str) -> None:
    folder = make_vision(tmp_path / "m", output="last_hidden_state")
    found = np.array(vectors_of(EmbedImage(["x"], str(folder), pooling=pooling), IMAGES))
    mean = vision_in_torch(np.stack([processed(data, PREPROCESSING) for data in IMAGES]))
    assert (np.abs(found - mean).max() < 1e-6) == (pooling == "mean")
    assert found.shape == mean.shape


def test_a_map_is_pooled_by_its_mean_and_sizes_come_from_the_model(tmp_path: Path) -> None:
    config = {"image_mean": 0.5, "image_std": 0.5}
    folder = make_vision(tmp_path / "m", output="pooler_output", size=(8, 12), config=config)
    found = vectors_of(EmbedImage(["x"], str(folder)), IMAGES)
    assert np.array(found).shape == (len(IMAGES), 5)
    with pytest.raises(ParameterError, match=r"gives images of \(4, 4\), and the model takes 8 by 12"):
        vectors_of(EmbedImage(["x"], str(folder), preprocessing={"size": {"height": 4, "width": 4}}), IMAGES)


def test_an_image_has_one_vector_whatever_is_around_it_and_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    op = EmbedImage(["x"], small_vision())
    images = [image_bytes(i) for i in range(21)]
    whole = vectors_of(op, images)
    for i in (0, 7, 20):
        assert vectors_of(op, [images[i]]) == [whole[i]]
    made = vectors_of(op, images[::-1])
    assert made == whole[::-1]
    seen: list[bytes] = []
    pixels = image_models.Preprocessing.pixels
    monkeypatch.setattr(
        image_models.Preprocessing, "pixels", lambda self, data: seen.append(data) or pixels(self, data)
    )
    batch = pa.record_batch({"x": pa.array([images[0], None, images[1], images[0]])})
    (column,) = op.prepare({}, batch.schema)
    assert op.apply(batch, [column])[0].to_pylist() == [whole[0], None, whole[1], whole[0]]
    assert column.of_value(images[1]) == whole[1]
    assert sorted(seen) == sorted(images[:2])


# --- bad rows --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_decoded_is_a_bad_row() -> None:
    op = EmbedImage(["x"], small_vision())
    batch = pa.record_batch({"x": pa.array([IMAGES[0], *NO_IMAGES, None, IMAGES[1], NO_IMAGES[0]])})
    prepared = op.prepare({}, batch.schema)
    with pytest.raises(BadRows, match=r"^EmbedImage\('x'\): the bytes are no image that can be decoded$") as caught:
        op.apply(batch, prepared)
    assert (caught.value.rows, caught.value.column) == ([1, 2, 3, 4, 7], "x")
    with pytest.raises(BadRows):
        prepared[0].of_value(b"nonsense")


def test_an_image_with_far_too_many_pixels_is_a_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadRows, match="no image that can be decoded"):
        vectors_of(EmbedImage(["x"], small_vision()), [IMAGES[0]])


def test_texts_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for i, data in enumerate(IMAGES):
        (tmp_path / "a" / f"{i}.img").write_bytes(data)
    wanted = vectors_of(EmbedImage(["x"], small_vision()), IMAGES)
    paths = [f"{tmp_path}/a/{i}.img" for i in range(len(IMAGES))]
    op = EmbedImage(["x"], small_vision())
    assert vectors_of(op, paths, pa.string()) == wanted
    assert vectors_of(op, [Path(p).as_uri() for p in paths], pa.string_view()) == wanted
    inside = replace(op, root=str(tmp_path))
    assert vectors_of(inside, [f"a/{i}.img" for i in range(len(IMAGES))], pa.large_string()) == wanted
    for bad, reason in (
        (f"{tmp_path}/none.png", "there is no such file"), ("/nowhere/a.png", "there is no such file"),
        ("ftp://x/y.png", "there is no such file"), ("", "there is no such file"), (f"{tmp_path}/a", "no such file"),
    ):  # fmt: skip
        with pytest.raises(BadRows, match=reason):
            vectors_of(op, [bad], pa.string())
    for bad in ("../x.png", "a/../../x.png", paths[0], "a/../a/0.img"):
        with pytest.raises(BadRows, match="the path leads out of root"):
            vectors_of(inside, [bad], pa.string())


def test_a_broken_connection_is_no_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def get(self, path: str) -> bytes:
            raise StoreError(f"Cannot read {path}: timed out.")

    monkeypatch.setattr(image_models, "open_store", lambda _: Broken())
    with pytest.raises(StoreError, match="timed out"):
        ImageFiles("gs://photos").read(b"a.png")


# --- models ----------------------------------------------------------------------------------------------------------


def test_models_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"There is no model /nowhere: it has no model\.onnx or onnx/model\.onnx"):
        describe("/nowhere", "images")
    other = make_vision(tmp_path / "a", config={"image_processor_type": "MobileViTImageProcessor"})
    with pytest.raises(ParameterError, match="go through a MobileViTImageProcessor, expected one of Bit"):
        describe(str(other), "images")
    flipped = make_vision(tmp_path / "b", config={"do_flip_channel_order": True})
    with pytest.raises(ParameterError, match="has do_flip_channel_order: True, which is not done here"):
        describe(str(flipped), "images")
    silent = make_vision(tmp_path / "c", config={})
    with pytest.raises(ParameterError, match="size is None, expected"):
        vectors_of(EmbedImage(["x"], str(silent)), IMAGES)
    with pytest.raises(ParameterError, match="image_mean is None, expected a number, or three"):
        vectors_of(EmbedImage(["x"], str(silent), preprocessing={"size": {"height": 8, "width": 8}}), IMAGES)
    told = {"size": {"shortest_edge": 8}, "image_mean": 0, "image_std": 1}
    with pytest.raises(ParameterError, match="gives images of different sizes, and the model takes one size for all"):
        vectors_of(EmbedImage(["x"], str(silent), preprocessing=told), IMAGES)
    (other / "preprocessor_config.json").write_text("[]")
    with pytest.raises(ParameterError, match=r"preprocessor_config\.json holds no object"):
        describe(str(other), "images")
    from support.small_encoders import small_columns

    with pytest.raises(ParameterError, match=r"takes x \(tensor\(float\) of shape .*expected images alone"):
        describe(small_columns(), "images")


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"preprocessing": [1]}, ParameterTypeError, r"preprocessing got \[1\], expected a mapping"),
        ({"preprocessing": {"sizes": 3}}, ParameterError, "preprocessing got 'sizes', expected some of do_center_crop"),
        ({"pooling": "median"}, ParameterError, "pooling got 'median', expected one of cls, mean, max"),
        ({"root": ""}, ParameterTypeError, "root got ''"),
        ({"digest": "ab" * 32}, ParameterError, "another is under that name"),
        ({"truncate_dim": 7}, ParameterError, "truncate_dim got 7, expected at most 6"),
    ],
)
def test_parameters_that_cannot_work(config: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        EmbedImage(["x"], small_vision(), **config).output_fields(pa.schema({"x": pa.binary()}))
    assert str(caught.value).startswith("EmbedImage('x'): ")


@pytest.mark.parametrize("changes", [{"do_resize": 1}, {"resample": "x"}, {"image_std": [1, 0, 1]}, {"crop_size": -1}])
def test_preprocessing_that_cannot_be(changes: dict[str, Any]) -> None:
    (key,) = changes
    with pytest.raises(ParameterError, match=f"The preprocessing of the model .*: {key} is "):
        vectors_of(EmbedImage(["x"], small_vision(), preprocessing=changes), IMAGES)


def test_columns_of_something_else() -> None:
    with pytest.raises(ColumnTypeError, match="the bytes of image files, or their paths as text"):
        EmbedImage(["x"], small_vision()).output_fields(pa.schema({"x": pa.int64()}))


def test_an_artifact_carries_its_model_and_serves_alone(tmp_path: Path) -> None:
    folder = make_vision(tmp_path / "m")
    (folder / "onnx").mkdir()
    shutil.move(folder / "model.onnx", folder / "onnx" / "model.onnx")
    batch = pa.record_batch({"x": [IMAGES[0], None, IMAGES[1]]})
    op = EmbedImage(["x"], str(folder), output="v", preprocessing={"resample": 2})
    wanted = vectors_of(op, batch.column("x").to_pylist())
    artifact = artifact_of(tmp_path / "artifact", [op, replace(op, preprocessing=None, output="w")], batch)
    digest = describe(str(folder), "images").digest
    assert sorted(p for p in artifact.manifest.files if p.startswith("models/")) == [
        f"models/{digest[:16]}/{n}" for n in ("embedding.json", "model.onnx")
    ]
    shutil.rmtree(folder)
    again = load(tmp_path / "artifact")
    made = again.transform(batch)
    assert made.column("v").to_pylist() == wanted != made.column("w").to_pylist()
    assert again.transform_row({"x": IMAGES[0]})["v"] == wanted[0]
    assert again.verify().files == 4
    settings = tmp_path / "artifact" / "models" / digest[:16] / "embedding.json"
    assert json.loads(settings.read_text())["image"]["resample"] == 3
