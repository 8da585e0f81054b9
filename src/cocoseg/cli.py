"""The command line of `cocoseg`, for what is not a stage of the pipeline."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cocoseg.arguments import Help, count, positive_count, scales_of, threshold_of
from cocoseg.core.errors import CocosegError, explained
from cocoseg.core.interrupt import end_silently_at_ctrl_c, one_line_at_ctrl_c
from cocoseg.core.quick_end import spare_imports, through
from cocoseg.core.surroundings import drop_unwritable_output
from cocoseg.core.threads import wait_briefly

# Each command imports what it needs when it runs, so that --help answers at once.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Exit with 0, with 1 after one line on standard error, or with 2 for a usage error."""
    if arguments is None:  # else a test calls it, in a process that is not ours to end
        end_silently_at_ctrl_c()
        wait_briefly()
        spare_imports()
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:  # here, because argparse would print the usage of `cocoseg` itself
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    going_on = "; runs that have started go on" if options.command == "sweep" else ""
    with one_line_at_ctrl_c(f"cocoseg {options.command}: interrupted{going_on}; run the same line again"):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    try:
        options.run(options)
        through(0)
    except SystemExit as end:
        if not isinstance(end.code, str):  # a line that is still to be written
            through(end.code or 0)
        raise
    except CocosegError as error:
        sys.exit(f"cocoseg {options.command}: {error}")
    except OSError as error:  # such as a file where a folder is expected
        place = error.filename2 or error.filename or ("standard output" if drop_unwritable_output() else None)
        if isinstance(error, BrokenPipeError):  # `| head` has ended
            sys.exit(1)
        sys.exit(f"cocoseg {options.command}: {f'{place}: ' if place else ''}{error.strerror or error}")
    except Exception as error:
        if (line := explained(error)) is None:
            raise
        sys.exit(f"cocoseg {options.command}: {line}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cocoseg",
        description="Compare and sweep runs, score and use models, and verify data. To run the pipeline itself, use "
        "dvc repro.",
        epilog="For examples, see cocoseg COMMAND --help. Exit status: 0 on success; 1 after a line on what to fix; 2 "
        "for a usage error; 130 when interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"cocoseg {version('cocoseg')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_compare(commands)
    _add_rank(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_verify(commands)
    _add_sweep(commands)
    return parser


def _add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "compare",
        help="tell whether one run is better than another",
        description="Compare two runs: is the difference larger than chance, given these test images and the runs "
        "with other seeds?",
        epilog="exit status:\n"
        "  0  compared, and --fail-if is not met\n"
        "  1  not compared; a line says why\n"
        "  2  usage error\n"
        "  3  --fail-if is met\n"
        "  4  --fail-if is undetermined, as with too few seeds\n\n"
        "examples:\n"
        "  cocoseg compare main                      the working tree against main\n"
        "  cocoseg compare main ochre-wisp           an experiment against main\n"
        "  cocoseg compare HEAD~1 HEAD --format md   as a pull request's comment\n"
        "  cocoseg compare main --fail-if worse      as a check before a merge",
        formatter_class=Help,
    )
    command.add_argument("base", metavar="BASE", help="a git revision or an experiment")
    command.add_argument("new", metavar="REV", nargs="?", help="the run to judge; default: the working tree")
    command.add_argument("--format", choices=("text", "md", "json"), default="text", help="default: text")
    command.add_argument("--pictures", metavar="DIR", type=Path, help="draw the images that changed most into DIR")
    command.add_argument(
        "--images", metavar="N", type=count, default=4, help="images to show per kind, worse and better; default: 4"
    )
    command.add_argument(
        "--plots-url", metavar="URL", help="with md: the URL of the committed files of REV, to show their plots"
    )
    command.add_argument("--fail-if", choices=("worse", "not-better"), help="exit with 3 if the verdict on the primary "
                         "score is that, and with 4 if it is undetermined; equivalent is not better")  # fmt: skip
    command.add_argument("--claim", choices=("change", "checkpoints"), help="with --fail-if: the claim whose verdict "
                         "counts; default: change, which needs three seeds a side")  # fmt: skip
    command.set_defaults(run=_compare, parser=command)


def _compare(options: argparse.Namespace) -> None:
    if options.claim and not options.fail_if:
        options.parser.error("argument --claim: only with --fail-if")
    import msgspec

    from cocoseg.commands.compare.compare import compare
    from cocoseg.commands.compare.gate import judged
    from cocoseg.commands.compare.report import report
    from cocoseg.commands.revisions import find_revision

    base, new = find_revision(options.base), find_revision(options.new)
    comparison = compare(base, new, shown=options.images)
    if options.fail_if and comparison.checkpoint is not None:
        gate = judged(comparison.checkpoint, comparison.change, options.fail_if, options.claim or "change",
                      is_outdated=comparison.is_outdated)  # fmt: skip
        comparison = msgspec.structs.replace(comparison, gate=gate)
    picture = None
    if options.pictures is not None and comparison.images_changed:
        from cocoseg.commands.compare.pictures import is_committed, write_changed_images

        try:
            path = write_changed_images(options.pictures, comparison, base, new)
            picture = f"Drawn in {path}."
            if options.plots_url and options.format == "md" and is_committed(path, base, new):
                picture = f"![base above, new below]({options.plots_url.rstrip('/')}/{path})"
        except CocosegError as error:  # the rest is still reported
            picture = f"Not drawn: {error}."
    sys.stdout.write(report(comparison, options.format, picture, options.plots_url))
    if comparison.refused is not None:
        raise CocosegError(comparison.refused)
    if comparison.gate is not None:
        sys.exit(comparison.gate.exit_status)


def _add_rank(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "rank",
        help="tell which of several runs can be told apart",
        description="Rank runs by their score on the test side. Runs that differ in the seed only are one row, and "
        "rows that chance may have ordered share a letter.",
        epilog="examples:\n"
        "  cocoseg rank main smaller-lr larger-lr\n"
        "  dvc exp list --name-only | xargs cocoseg rank main\n"
        "  cocoseg rank main ochre-wisp --claim checkpoints   one seed each",
        formatter_class=Help,
    )
    command.add_argument("revisions", metavar="REV", nargs="+", help="two or more git revisions or experiments; the "
                         "first decides which score counts, and on what masks")  # fmt: skip
    command.add_argument("--claim", choices=("change", "checkpoints"), default="change", help="what is ranked: what "
                         "was changed, with three seeds a row, or the models as they are; default: change")  # fmt: skip
    command.add_argument("--format", choices=("text", "md", "json"), default="text", help="default: text")
    command.add_argument("--pictures", metavar="DIR", type=Path, help="draw the intervals into DIR/ranking.png")
    command.set_defaults(run=_rank, parser=command)


def _rank(options: argparse.Namespace) -> None:
    if len(options.revisions) < 2:
        options.parser.error("expected two or more revisions; cocoseg compare judges one against the working tree")
    from cocoseg.commands.compare.rank import rank
    from cocoseg.commands.compare.rank_report import rank_report, write_forest
    from cocoseg.commands.revisions import find_revision

    ranking = rank([find_revision(name) for name in options.revisions], options.claim)
    picture = None if options.pictures is None else f"Drawn in {write_forest(options.pictures, ranking)}."
    sys.stdout.write(rank_report(ranking, options.format, picture))


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "evaluate",
        help="score a model on a side of the split",
        description="Score a checkpoint on images and masks of data/, at the images' own size. Prints the scores as "
        "JSON.",
        epilog="examples:\n"
        "  cocoseg evaluate --side val\n"
        "  cocoseg evaluate --model ../other/data/model\n"
        "  cocoseg evaluate --model torchvision:deeplabv3_mobilenet",
        formatter_class=Help,
    )
    command.add_argument(
        "--model",
        metavar="MODEL",
        default="data/model",
        help="a folder with model.safetensors and model.json, or torchvision's released weights, as torchvision:ARCH; "
        "default: data/model",
    )
    command.add_argument("--side", choices=("train", "val", "test"), help="default: test, or val without a test side")
    command.add_argument("--split", metavar="FILE", type=Path, help="a file with image file names, instead of a side")
    command.add_argument("--predictions", metavar="DIR", type=Path, help="write the predicted masks into DIR")
    command.set_defaults(run=_evaluate, parser=command)


def _evaluate(options: argparse.Namespace) -> None:
    from cocoseg.commands.evaluate import score_model

    sys.stdout.write(score_model(options.model, options.side, options.split, options.predictions))


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "verify",
        help="find missing and corrupt data in workspace, cache and remote",
        description="Read and hash everything that dvc.lock names, in the workspace, the DVC cache and the remote. "
        "Changes nothing without --repair.",
        epilog="exit status:\n"
        "  0  no faults, or all are repaired\n"
        "  1  faults remain\n"
        "  2  usage error\n"
        "  3  no faults, but not all was checked\n\n"
        "examples:\n"
        "  cocoseg verify                  downloads everything from the default remote\n"
        "  cocoseg verify --repair         restores each file from an intact copy\n"
        "  cocoseg verify --no-remote --format json",
        formatter_class=Help,
    )
    command.add_argument("--repair", action="store_true", help="restore missing and corrupt data, on the remote too")
    remotes = command.add_mutually_exclusive_group()
    remotes.add_argument("--remote", metavar="NAME", help="check this remote in place of the default one")
    remotes.add_argument("--no-remote", action="store_true", help="do not check remotes")
    command.add_argument(
        "--jobs", metavar="N", type=count, help="files to read at a time; default: by the number of cores"
    )
    command.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    command.set_defaults(run=_verify, parser=command)


