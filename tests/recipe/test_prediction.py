"""A prediction: what may be handed over, what comes back, and what it doesn't depend on."""

import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from course_lib import backbones
from course_lib.backbones.transforms import Preprocessing
from course_lib.data import DataWarning, ImageError, open_image
from course_lib.data.manifest import bundled_folder
from course_lib.errors import DataError
from course_lib.freezing.bits import same_bits
from course_lib.recipe import Prediction, Predictor
from course_lib.recipe.prediction import THRESHOLD, share
from course_lib.training import TrainingError, evaluate
from course_lib.training import predict as predict_batches

CLASSES = ("hotdog", "not-hotdog")
LITE = "efficientnet_lite0"


def random_predictor(name=LITE, size=64, **options):
    torch.manual_seed(0)
    model = backbones.load(name, num_classes=2, pretrained=False)
    return Predictor(model.eval(), CLASSES, backbones.preprocessing(name, size), **options)


@pytest.fixture(scope="module")
def predictor():
    return random_predictor()


@pytest.fixture(scope="module")
def photos():
    return sorted((bundled_folder() / "test").rglob("*.jpg"))[::12]


@pytest.fixture
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_probabilities_are_those_of_the_network(predictor, photos):
    found = predictor.predict(photos[0])
    prepared = predictor.preparation.eval(open_image(photos[0]))
    with torch.no_grad():
        expected = predictor.model(prepared[None])[0].double().softmax(0).tolist()
    assert found.probabilities == dict(zip(CLASSES, expected, strict=True))
    assert found.source == str(photos[0])
    assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-12)


def test_the_best_class_comes_first(photos):
    torch.manual_seed(1)
    names = tuple("abcdefg")
    model = backbones.load("squeezenet1_1", num_classes=7, pretrained=False).eval()
    see = backbones.preprocessing("squeezenet1_1", 64)
    found = Predictor(model, names, see).predict(photos[0])
    shares = list(found.probabilities.values())
    assert shares == sorted(shares, reverse=True)
    assert set(found.probabilities) == set(names)
    assert found.probabilities[found.label] == shares[0]


def test_one_by_one_is_as_all_at_once(predictor, photos):
    alone = [predictor.predict(each) for each in photos]
    assert predictor.predict(photos) == alone
    assert predictor.predict(map(str, photos[::-1])) == alone[::-1]
    assert predictor.predict(photos[:3]) == alone[:3]
    assert predictor.predict([]) == []


def test_every_way_to_hand_over_a_picture_gives_the_same_answer(predictor, picture, tmp_path):
    path = tmp_path / "with a space ü.png"
    picture.save(path)
    pixels = np.asarray(picture)
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    ways = {
        "path": path,
        "text": str(path),
        "PIL": picture,
        "array": pixels,
        "strided array": np.ascontiguousarray(pixels[:, ::-1])[:, ::-1],
        "RGBA": opaque,
        "uint8 tensor": torch.from_numpy(pixels.copy()).permute(2, 0, 1),
        "prepared": predictor.preparation.eval(picture),
        "prepared, double": predictor.preparation.eval(picture).double(),
    }
    answers = {way: predictor.predict(each).probabilities for way, each in ways.items()}
    assert all(each == answers["path"] for each in answers.values()), answers


@pytest.mark.parametrize("kind", ["uint8", "uint8 with channel", "uint16", "tensor"])
def test_grey_pixels_are_grey_pictures(predictor, kind):
    grey = np.random.default_rng(1).integers(0, 256, (70, 80), dtype=np.uint8)
    given = {
        "uint8": grey,
        "uint8 with channel": grey[:, :, None],
        "uint16": grey.astype(np.uint16) * 257,
        "tensor": torch.from_numpy(grey)[None],
    }[kind]
    expected = predictor.predict(Image.fromarray(np.dstack([grey] * 3)))
    assert predictor.predict(given).probabilities == expected.probabilities


