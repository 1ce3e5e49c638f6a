"""``course``: the command line. ``course --help`` lists what it can do."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from course_lib.errors import CourseError

FIRST_NOTEBOOK = "00_start_here.ipynb"
BENCHMARKS = ("features", "freezing", "loading", "peers", "training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 when something is in the way (said in one line on stderr),
        2 for a command that doesn't exist, 130 when you stopped it.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.run not in (_lab, _bench):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except CourseError as error:
        print(f"course: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("course: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="course", description="The course's helper.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    lab = commands.add_parser("lab", help="open JupyterLab; options are passed on to it")
    lab.set_defaults(run=_lab)

    doctor = commands.add_parser("doctor", help="check this machine: versions, weights, data")
    doctor.set_defaults(run=_doctor)

    data = commands.add_parser("data", help="the pictures").add_subparsers(required=True)
    render = data.add_parser("render", help="draw the bundled pictures again")
    render.add_argument("--to", help="another folder than data/hotdog_rendered")
    render.set_defaults(run=_data_render)
    verify = data.add_parser("verify", help="compare the bundled pictures with their manifest")
    verify.set_defaults(run=_data_verify)
    download = data.add_parser("download", help="fetch the d2l hot-dog archive")
    download.set_defaults(run=_data_download)

    books = commands.add_parser("notebooks", help="the chapters").add_subparsers(required=True)
    build = books.add_parser("build", help="rebuild and execute what changed")
    build.add_argument("names", nargs="*", metavar="CHAPTER", help="such as 02_hotdog")
    build.add_argument("--all", action="store_true", help="rebuild every chapter")
    build.set_defaults(run=_notebooks_build)

    ledger = commands.add_parser("evidence", help="the claims ledger").add_subparsers(required=True)
    for name, what in (
        ("run", "run experiments; what is there already is not run again"),
        ("show", "print the verdicts"),
        ("check", "tell whether results and code agree"),
    ):
        step = ledger.add_parser(name, help=what)
        step.add_argument("ids", nargs="*", metavar="CLAIM", help="such as C18; by default all")
        step.set_defaults(run=globals()[f"_evidence_{name}"])
        if name == "run":
            step.add_argument("--again", action="store_true", help="remove what is there first")
            step.add_argument("--jobs", type=int, help="processes; by default two")
        if name == "check":
            step.add_argument("--recompute", action="store_true", help="run seed 0 of each again")

    done = commands.add_parser("progress", help="which exercises you have solved")
    done.set_defaults(run=_progress)

    colab = commands.add_parser("colab", help="put badge and first cell into every notebook")
    colab.add_argument("--repo", metavar="OWNER/NAME", help="where the course is published")
    colab.add_argument("--ref", metavar="TAG", help="the tag that is fetched there")
    colab.add_argument("--forget", action="store_true", help="no address any more: no badges")
    colab.add_argument("--check", action="store_true", help="change nothing, only tell")
    colab.set_defaults(run=_colab)

    take = commands.add_parser("export", help="your progress, answers and models as one file")
    take.add_argument("file", nargs="?", default="course-work.zip")
    take.set_defaults(run=_export)
    bring = commands.add_parser("import", help="and back, from another machine")
    bring.add_argument("file", nargs="?", default="course-work.zip")
    bring.set_defaults(run=_import)

    pack = commands.add_parser("bundle", help="everything for a room without a network")
    pack.add_argument("folder", metavar="OUT", help="a folder, such as one on a USB stick")
    pack.add_argument(
        "--for",
        nargs="+",
        dest="systems",
        metavar="SYSTEM",
        default=[],
        help="such as linux-x86_64 windows-x86_64 macos-arm64; by default this one",
    )
    pack.add_argument(
        "--python",
        nargs="+",
        dest="pythons",
        metavar="VERSION",
        default=[],
        help="such as 3.12 3.13; by default this one",
    )
    pack.add_argument(
        "--torch",
        choices=("cpu", "default"),
        default="cpu",
        help="PyTorch's CPU build, or the one with CUDA (4 GB more)",
    )
    pack.add_argument("--handouts", metavar="FOLDER", help="printed pages to put with it")
    pack.set_defaults(run=_bundle)

    paper = commands.add_parser("handouts", help="chapters on paper and as pages, sheets, a plan")
    paper.add_argument("names", nargs="*", metavar="CHAPTER", help="such as 02_hotdog; else all")
    paper.add_argument("--to", metavar="FOLDER", help="another folder than handouts")
    paper.add_argument("--repo", metavar="OWNER/NAME", help="for links; else what `colab` stored")
    paper.add_argument("--ref", metavar="TAG", help="goes with --repo")
    paper.set_defaults(run=_handouts)

    bench = commands.add_parser("bench", help="measure, side by side in one run")
    bench.add_argument("what", choices=BENCHMARKS)
    bench.set_defaults(run=_bench)
    return parser


def _lab(options: argparse.Namespace) -> int:
    from course_lib.publishing.notebooks import notebooks_dir

    chosen = [
        f"--ServerApp.root_dir={notebooks_dir()}",
        f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}",
        # In there: no question about news over the page, no call to the Internet.
        f"--LabApp.app_settings_dir={Path(__file__).parent / 'setup' / 'lab_settings'}",
    ]
    yours = {each.partition("=")[0] for each in options.rest}
    chosen = [each for each in chosen if each.partition("=")[0] not in yours]
    # JupyterLab refuses root unless told; in a container there is often nobody else.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        chosen.append("--allow-root")
    command = [sys.executable, "-m", "jupyterlab", *chosen, *options.rest]
    os.execv(sys.executable, command)


def _doctor(_: argparse.Namespace) -> int:
    from course_lib.setup import doctor

    report = doctor.examine()
    print(report)
    return 0 if report.ready else 1


def _data_render(options: argparse.Namespace) -> int:
    from course_lib import renderer
    from course_lib.data import manifest

    root = renderer.build(options.to)
    print(f"{manifest.verify(root)} pictures in {root}.")
    return 0


def _data_verify(_: argparse.Namespace) -> int:
    from course_lib.data import manifest

    count = manifest.verify(manifest.bundled_folder())
    print(f"{count} pictures, all as the manifest says.")
    return 0


def _data_download(_: argparse.Namespace) -> int:
    from course_lib.data import download_hotdog

    print(f"The d2l hot-dog pictures are in {download_hotdog()}.")
    return 0


def _notebooks_build(options: argparse.Namespace) -> int:
    from course_lib.publishing import notebooks

    for name, rebuilt in notebooks.build(options.names, options.all):
        print(f"{name}: {'rebuilt' if rebuilt else 'in step'}", flush=True)
    return 0


def _evidence_run(options: argparse.Namespace) -> int:
    from course_lib.evidence import cli_run

    return cli_run(options.ids, again=options.again, jobs=options.jobs)


def _evidence_show(options: argparse.Namespace) -> int:
    from course_lib.evidence import cli_show

    return cli_show(options.ids)


def _evidence_check(options: argparse.Namespace) -> int:
    from course_lib.evidence import cli_check

    return cli_check(options.ids, recompute=options.recompute)


def _progress(_: argparse.Namespace) -> int:
    from course_lib.exercises import progress

    print(progress())
    return 0


def _colab(options: argparse.Namespace) -> int:
    from course_lib.publishing import addresses, stamping

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
    return int(options.check and any(each.changed or not each.in_step for each in results))


def _export(options: argparse.Namespace) -> int:
    from course_lib.setup import hosting

    hosting.export_work(options.file)
    return 0


def _import(options: argparse.Namespace) -> int:
    from course_lib.setup import hosting

    for path in hosting.import_work(options.file):
        print(path)
    return 0


def _bundle(options: argparse.Namespace) -> int:
    from course_lib.setup import bundle

    bundle.make(options.folder, options.systems, options.pythons, options.torch, options.handouts)
    return 0


def _handouts(options: argparse.Namespace) -> int:
    from course_lib.publishing import addresses, handouts

    if bool(options.repo) != bool(options.ref):
        raise CourseError("A repository and a tag go together: --repo OWNER/NAME --ref TAG")
    where = addresses.Address(options.repo, options.ref) if options.repo else addresses.address()
    for path in handouts.build(options.to, options.names, where):
        print(path, flush=True)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from importlib import import_module

    import_module(f"course_lib.benchmarks.{options.what}").main(options.rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