def _verify(options: argparse.Namespace) -> None:
    import msgspec

    from cocoseg.commands.verify.verify import verify, verify_text

    report = verify(options.remote, with_remote=not options.no_remote, fix=options.repair, jobs=options.jobs or None)
    as_json = options.format == "json"
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() if as_json else verify_text(report))
    sys.exit(report.exit_status)


def _add_sweep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "sweep",
        help="search parameters with many runs, here or on a cluster",
        description="Run many experiments of the commit that is checked out, and rank them by the primary score in "
        "validation. A list is a grid: each of its values gets as many runs. A range is sampled: uniform(low,high), "
        "loguniform(low,high), int(low,high), logint(low,high), choice(a,b). The same line again goes on after a "
        "kill, and with more --trials.",
        epilog="examples:\n"
        "  cocoseg sweep 'lr=loguniform(1e-4,3e-2)' 'arch=unet,fpn' --trials 20\n"
        "  cocoseg sweep 'loss=ce,dice' 'seed=0,1,2' --on local:2\n"
        "  cocoseg sweep 'lr=loguniform(1e-4,3e-2)' --trials 50 \\\n"
        "    --on slurm:gpu=1,time=120 --prune median",
        formatter_class=Help,
    )
    command.add_argument("space", metavar="KEY=VALUES", nargs="+", help="a parameter of train, and its list or range")
    command.add_argument("--trials", metavar="N", type=positive_count,
                         help="runs; default without a range: the whole grid")  # fmt: skip
    command.add_argument("--on", metavar="PLACE", default="local:1", help="local:N, N processes at a time; or "
                         "slurm:gpu=1,time=MINUTES,jobs=8, with options of sbatch; default: local:1")  # fmt: skip
    command.add_argument("--study", metavar="URL", help="a file or a database for several clones to share; default: a "
                         "file of this clone, below .dvc/tmp/sweep")  # fmt: skip
    command.add_argument("--prune", choices=("none", "median", "hyperband"), default="none",
                         help="end runs whose validation lags behind; default: none")  # fmt: skip
    command.add_argument("--confirm", metavar="N", type=count, default=3, help="fresh seeds on which the best and the "
                         "commit are trained at the end, to compare them; default: 3")  # fmt: skip
    command.add_argument("--retry-failed", action="store_true", help="try runs that failed once again")
    command.set_defaults(run=_sweep, parser=command)