def test_a_pil_image_is_turned_as_its_file_is(predictor, picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    picture.save(path, exif=exif, quality=95)
    with Image.open(path) as opened:
        found = predictor.predict(opened)
    assert found == predictor.predict(path)
    straight = tmp_path / "straight.jpg"
    picture.save(straight, quality=95)
    assert found.probabilities != predictor.predict(straight).probabilities


@pytest.mark.parametrize(
    "given",
    [
        np.random.rand(64, 64, 3),
        np.zeros((3, 64, 64), np.uint8),
        np.zeros((2, 64, 64, 3), np.uint8),
        np.zeros((64, 64, 2), np.uint8),
        np.zeros((64, 64), np.int64),
        np.zeros((64, 64), bool),
        np.zeros((64, 64, 3), np.uint16),
        np.zeros((0, 64, 3), np.uint8),
        torch.zeros(64, 64, 3, dtype=torch.uint8),
        torch.zeros(64, 64, dtype=torch.uint8),
        torch.zeros(3, 64, 64, dtype=torch.int64),
        torch.zeros(3, 63, 64),
        torch.zeros(1, 64, 64),
        torch.zeros(2, 3, 64, 64),
        b"bytes",
        {"a": 1},
        None,
        7,
        io.BytesIO(b"x").getbuffer(),
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'shape', '')}",
)
def test_what_is_no_picture_or_might_mean_two_things_is_refused(predictor, given):
    with pytest.raises(DataError, match=r"[Ee]xpected"):
        predictor.predict(given)


def test_scores_that_are_no_numbers_are_refused(predictor):
    with pytest.raises(DataError, match="finite"):
        predictor.predict(torch.full((3, 64, 64), torch.nan))


def test_a_folder_is_all_its_pictures(predictor, photos, tmp_path):
    (tmp_path / "inside").mkdir()
    for number, each in enumerate(photos[:3]):
        (tmp_path / "inside" / f"{number}.jpg").write_bytes(each.read_bytes())
    (tmp_path / "a.jpg").write_bytes(photos[3].read_bytes())
    (tmp_path / "notes.txt").write_text("no picture")
    found = predictor.predict(tmp_path)
    assert [each.source for each in found] == [
        str(tmp_path / name) for name in ("a.jpg", "inside/0.jpg", "inside/1.jpg", "inside/2.jpg")
    ]
    direct = predictor.predict([photos[3], *photos[:3]])
    assert [each.probabilities for each in found] == [each.probabilities for each in direct]


