"""The command `cocoseg`: what stands beside the stages."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cocoseg.core.errors import CocosegError, missing_extra

# Each command imports what it needs when it runs, so that --help answers at once.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command: exit 0, or 1 after one line on standard error, or 2 for a command line that means nothing."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except CocosegError as error:
        sys.exit(f"cocoseg {options.command}: {error}")
    except ModuleNotFoundError as error:
        if (line := missing_extra(error)) is None:
            raise
        sys.exit(f"cocoseg {options.command}: {line}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
    except OSError as error:  # such as a file where a folder is meant: what the system says, of the path it says it of
        place = error.filename2 or error.filename
        sys.exit(f"cocoseg {options.command}: {f'{place}: ' if place else ''}{error.strerror or error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cocoseg",
        description="Compare runs of this repository, score and use models, verify data. dvc repro runs the pipeline "
        "itself.",
        epilog="cocoseg COMMAND --help has examples. exit status: 0; 1 after a line on what to fix; 2 for a command "
        "line that means nothing; 130 when interrupted",
    )
    parser.add_argument("--version", action="version", version=f"cocoseg {version('cocoseg')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_compare(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_verify(commands)
    return parser


def _add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "compare",
        help="say whether one run is better than another",
        description="Hold a run against another: is the difference more than these images, more than these seeds?",
        epilog="examples:\n"
        "  cocoseg compare main                      the working tree against main\n"
        "  cocoseg compare main ochre-wisp           an experiment against main, with all runs of other seeds\n"
        "  cocoseg compare HEAD~1 HEAD --format md   the comment of a pull request",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("base", metavar="BASE", help="a git revision or an experiment's name")
    command.add_argument("new", metavar="REV", nargs="?", help="another; without it the working tree")
    command.add_argument("--format", choices=("text", "md", "json"), default="text", help="default: text")
    command.add_argument("--pictures", metavar="DIR", type=Path, help="draw the images that changed most into DIR")
    command.add_argument("--images", metavar="N", type=_count, default=4, help="so many of each kind; default: 4")
    command.add_argument("--plots-url", metavar="URL", help="with md: where the committed plots of REV can be seen")
    command.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    from cocoseg.commands.compare.compare import compare
    from cocoseg.commands.compare.report import report
    from cocoseg.commands.revisions import find_revision

    base, new = find_revision(options.base), find_revision(options.new)
    comparison = compare(base, new, shown=options.images)
    picture = None
    if options.pictures is not None and comparison.images_changed:
        from cocoseg.commands.compare.pictures import write_changed_images

        try:
            picture = f"Drawn side by side in {write_changed_images(options.pictures, comparison, base, new)}."
        except CocosegError as error:  # one picture is no reason to say nothing of the rest
            picture = f"Not drawn: {error}."
    sys.stdout.write(report(comparison, options.format, picture, options.plots_url))
    if comparison.refused is not None:
        raise CocosegError(comparison.refused)


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "evaluate",
        help="score a model on a side of the split",
        description="Score a checkpoint on images and masks of data/, at the images' own size. Writes nothing but the "
        "scores, as JSON, to standard output.",
        epilog="examples:\n"
        "  cocoseg evaluate --side val\n"
        "  cocoseg evaluate --model ../other/data/model\n"
        "  cocoseg evaluate --model torchvision:deeplabv3_mobilenet",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--model",
        metavar="MODEL",
        default="data/model",
        help="a folder with model.safetensors and model.json, or torchvision's released weights as torchvision:ARCH; "
        "default: data/model",
    )
    command.add_argument("--side", choices=("train", "val", "test"), help="default: test, or val without a test side")
    command.add_argument("--split", metavar="FILE", type=Path, help="a list of image file names instead of a side")
    command.add_argument("--predictions", metavar="DIR", type=Path, help="write the predicted masks into DIR")
    command.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from cocoseg.commands.evaluate import score_model

    sys.stdout.write(score_model(options.model, options.side, options.split, options.predictions))


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "verify",
        help="find what is missing or corrupt in workspace, cache and remote",
        description="Read and hash all that dvc.lock names, in the workspace, the DVC cache and the remote. Without "
        "--repair nothing is changed.",
        epilog="exit status: 0 all is well, or is again; 1 faults are left; 2 a command line that means nothing; 3 no "
        "faults, but a place was not looked at\n\n"
        "examples:\n"
        "  cocoseg verify                      look at the default remote too: all of it is downloaded once\n"
        "  cocoseg verify --repair             restore each file from whichever copy is right\n"
        "  cocoseg verify --no-remote --format json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--repair", action="store_true", help="restore what is missing or corrupt, on the remote too")
    remotes = command.add_mutually_exclusive_group()
    remotes.add_argument("--remote", metavar="NAME", help="in place of the default remote")
    remotes.add_argument("--no-remote", action="store_true", help="leave remotes alone")
    command.add_argument("--jobs", metavar="N", type=_count, help="files at a time; default: by cores and place")
    command.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    command.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> None:
    import msgspec

    from cocoseg.commands.verify.verify import verify, verify_text

    report = verify(options.remote, with_remote=not options.no_remote, fix=options.repair, jobs=options.jobs or None)
    as_json = options.format == "json"
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() if as_json else verify_text(report))
    sys.exit(report.exit_status)


def _add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "predict",
        help="predict masks of your own images",
        description="Predict images at their own size: masks and overlays, and results in COCO's format, which "
        "pycocotools loads: COCO('DIR/images.json').loadRes('DIR/results.json'). An image that cannot be predicted is "
        "one line and makes the exit status 1; the others go through.",
        epilog="examples:\n"
        "  cocoseg predict photo.jpg --out predicted\n"
        "  cocoseg predict photos/ 'more/*.png' --out predicted --tta\n"
        "  cocoseg predict photos/ --out predicted --rev ochre-wisp\n"
        "  cocoseg predict photos/ --out predicted --repo https://example.org/team/cocoseg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("paths", metavar="PATH", nargs="+", help="an image, a folder of images, or a glob in quotes")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the predictions go")
    _add_model_source(command)
    command.add_argument("--tta", action="store_true", help="also predict the mirror image, and average")
    command.add_argument("--batch-size", metavar="N", type=_positive_count,
                         help="images in the network at a time, which the cores of a CPU share; default: as trained, "
                         "at most 16")  # fmt: skip
    command.set_defaults(run=_predict)


def _add_model_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", metavar="DIR", default="data/model", help="a folder with model.safetensors and model.json; "
        "default: data/model"
    )  # fmt: skip
    command.add_argument("--rev", metavar="REV", help="take it from a git revision or an experiment of that name")
    command.add_argument("--repo", metavar="URL", help="take it from another repository with DVC, by URL or path")


def _predict(options: argparse.Namespace) -> None:
    from cocoseg.commands.model_source import ModelSource
    from cocoseg.commands.output_folder import prepared_folder
    from cocoseg.commands.predict.predict import predict

    source = ModelSource(options.model, options.rev, options.repo)
    with prepared_folder(options.out):
        summary = predict(source.load, options.paths, options.out, options.batch_size, flips=options.tta)
    if summary.predicted:
        failed = f", failed: {summary.failed}" if summary.failed else ""
        empty = "; no class in any, and pycocotools loads no empty results" if summary.found_nothing else ""
        sys.stdout.write(f"{options.out}: images predicted: {summary.predicted}{failed}{empty}\n")
    if summary.failed:
        sys.exit(1)


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "export",
        help="write the model for other runtimes",
        description="Write a model and its card: as ONNX of any batch and size, held against PyTorch by "
        "onnxruntime, or in the layout that smp.from_pretrained loads from a folder or the Hugging Face Hub.",
        epilog="examples:\n"
        "  cocoseg export --format onnx --out exported/onnx\n"
        "  cocoseg export --format onnx --out exported/ochre-wisp --rev ochre-wisp\n"
        "  cocoseg export --format huggingface --out exported/hub && hf upload USER/NAME exported/hub",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--format", choices=("onnx", "huggingface"), required=True)
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the files go")
    _add_model_source(command)
    command.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    from cocoseg.commands.export.export import export
    from cocoseg.commands.model_source import ModelSource
    from cocoseg.commands.output_folder import prepared_folder

    source = ModelSource(options.model, options.rev, options.repo)
    with prepared_folder(options.out):
        said = export(source, options.format, options.out)
    sys.stdout.write(f"{said}\n")


def _positive_count(text: str) -> int:
    if _count(text) == 0:
        raise argparse.ArgumentTypeError("'0' is no size; expected a whole number from 1")
    return _count(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count; expected a whole number from 0")
    return int(text)