def _sweep(options: argparse.Namespace) -> None:
    from cocoseg.commands.sweep.driver import sweep

    sys.stdout.write(
        sweep(
            options.space,
            most=options.trials,
            on=options.on,
            study=options.study,
            pruning=options.prune,
            confirm=options.confirm,
            retry=options.retry_failed,
        )
    )


def _add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "predict",
        help="predict masks of your own images",
        description="Predict images at their own size. Writes masks, overlays and results in COCO's format, which "
        "pycocotools loads with\n"
        "  COCO('DIR/images.json').loadRes('DIR/results.json')\n"
        "An image that cannot be predicted is reported on one line. The others are still predicted, and the exit "
        "status is 1.",
        epilog="examples:\n"
        "  cocoseg predict photo.jpg --out predicted\n"
        "  cocoseg predict photos/ 'more/*.png' --out predicted --tta\n"
        "  cocoseg predict photos/ --out predicted --rev ochre-wisp\n"
        "  cocoseg predict photos/ --out predicted --repo https://example.org/team/repo\n"
        "  cocoseg predict photos/ --out out --repo URL --model team/seg/data/model",
        formatter_class=Help,
    )
    command.add_argument("paths", metavar="PATH", nargs="+", help="an image, a folder of images, or a quoted glob")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder for the predictions, "
                         "in place of earlier ones of the same images")  # fmt: skip
    _add_model_source(command)
    command.add_argument("--tta", action="store_true", help="average with the prediction of the mirror image")
    command.add_argument("--scales", metavar="S,S", type=scales_of, default=(1.0,), help="average the logits of the "
                         "image at these scales, such as 0.75,1,1.25; default: 1")  # fmt: skip
    command.add_argument("--border", choices=("none", "reflect"), default="none", help="of a model with resize: crop: "
                         "windows end at the image's edge, or see it mirrored beyond; default: none")  # fmt: skip
    command.add_argument("--batch-size", metavar="N", type=positive_count,
                         help="images per batch; default: as in training, at most 16")  # fmt: skip
    command.set_defaults(run=_predict, parser=command)


