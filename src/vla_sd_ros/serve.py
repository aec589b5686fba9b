# SPDX-License-Identifier: Apache-2.0
"""`vla-sd serve`: a policy and a decoder behind OpenVLA's POST /act and openpi's websocket."""

import argparse
import logging
import sys
from dataclasses import replace

from vla_sd_ros import inputs

MOST = 32  # requests in a batch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    _add_policy(parser)
    _add_server(parser)


def _add_policy(parser: argparse.ArgumentParser) -> None:
    """What answers."""
    parser.add_argument("--checkpoint", default=inputs.CHECKPOINT, help="./directory, or name of a shipped one")
    parser.add_argument("--decoder", help="name of a decoder; default: that of --adapted, or autoregressive")
    parser.add_argument("--adapted", default="", help="bundle of vla-sd adapt: draft head, drafter, database, decoder and settings")
    parser.add_argument("--settings", help="parameter file of vla-sd calibrate, or of a node: its decoder's settings")
    inputs.add_weights(parser)
    parser.add_argument(
        "--unnorm-key", default="", help="key of the action statistics for requests that name none; default: the only one"
    )
    inputs.add_largest_step(parser)
    parser.add_argument(
        "--images",
        choices=("camera", "turned"),
        default="camera",
        help="OpenVLA checkpoints of LIBERO: images are upright as cameras have them, or the client has turned them as the "
        "training data are",
    )
    parser.add_argument(
        "--database", default="", help="trajectory database: a directory, or a Qdrant server's URL; default: the checkpoint's own"
    )
    parser.add_argument("--drafter", default="", help="directory or file of a drafter; default: the checkpoint's own")
    parser.add_argument(
        "--threads", type=inputs.whole(0, 1024), default=0, help="CPU threads of the model; default: the library's choice"
    )
    parser.add_argument(
        "--batch",
        type=inputs.whole(1, MOST),
        default=1,
        help="clients that share the model's passes, where they ask within 5 ms (default: %(default)s)",
    )


def _add_server(parser: argparse.ArgumentParser) -> None:
    """Where it listens, and to whom."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than loopback need a key")
    parser.add_argument("--port", type=inputs.PORT, default=8000, help="port to listen on; 0: any free one")
    parser.add_argument("--api-key-file", help="file with the key that clients must send")
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web page that may ask, as http://host:port; without it browsers are refused",
    )
    parser.add_argument(
        "--drain",
        type=inputs.seconds,
        default=60.0,
        metavar="SECONDS",
        help="that running goals have to end after SIGTERM, when no new ones are taken (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        from vla_sd_ros.serving import door, server
        from vla_sd_ros.serving.key import read_key

        key = read_key(arguments.api_key_file) if arguments.api_key_file else ""
        bound = door.listen(arguments.host, arguments.port, key)
        server.serve(lambda: load(arguments), bound, key, listens, ready, arguments.allow_origin, arguments.drain)
    except ModuleNotFoundError as error:
        print(f"vla-sd serve: {error.name} is missing: pip install 'vla_sd_ros[serve]'", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"vla-sd serve: {error}", file=sys.stderr)
        return 2
    return 0


def listens(address: str) -> None:
    """Say where to ask whether the model is loaded."""
    print(f"loading: GET http://{address}/ready answers 200 when it is done", flush=True)


def ready(address: str) -> None:
    """Say that the server answers, and where."""
    print(f"ready: POST http://{address}/act, and openpi's protocol at ws://{address}", flush=True)


def load(arguments: argparse.Namespace):
    """The service, tested and warm. Raises ValueError with one sentence."""
    from vla_sd_ros.assembly import Choice, Source
    from vla_sd_ros.assembly.bundle import read as read_bundle
    from vla_sd_ros.assembly.local import LocalBrain, has_database
    from vla_sd_ros.assembly.local import load as load_model
    from vla_sd_ros.decoding import factory
    from vla_sd_ros.decoding.parameter_file import read_settings
    from vla_sd_ros.policy.self_test import self_test
    from vla_sd_ros.serving.service import Service

    adapted = read_bundle(arguments.adapted).choice if arguments.adapted else Choice()
    decoder = arguments.decoder or adapted.decoder
    source = Source.of(arguments)
    factory.check(decoder, drafter=True, database=has_database(source))
    if arguments.batch > 1 and "drafter" in factory.needs(decoder):
        raise ValueError(f"--batch works with decoders that need no drafter, {decoder} does: leave it out")
    choice = Choice(decoder, replace(adapted.settings, **read_settings(arguments.settings)))
    model = load_model(source)
    vla = model.vla
    if vla.images and arguments.images == "turned":
        vla.images = replace(vla.images, mirror=False)
    print(self_test(vla), flush=True)
    service = Service(vla, lambda seat: LocalBrain(model, choice, seat), arguments.batch)
    try:
        service.warm_up()
    except BaseException:
        service.close()  # its threads would keep the process
        raise
    return service
