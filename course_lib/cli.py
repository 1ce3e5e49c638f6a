"""``course``: the command line. ``course --help`` lists what it can do."""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from course_lib import __version__
from course_lib.errors import CourseError
from course_lib.paths import user_path
from course_lib.text import printable

Run = Callable[[argparse.Namespace], int | None]  # None: all went well
BENCHMARKS = ("features", "freezing", "gpu", "loading", "peers", "recipe", "training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 when something is in the way (said in one line on stderr),
        2 for a command that doesn't exist, 130 when you stopped it.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a console can't show is escaped there
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.run not in (_lab, _bench) and not (options.run is _train and _job(options)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.run is _train and not (options.folder or options.config or options.keys or rest):
        parser.error("train needs a folder of pictures, or the config of a job")
    options.rest = rest
    try:
        return options.run(options) or 0
    except CourseError as error:
        print(f"course: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, no permission, a folder in the place of a file
        where = f"{error.filename}: " if error.filename else ""
        print(f"course: {printable(f'{where}{error.strerror or error}')}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("course: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="course", description="The course's helper.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(commands, "lab", _lab, "open JupyterLab on your copy; options are passed on to it")
    look = _command(commands, "doctor", _doctor, "check this machine: versions, weights, data")
    look.add_argument("--room", metavar="BUNDLE", help="check what `course bundle` made instead")

    learn = _command(commands, "train", _train, "a network for a folder of pictures, or a job")
    learn.add_argument(
        "folder", nargs="?", metavar="FOLDER|CONFIG.toml",
        help="one folder inside it for each class; or what a job is to do (each key of it is an "
        "option as well; --keys lists them)",
    )  # fmt: skip
    learn.add_argument("--config", metavar="CONFIG.toml", help="the same as the second")
    learn.add_argument("--dry-run", action="store_true", help="tell what a job would do and cost")
    learn.add_argument("--keys", action="store_true", help="list the keys of a job")
    learn.add_argument("--out", metavar="FILE", help="where to save it; else mine.safetensors")
    learn.add_argument("--minutes", type=_minutes, help="to spend; by default 2")
    learn.add_argument("--model", metavar="NAME", help="another backbone, such as resnet18")
    learn.add_argument("--size", type=int, help="side of the pictures; by default it is measured")

    ask = _command(commands, "predict", _predict, "ask a trained network about photographs")
    ask.add_argument("file", metavar="FILE", help="what `course train` has saved")
    ask.add_argument("photos", nargs="+", metavar="PHOTO", help="files or folders")
    form = ask.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="instead of a table")
    form.add_argument("--csv", action="store_true", help="instead of a table")
    ask.add_argument("--threshold", type=_share, metavar="P", help="below it: not sure")

    out = _command(commands, "export-model", _export_model, "a trained network for other engines")
    out.add_argument("file", metavar="FILE", help="what `course train` has saved")
    out.add_argument("--to", choices=("onnx", "pt2"), default="onnx", help="by default onnx")
    out.add_argument("--out", metavar="FILE", help="where to; else FILE with another ending")
    out.add_argument("--int8", choices=("dynamic", "static"), help="8 bits as well, measured")
    out.add_argument("--calibrate", metavar="FOLDER", help="pictures that fix the static ranges")
    out.add_argument("--pictures", metavar="FOLDER", help="to compare on; else drawn ones")

    page = _command(commands, "serve", _serve, "a page that answers about a photograph")
    page.add_argument("file", metavar="FILE", help="what `course train` has saved")
    page.add_argument("--host", default="127.0.0.1", help="by default this machine alone")
    page.add_argument("--port", type=int, default=8000, help="by default 8000; 0: any that is free")

    data = commands.add_parser("data", help="the pictures").add_subparsers(required=True)
    render = _command(data, "render", _data_render, "draw the bundled pictures again")
    render.add_argument("--to", help="another folder than data/hotdog_rendered")
    render.add_argument("--more", action="store_true", help="those of data/hotdog_more instead")
    _command(data, "verify", _data_verify, "compare the bundled pictures with their manifest")
    _command(data, "download", _data_download, "fetch the d2l hot-dog archive")

    books = commands.add_parser("notebooks", help="the chapters").add_subparsers(required=True)
    build = _command(books, "build", _notebooks_build, "rebuild and execute what changed")
    build.add_argument("names", nargs="*", metavar="CHAPTER", help="such as 02_hotdog")
    build.add_argument("--all", action="store_true", help="rebuild every chapter")

    ledger = commands.add_parser("evidence", help="the claims ledger").add_subparsers(required=True)
    again = "run experiments; what is there already is not run again"
    run = _command(ledger, "run", _evidence_run, again)
    show = _command(ledger, "show", _evidence_show, "print the verdicts")
    check = _command(ledger, "check", _evidence_check, "tell whether results and code agree")
    fetch = _command(ledger, "photographs", _evidence_photographs, "download those it measures on")
    fetch.add_argument("--data", metavar="FOLDER", help="where to; by default data/")
    for step in (run, show, check):
        which = f"such as C18; by default {'C1 to C21' if step is run else 'all'}"
        step.add_argument("ids", nargs="*", metavar="CLAIM", help=which)
    run.add_argument("--again", action="store_true", help="remove what is there first")
    run.add_argument("--photographs", action="store_true", help="those on photographs, too")
    run.add_argument("--own", action="store_true", help="the chapters' own measurements, too")
    for step in (run, check):
        step.add_argument("--data", metavar="FOLDER", help="where the photographs lie")
    run.add_argument("--jobs", type=int, help="processes; by default two")
    check.add_argument("--recompute", action="store_true", help="run seed 0 of each again")

    _command(commands, "progress", _progress, "which exercises you have solved")

    colab = _command(commands, "colab", _colab, "put badge and first cell into every notebook")
    colab.add_argument("--repo", metavar="OWNER/NAME", help="where the course is published")
    colab.add_argument("--ref", metavar="TAG", help="the tag that is fetched there")
    colab.add_argument("--forget", action="store_true", help="no address any more: no badges")
    colab.add_argument("--check", action="store_true", help="change nothing, only tell")

    take = _command(commands, "export", _export, "your progress, answers and models as one file")
    bring = _command(commands, "import", _import, "and back, from another machine")
    for each in (take, bring):
        each.add_argument("file", nargs="?", default="course-work.zip")

    pack = _command(commands, "bundle", _bundle, "everything for a room without a network")
    pack.add_argument("folder", metavar="OUT", help="a folder, such as one on a USB stick")
    systems = "such as linux-x86_64 windows-x86_64 macos-arm64; by default this one"
    several: dict[str, Any] = {"nargs": "+", "default": []}
    pack.add_argument("--for", dest="systems", metavar="SYSTEM", help=systems, **several)
    pythons = "such as 3.12 3.13; by default every one that the course runs on"
    pack.add_argument("--python", dest="pythons", metavar="VERSION", help=pythons, **several)
    builds = "PyTorch's CPU build, or the one with CUDA (4 GB more)"
    pack.add_argument("--torch", choices=("cpu", "default"), default="cpu", help=builds)
    pack.add_argument("--handouts", metavar="FOLDER", help="printed pages to put with it")

    printed = "on paper: chapters, workshop, slides, sheets, a plan"
    room = _command(
        commands, "predictions", _predictions, "those of a room, from files or QR codes"
    )
    room.add_argument("folder", metavar="FOLDER", help="with what `predictions.share` wrote")

    paper = _command(commands, "handouts", _handouts, printed)
    paper.add_argument("names", nargs="*", metavar="CHAPTER", help="such as 02_hotdog; else all")
    paper.add_argument("--to", metavar="FOLDER", help="another folder than handouts")
    paper.add_argument("--repo", metavar="OWNER/NAME", help="for links; else what `colab` stored")
    paper.add_argument("--ref", metavar="TAG", help="goes with --repo")

    web = _command(
        commands, "site", _site, "the course as a static site, from the stored notebooks"
    )
    web.add_argument("folder", nargs="?", metavar="OUT", help="another folder than site")
    web.add_argument("--only", nargs="+", metavar="CHAPTER", default=[], help="such as 02_hotdog")

    bench = _command(commands, "bench", _bench, "measure, side by side in one run")
    bench.add_argument("what", choices=BENCHMARKS)
    return parser


def _command(commands: Any, name: str, run: Run, what: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=what)
    made.set_defaults(run=run)
    return made


def _number(text: str, low: float, high: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:  # not for NaN either
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return value


def _minutes(text: str) -> float:
    return _number(text, 0, 1e6, "a number of minutes")


def _share(text: str) -> float:
    return _number(text, 0, 1, "a probability from 0 to 1")


def _job(options: argparse.Namespace) -> bool:
    """Whether it is a job, not the recipe, that is to train."""
    return options.folder is None or options.folder.endswith(".toml") or bool(options.config)


def _train(options: argparse.Namespace) -> int | None:
    if _job(options):
        if options.minutes is not None:
            raise CourseError("--minutes is the recipe's; a job ends after its stages' epochs.")
        if options.config and options.folder:
            raise CourseError(f"Name one: {options.folder}, or --config {options.config}.")
        from course_lib.jobs import command as jobs

        return jobs.run(options)
    if options.dry_run or options.keys:
        raise CourseError("--dry-run and --keys are for a job: course train CONFIG.toml --dry-run")
    from course_lib.recipe import command

    command.train(options)
    return None


def _predict(options: argparse.Namespace) -> int:
    from course_lib.recipe import command

    return command.predict(options)


def _export_model(options: argparse.Namespace) -> None:
    from course_lib.jobs import export

    export.export(options)


def _serve(options: argparse.Namespace) -> None:
    from course_lib.jobs import serve

    serve.command(options)


def _lab(options: argparse.Namespace) -> int:
    from course_lib.setup import lab

    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *lab.options(options.rest)])


def _doctor(options: argparse.Namespace) -> int:
    from course_lib.setup import doctor

    report = doctor.examine_room(Path(options.room)) if options.room else doctor.examine()
    print(report)
    return 0 if report.ready else 1


def _data_render(options: argparse.Namespace) -> None:
    from course_lib.data import manifest
    from course_lib.renderer import drawing

    folder = manifest.more_folder() if options.more else manifest.bundled_folder()
    pairs = drawing.MORE if options.more else drawing.PAIRS
    root = drawing.build(options.to or folder, pairs=pairs)
    print(f"{manifest.verify(root)} pictures in {root}.")


def _data_verify(_: argparse.Namespace) -> None:
    from course_lib.data import manifest

    count = sum(map(manifest.verify, (manifest.bundled_folder(), manifest.more_folder())))
    print(f"{count} pictures, all as the manifests say.")


def _data_download(_: argparse.Namespace) -> None:
    from course_lib.data import download_hotdog

    print(f"The d2l hot-dog pictures are in {download_hotdog()}.")


def _notebooks_build(options: argparse.Namespace) -> None:
    from course_lib.publishing import notebooks

    for name, rebuilt in notebooks.build(options.names, options.all):
        print(f"{name}: {'rebuilt' if rebuilt else 'in step'}", flush=True)


def _evidence_run(options: argparse.Namespace) -> None:
    from course_lib import evidence

    jobs = min(2, os.cpu_count() or 1) if options.jobs is None else options.jobs
    report = functools.partial(print, flush=True)
    _photographs_in(options.data)
    done = evidence.run(
        options.ids or None, again=options.again, jobs=jobs, report=report,
        with_photographs=options.photographs, own=options.own,
    )  # fmt: skip
    print(evidence.show(list(done)))


def _evidence_show(options: argparse.Namespace) -> None:
    from course_lib import evidence

    print(evidence.show(options.ids))


def _evidence_check(options: argparse.Namespace) -> int:
    from course_lib import evidence

    problems = evidence.check(options.ids or None)
    if options.recompute and not problems:
        _photographs_in(options.data)
        for each in options.ids or evidence.laboratory():
            found = evidence.compare(each, 0)
            problems += found.problems
            how = "by verdict and interval: the file is of another processor or torch"
            how = "number by number" if found.exact else how
            print(f"{each}: seed 0 run again, compared {how}", flush=True)
    print("\n".join(problems) or "Results and code agree.")
    return int(bool(problems))


def _evidence_photographs(options: argparse.Namespace) -> None:
    from course_lib.evidence import fetching
    from course_lib.paths import data_dir

    fetching.fetch(user_path(options.data) if options.data else data_dir())


def _photographs_in(folder: str | None) -> None:
    from course_lib.evidence import photographs

    if folder:
        os.environ[photographs.ENVIRONMENT_VARIABLE] = str(user_path(folder).resolve())


def _progress(_: argparse.Namespace) -> None:
    from course_lib.exercises import progress

    print(progress())


def _colab(options: argparse.Namespace) -> int:
    from course_lib.publishing import addresses, readme, stamping

    if bool(options.repo) != bool(options.ref) or (options.repo and options.forget):
        raise CourseError(
            "Name both, as in: course colab --repo OWNER/NAME --ref TAG. Without either, the "
            "address stays as it is; --forget removes it."
        )
    if options.check and (options.repo or options.forget):
        raise CourseError("--check changes nothing: it takes neither an address nor --forget.")
    if options.repo or options.forget:
        where = None if options.forget else addresses.Address(options.repo, options.ref)
        addresses.configure(where)
    results = stamping.stamp(check=options.check)
    for each in results:
        print(f"{each.name}: to be stamped" if options.check and each.changed else each)
    where = addresses.address()
    changed = readme.stamp(where, check=options.check)
    done = "to be stamped" if options.check else "stamped"
    print(f"README.md: {done if changed else 'as it should be'}")
    if not options.check:
        print(stamping.next_step(where))
    return int(options.check and (changed or any(e.changed or not e.in_step for e in results)))


def _export(options: argparse.Namespace) -> None:
    from course_lib.setup import hosting

    hosting.export_work(options.file)


def _import(options: argparse.Namespace) -> None:
    from course_lib.setup import hosting

    for path in hosting.import_work(options.file):
        print(path)


def _bundle(options: argparse.Namespace) -> None:
    from course_lib.setup import bundle

    bundle.make(options.folder, options.systems, options.pythons, options.torch, options.handouts)


def _predictions(options: argparse.Namespace) -> None:
    from course_lib.exercises import collecting

    print(collecting.collect(options.folder))


def _handouts(options: argparse.Namespace) -> None:
    from course_lib.publishing import addresses, handouts

    if bool(options.repo) != bool(options.ref):
        raise CourseError("A repository and a tag go together: --repo OWNER/NAME --ref TAG")
    where = addresses.Address(options.repo, options.ref) if options.repo else addresses.address()
    for path in handouts.build(options.to, options.names, where):
        print(path, flush=True)


def _site(options: argparse.Namespace) -> None:
    from course_lib.publishing import addresses, site

    print(site.build(options.folder, options.only, addresses.address()))


def _bench(options: argparse.Namespace) -> None:
    from importlib import import_module

    import_module(f"course_lib.benchmarks.{options.what}").main(options.rest)


if __name__ == "__main__":
    sys.exit(main())