def _add_model_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", metavar="DIR", default="data/model", help="a folder with model.safetensors and model.json; "
        "default: data/model"
    )  # fmt: skip
    command.add_argument("--rev", metavar="REV", help="take the model from a git revision or an experiment")
    command.add_argument(
        "--repo", metavar="URL", help="take the model from another DVC repository, by URL or path; the path of --model "
        "then begins at its root, as for dvc get"
    )  # fmt: skip
    command.add_argument(
        "--threshold", metavar="P", type=threshold_of, help="of a binary model: foreground is where its probability is "
        "above P, a number, or auto for the best in validation; default: as these weights were scored, else 0.5"
    )  # fmt: skip


def _predict(options: argparse.Namespace) -> None:
    from cocoseg.commands.model_source import ModelSource
    from cocoseg.commands.output_folder import prepared_folder
    from cocoseg.commands.predict.predict import predict

    source = ModelSource(options.model, options.rev, options.repo)
    with prepared_folder(options.out):
        summary = predict(
            source.load,
            options.paths,
            options.out,
            options.batch_size,
            flips=options.tta,
            threshold=lambda info: source.threshold(options.threshold, info),
            scales=options.scales,
            border=options.border,
        )
    if summary.predicted:
        if summary.threshold_remark:
            sys.stdout.write(f"{summary.threshold_remark}\n")
        images = "1 image" if summary.predicted == 1 else f"{summary.predicted:,} images"
        failed = f", {summary.failed:,} failed" if summary.failed else ""
        earlier = ", in place of those of an earlier run" if summary.replaced else ""
        empty = "; no class was found, and pycocotools cannot load empty results" if summary.found_nothing else ""
        sys.stdout.write(
            f"{images} predicted{failed}{earlier}{empty}; to look at: {options.out / 'overlays'}, colors in "
            f"{options.out / 'legend.png'}; to compute with: {options.out / 'masks'}, whose class indices are nearly "
            "black to the eye\n"
        )
    if summary.failed:
        sys.exit(1)


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "export",
        help="write the model for other runtimes",
        description="Write a model and its card, either as ONNX for any batch and size, checked against PyTorch with "
        "onnxruntime, or in the layout that smp.from_pretrained loads from a folder or the Hugging Face Hub.",
        epilog="examples:\n"
        "  cocoseg export --format onnx --out exported/onnx\n"
        "  cocoseg export --format onnx --out exported/ochre-wisp --rev ochre-wisp\n"
        "  cocoseg export --format huggingface --out exported/hub\n"
        "  hf upload USER/NAME exported/hub",
        formatter_class=Help,
    )
    command.add_argument("--format", choices=("onnx", "huggingface"), required=True, help="what to write")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder for the files")
    _add_model_source(command)
    command.set_defaults(run=_export, parser=command)


def _export(options: argparse.Namespace) -> None:
    from cocoseg.commands.export.export import export
    from cocoseg.commands.model_source import ModelSource
    from cocoseg.commands.output_folder import prepared_folder

    source = ModelSource(options.model, options.rev, options.repo)
    with prepared_folder(options.out):
        said = export(source, options.format, options.out, options.threshold)
    sys.stdout.write(f"{said}\n")
