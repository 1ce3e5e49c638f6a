"""Out of the notebook: ONNX or torch.export, from pixels to probabilities in one file.

>>> from course_lib.jobs import export
>>> export.export_model("mine.safetensors", "mine.onnx")  # doctest: +SKIP
"""

import io
import json
import logging
import shutil
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from course_lib import recipe
from course_lib.data.images import open_image
from course_lib.data.manifest import bundled_folder
from course_lib.errors import CourseError, suggest
from course_lib.jobs.checkpoints import NotWrittenError
from course_lib.jobs.data import library
from course_lib.jobs.resampling import Prepare, Whole
from course_lib.paths import temporary_beside
from course_lib.recipe.prediction import Predictor, pictures_in

CLOSE = 1e-4
"""So much may a score differ from torch's, as a share of the largest."""

OPSET = 18
LARGEST_TOLD = 1 << 24  # bytes that a file says of itself
FORMATS = {"onnx": ".onnx", "pt2": ".pt2"}
INPUT, SCORES, PROBABILITIES = "pixels", "scores", "probabilities"
CHECKED, CALIBRATED, MEASURED = 8, 64, 400  # pictures


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        bytes: its size.
        difference: the largest difference of a score from torch's, as a share of the largest
            score, on the pictures that it was compared on.
        pictures: how many these were.
        same: share of them with the same answer as torch's.
    """

    path: Path
    bytes: int
    difference: float
    pictures: int
    same: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.bytes / 1e6:.1f} MB; on {self.pictures} pictures the scores "
            f"differ from torch's by at most {self.difference:.1e} of the largest, and "
            f"{self.same:.0%} of the answers are the same."
        )


def export_model(
    source: str | Path | Predictor, to: str | Path, pictures: str | Path | None = None
) -> Exported:
    """Write a trained network as one file that other engines run.

    It takes pixels (N, H, W, 3) of uint8, RGB and upright, of any number and size (one size a
    batch), and gives ``scores`` (N, C) and ``probabilities`` (N, C). The metadata hold the classes.
    It is compared with torch on pictures, and only kept if it is equal to 1e-4.

    Args:
        source: what ``course train`` has saved, or a predictor.
        to: a file that ends in ``.onnx`` or ``.pt2``.
        pictures: a folder to compare on; by default the course's drawn pictures.

    Raises:
        CourseError: another ending, a network without known preparation, a network that the
            exporter can't take, outputs that differ, or a full disk. What was there stays then.
    """
    to = Path(to)
    kind = _kind(to)
    predictor = recipe.load(source, device="cpu") if not isinstance(source, Predictor) else source
    whole, about = _whole(predictor), describe(predictor)
    samples = _pixels(pictures, CHECKED)
    with _temporary(to) as draft:
        if kind == "onnx":
            _write_onnx(whole, samples[0], draft, about)
        else:
            _write_pt2(whole, samples[0], draft, about)
        made = compare(draft, predictor, samples)
        if made.difference > CLOSE:
            raise CourseError(
                f"{to} isn't written: its scores differ from torch's by {made.difference:.1e} of "
                f"the largest; expected at most {CLOSE:.0e}. Export it in the other format "
                f"({', '.join(FORMATS)}), or report the network's name."
            )
        draft.replace(to)
    return Exported(to, made.bytes, made.difference, made.pictures, made.same)


def quantise(
    path: str | Path, to: str | Path, source: str | Path | Predictor,
    calibration: str | Path | None = None, pictures: str | Path | None = None,
) -> Exported:  # fmt: skip
    """An exported ONNX file with weights of 8 bits: a quarter of the size.

    Args:
        path: what :func:`export_model` has written.
        to: the file for it.
        source: the network, to compare with.
        calibration: a folder of pictures by whose values the ranges of the activations are fixed
            beforehand (static); None: each time anew (dynamic).
        pictures: a folder to compare on, another than for calibration.

    Raises:
        CourseError: the file isn't an exported one, or can't be quantised.
    """
    quantization = library("onnxruntime.quantization")
    model = library("onnx").load(str(path))
    names = [node.name for node in model.graph.node if node.op_type == "MatMul"][:2]
    to = Path(to)
    predictor = recipe.load(source, device="cpu") if not isinstance(source, Predictor) else source
    with (
        _temporary(to) as draft,
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        _quiet(),
    ):
        warnings.simplefilter("ignore")
        ready = Path(folder) / "ready.onnx"
        quantization.quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        same: dict[str, Any] = {"nodes_to_exclude": names, "per_channel": True}
        if calibration is None:
            quantization.quantize_dynamic(
                str(ready), str(draft), weight_type=quantization.QuantType.QUInt8, **same
            )
        else:
            quantization.quantize_static(
                str(ready), str(draft), _Reader(_pixels(calibration, CALIBRATED)),
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8, **same,
            )  # fmt: skip
        made = compare(draft, predictor, _pixels(pictures, CHECKED * 4))
        draft.replace(to)
    return Exported(to, made.bytes, made.difference, made.pictures, made.same)


@dataclass(frozen=True)
class Measured:
    """What a file costs and gives, beside the others that were measured with it.

    Attributes:
        name: of the file; ``torch`` for the network as it was.
        bytes: its size.
        per_second: pictures a second of processor time, one by one on one thread, preparation
            included.
        accuracy: share of right answers; None where the folder's names aren't the classes'.
        pictures: how many.
    """

    name: str
    bytes: int
    per_second: float
    accuracy: float | None
    pictures: int

    def __str__(self) -> str:
        right = "" if self.accuracy is None else f", accuracy {self.accuracy:.3f}"
        return (
            f"{self.name}: {self.bytes / 1e6:.1f} MB, {self.per_second:.0f} pictures a second"
            f"{right} ({self.pictures} pictures)"
        )


def measure(
    source: str | Path | Predictor, files: Sequence[str | Path], pictures: str | Path | None = None
) -> list[Measured]:
    """Size, speed and accuracy of the network and of what was exported from it, in one run.

    They take turns on every picture, so that what else the machine does meets all alike.

    Args:
        source: the network.
        files: made by :func:`export_model` or :func:`quantise`.
        pictures: a folder with a folder for each class, of pictures that neither training nor
            calibration has seen; by default the course's drawn test pictures.

    Returns:
        One for the network, then one for each file.

    Raises:
        CourseError: no folder, or no picture in it.
    """
    predictor = recipe.load(source, device="cpu") if not isinstance(source, Predictor) else source
    whole = _whole(predictor)
    runs = {"torch": lambda pixels: whole(torch.from_numpy(pixels))}
    runs |= {Path(each).name: runner(each) for each in files}
    sizes = [sum(each.numel() * each.element_size() for each in whole.state_dict().values())]
    sizes += [Path(each).stat().st_size for each in files]
    seconds, right = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, 0)
    found = _files(pictures, MEASURED)
    for file in found:
        pixels = np.array(open_image(file))[None]
        for name, run in runs.items():
            began = time.process_time()
            with torch.no_grad():
                said = int(run(pixels)[1][0].argmax())
            seconds[name] += time.process_time() - began
            right[name] += predictor.classes[said] == file.parent.name
    known = {each.parent.name for each in found} <= set(predictor.classes)
    return [
        Measured(name, size, len(found) / seconds[name],
                 right[name] / len(found) if known else None, len(found))
        for name, size in zip(runs, sizes, strict=True)
    ]  # fmt: skip


def compare(path: Path, predictor: Predictor, samples: Sequence[np.ndarray[Any, Any]]) -> Exported:
    """How far an exported file is from the network, picture by picture."""
    run = runner(path)
    whole = _whole(predictor)
    differences, same = [], 0
    for each in samples:
        with torch.no_grad():
            expected = whole(torch.from_numpy(each)[None])[0][0].numpy()
        found = run(each[None])[0][0]
        differences.append(float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())))
        same += int(found.argmax() == expected.argmax())
    size = path.stat().st_size
    return Exported(path, size, max(differences), len(samples), same / len(samples))


def runner(path: str | Path, threads: int = 1) -> Any:
    """A function from pixels (N, H, W, 3) to (scores, probabilities), of an exported file.

    A ``.pt2`` file is a program, and ``torch.export.load`` runs what is in it: give this only files
    that you, or people whom you trust, have exported. An ``.onnx`` file is data.
    """
    path = Path(path)
    if _kind(path) == "onnx":
        runtime = library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        return lambda pixels: session.run([SCORES, PROBABILITIES], {INPUT: pixels})
    module = torch.export.load(str(path)).module()

    def run(pixels: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        with torch.no_grad():
            return [each.numpy() for each in module(torch.from_numpy(pixels))]

    return run


def metadata(path: str | Path) -> dict[str, Any]:
    """What an exported file says about itself: classes, backbone, licence, size, what was measured.

    Nothing of the network is read or run.

    Raises:
        CourseError: it is none of the course's, or damaged.
    """
    path = Path(path)
    try:
        if not path.is_file():  # a pipe would keep its reader waiting
            raise FileNotFoundError("there is no such file")
        if _kind(path) == "onnx":
            model = library("onnx").load(str(path), load_external_data=False)
            found = [each.value for each in model.metadata_props if each.key == "course"]
        else:
            with zipfile.ZipFile(path) as archive:
                told = [each for each in archive.infolist()
                        if each.filename.endswith("/extra/course")]  # fmt: skip
                if sum(each.file_size for each in told) > LARGEST_TOLD:
                    raise ValueError("it says more of itself than a network does")
                found = [archive.read(each) for each in told]
        said = json.loads(found[0]) if found else None
    except CourseError:
        raise
    except Exception as error:  # whatever damaged bytes make a library raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CourseError(f"{path} can't be read: {reason}.") from error
    if not isinstance(said, dict):
        raise CourseError(f"{path} says nothing of its classes; course export-model writes them.")
    return said


def describe(predictor: Predictor) -> dict[str, Any]:
    """What is written into an exported file's metadata."""
    about = predictor.about
    assert predictor.preparation is not None
    return {
        "classes": list(predictor.classes), "backbone": about.get("backbone", ""),
        "licence": about.get("licence", ""), "size": predictor.preparation.size,
        "threshold": predictor.threshold, "result": about.get("result", {}),
        "input": "pixels: uint8 (N, H, W, 3), RGB, upright, any size",
        "outputs": "scores (N, C); probabilities (N, C)",
    }  # fmt: skip