def test_unreadable_files_of_a_folder_are_named_in_one_warning(predictor, photos, tmp_path):
    (tmp_path / "good.jpg").write_bytes(photos[0].read_bytes())
    (tmp_path / "cut.jpg").write_bytes(photos[0].read_bytes()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.warns(DataWarning) as said:
        found = predictor.predict(tmp_path)
    assert [each.source for each in found] == [str(tmp_path / "good.jpg")]
    assert len(said) == 1
    text = str(said[0].message)
    assert "cut.jpg" in text
    assert "empty.png" in text
    assert "2 files" in text


@pytest.mark.parametrize("inside", [(), ("notes.txt",), ("broken.jpg",)])
def test_a_folder_without_a_picture_is_an_error(predictor, tmp_path, inside):
    for name in inside:
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(DataError, match="no picture to predict") as caught:
        predictor.predict(tmp_path)
    assert ("broken.jpg" in str(caught.value)) == ("broken.jpg" in inside)


def test_in_a_list_an_unreadable_file_is_an_error_or_left_out(predictor, photos, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"nothing")
    given = [photos[0], bad, photos[1]]
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        predictor.predict(given)
    with pytest.warns(DataWarning, match=r"bad\.jpg"):
        found = predictor.predict(given, skip=True)
    assert found == predictor.predict([photos[0], photos[1]])


def test_a_missing_file_is_told_with_the_nearest_names(predictor, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    with pytest.raises(ImageError, match=r"no file .*Did you mean 'photo\.png'"):
        predictor.predict(tmp_path / "phto.png")
    with pytest.raises(ImageError, match="no file"):
        predictor.predict("nowhere/at/all.png")


def test_pictures_without_a_name_have_their_place_as_source(predictor, picture):
    assert predictor.predict(picture).source == "the picture"
    assert [each.source for each in predictor.predict([picture] * 2)] == ["picture 1", "picture 2"]


def test_predicting_changes_nothing(picture):
    predictor = random_predictor()
    model = predictor.model
    model.train()
    model.classifier.eval()
    next(iter(model.parameters())).grad = torch.ones_like(next(iter(model.parameters())))
    state, modes = copy.deepcopy(model.state_dict()), [each.training for each in model.modules()]
    streams = torch.get_rng_state(), np.random.get_state()[1].copy()
    inference = random_predictor().predict(picture)
    torch.set_rng_state(streams[0])
    found = predictor.predict(picture)
    assert found == inference
    assert all(same_bits(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [each.training for each in model.modules()] == modes
    assert torch.equal(next(iter(model.parameters())).grad.unique(), torch.ones(1))
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert (np.random.get_state()[1] == streams[1]).all()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_the_weights_does_not_matter(picture, layout):
    torch.manual_seed(0)
    model = backbones.load(LITE, num_classes=2, pretrained=False).eval().to(memory_format=layout)
    see = backbones.preprocessing(LITE, 64)
    assert Predictor(model, CLASSES, see).predict(picture) == random_predictor().predict(picture)


def test_temperature_divides_the_scores(predictor, picture):
    warm = random_predictor(temperature=3.0).predict(picture).probabilities
    with torch.no_grad():
        scores = predictor.model(predictor.preparation.eval(picture)[None])[0].double()
    assert list(warm.values()) == sorted((scores / 3).softmax(0).tolist(), reverse=True)


def test_below_the_threshold_it_is_not_sure(predictor, picture):
    best = max(predictor.predict(picture).probabilities.values())
    exactly, above = (random_predictor(threshold=t).predict(picture) for t in (best, best + 1e-9))
    assert exactly.sure
    assert exactly.answer == exactly.label
    assert not above.sure
    assert above.answer == "not sure"
    assert above.label == exactly.label
    assert "not sure (" in str(above)
    assert 0.5 < THRESHOLD < 1


def test_a_prediction_in_words():
    shares = {"hotdog": 0.52, "a": 0.4, "b": 0.0796, "c": 0.0004}
    made = Prediction(shares, "photo.jpg", 0.5)
    assert str(made) == "photo.jpg: hotdog (hotdog 0.52, a 0.40, b 0.08 and 1 more)"
    assert repr(made) == f"<{made}>"
    assert [share(p) for p in (1.0, 0.9951, 0.5, 0.001, 0.0)] == [
        "1.00", ">0.99", "0.50", "<0.01", "0.00"]  # fmt: skip


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


def test_without_a_known_preparation_it_takes_prepared_tensors_only(picture):
    own = Predictor(small_net().eval(), CLASSES)
    found = own.predict([torch.zeros(3, 8, 8)] * 2)
    assert len(found) == 2
    for given in (picture, "photo.jpg", np.asarray(picture)):
        with pytest.raises(DataError, match=r"transform gives: a tensor"):
            own.predict(given)
    with pytest.raises(DataError, match="one prepared picture"):
        own.predict(torch.zeros(3, 8))


def test_scores_that_do_not_fit_the_classes_are_refused():
    with pytest.raises(DataError, match=r"expected \(1, 3\)"):
        Predictor(small_net().eval(), ("a", "b", "c")).predict(torch.zeros(3, 8, 8))


def test_resize_is_a_number_of_its_own(picture):
    see = Preprocessing("", 64, (0.5,) * 3, (0.5,) * 3)
    other = Preprocessing("", 64, (0.5,) * 3, (0.5,) * 3, resize=64)
    assert see.shorter_side == 73
    assert same_bits(Preprocessing("", 64, (0.5,) * 3, (0.5,) * 3, resize=73).eval(picture),
                     see.eval(picture))  # fmt: skip
    assert not torch.equal(see.eval(picture), other.eval(picture))


@pytest.mark.parametrize("given", ["photo.jpg", ["photo.jpg"], Image.new("RGB", (8, 8))])
def test_a_photograph_given_to_training_leads_here(given):
    for ask in (predict_batches, evaluate):
        with pytest.raises(TrainingError, match=r"recipe\.load\(file\)\.predict\(pictures\)"):
            ask(small_net(), given)