def _kind(path: Path) -> str:
    kinds = {ending: name for name, ending in FORMATS.items()}
    if path.suffix not in kinds:
        near = suggest(path.suffix, kinds)
        raise CourseError(f"{path} must end in {' or '.join(kinds)}.{near}")
    return kinds[path.suffix]


def _whole(predictor: Predictor) -> Whole:
    if predictor.preparation is None:
        raise CourseError(
            "How pictures are prepared for this network isn't known, so it can't be a part of what "
            "is exported. Train it on a folder, or with a backbone of the course."
        )
    model = predictor.model.cpu().to(memory_format=torch.contiguous_format)
    return Whole(Prepare(predictor.preparation), model, predictor.temperature).eval()


def _write_onnx(
    whole: Whole, sample: np.ndarray[Any, Any], path: Path, about: dict[str, Any]
) -> None:
    library("onnx")
    library("onnxscript")
    n, high, wide = (torch.export.Dim.DYNAMIC,) * 3
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                whole, (_example(sample),), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=[INPUT], output_names=[SCORES, PROBABILITIES],
                dynamic_shapes={"pixels": {0: n, 1: high, 2: wide}},
            )  # fmt: skip
    except Exception as error:  # whatever the exporter finds in somebody's network
        raise CourseError(_cant(error)) from error
    assert made is not None
    model = made.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "course", json.dumps(about)
    path.write_bytes(model.SerializeToString())


def _write_pt2(
    whole: Whole, sample: np.ndarray[Any, Any], path: Path, about: dict[str, Any]
) -> None:
    free = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad():
            program = torch.export.export(
                whole, (_example(sample),), dynamic_shapes={"pixels": {0: free, 1: free, 2: free}}
            )
    except Exception as error:
        raise CourseError(_cant(error)) from error
    buffer = io.BytesIO()  # writing to a full disk, torch would raise an error without a reason
    torch.export.save(program, buffer, extra_files={"course": json.dumps(about)})
    path.write_bytes(buffer.getvalue())


def _cant(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return (
        f"The exporter can't take this network ({type(error).__name__}: "
        f"{first[0] if first else 'no reason given'}). Try the other format, or a newer torch."
    )


def _example(sample: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack([sample, sample]))  # of 2: a batch of 1 would be fixed at 1


def _pixels(folder: str | Path | None, limit: int) -> list[np.ndarray[Any, Any]]:
    """Pixels (H, W, 3) of pictures of a folder."""
    return [np.array(open_image(each)) for each in _files(folder, limit)]


def _files(folder: str | Path | None, limit: int) -> list[Path]:
    """At most so many pictures of a folder, spread over all, so that every class is among them."""
    root = Path(folder) if folder is not None else bundled_folder() / "test"
    if not root.is_dir():
        raise CourseError(f"There is no folder {root} with pictures to compare on.")
    files, _ = pictures_in(root)
    if not files:
        raise CourseError(f"There is no picture in {root} to compare on.")
    spread = np.linspace(0, len(files) - 1, min(limit, len(files))).round().astype(int)
    return [files[each] for each in spread]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without onnxruntime's remarks on tensors that stay as they are."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Reader:
    """Pictures as onnxruntime wants them for calibration."""

    def __init__(self, samples: Sequence[np.ndarray[Any, Any]]) -> None:
        self.left: Iterator[np.ndarray[Any, Any]] = iter(samples)

    def get_next(self) -> dict[str, Any] | None:
        """The next input; None at the end."""
        each = next(self.left, None)
        return None if each is None else {INPUT: each[None]}


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A file to write that is gone afterwards, if it wasn't moved to the target beside it.

    Raises:
        NotWrittenError: a full disk, no permission.
    """
    scratch = temporary_beside(target.absolute())
    try:
        scratch.mkdir(parents=True)
        yield scratch / target.name
    except CourseError:
        raise
    except OSError as error:
        raise NotWrittenError(
            f"{target} can't be written: {error.strerror or error}. What was there before is still "
            "there. Make room, or name another place."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def export(options: Any) -> None:
    """``course export-model``."""
    source = Path(options.file)
    to = Path(options.out) if options.out else source.with_suffix(FORMATS[options.to])
    predictor = recipe.load(source, device="cpu")
    print(export_model(predictor, to, options.pictures))
    if options.int8:
        if _kind(to) != "onnx":
            raise CourseError("--int8 goes with --to onnx.")
        if options.int8 == "static" and not options.calibrate:
            raise CourseError("--int8 static needs pictures: --calibrate FOLDER")
        small = to.with_name(f"{to.stem}-int8.onnx")
        folder = options.calibrate if options.int8 == "static" else None
        print(quantise(to, small, predictor, folder, options.pictures))
        print(*measure(predictor, [to, small], options.pictures), sep="\n")
