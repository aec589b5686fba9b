# SPDX-License-Identifier: Apache-2.0
"""What each launch file starts, as plain data: arguments, nodes with parameters and remaps, launch files of drivers.

launching.py turns it into launch's own objects. Here nothing of ROS is imported, so that the ordinary tests check every
argument, parameter and remap without launch.

    plan = franka({argument.name: argument.default for argument in FRANKA} | {"driver": "sim"})

prepare.py checks all that a plan needs before the first process starts, and says which value of a parameter wins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vla_sd_ros.inputs import CHECKPOINT

PACKAGE = "vla_sd_ros"
BOOLEAN = ("true", "false")
OF_THE_FILE = ("", *BOOLEAN)  # empty: as the parameter file says
LEVELS = ("debug", "info", "warn", "error", "fatal")
DRIVERS = ("real", "direct", "sim", "none")
PARTS = ("all", "arm", "vla")


@dataclass(frozen=True)
class Argument:
    """An argument of a launch file."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()
    file: bool = False  # names a file, from the current folder on


@dataclass(frozen=True)
class Process:
    """A node. `remaps` are from the node's relative names; a value that begins with config/ is a file of this package.

    parameters: what an argument was given for; wins over every parameter file.
    derived: what follows from names, drivers and controllers; wins over the package's parameter file, not over the user's.
    needs: ROS packages that it uses beside its own. asked: the argument that it is started for.
    respawn: whether use_respawn starts it again. Not a node in whose memory alone is that the arm must not move.
    """

    executable: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    remaps: Mapping[str, str] = field(default_factory=dict)
    package: str = PACKAGE
    namespace: str | None = None  # None: that of the launch argument
    arguments: tuple[str, ...] = ()
    derived: Mapping[str, object] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    asked: str = ""
    respawn: bool = True


@dataclass(frozen=True)
class Include:
    """A launch file of another package. It sees these arguments and nothing of ours, whatever has the same name.

    renamed: what is written otherwise in the file of config/ that one of the arguments names: text, by text.
    """

    package: str
    file: str
    arguments: Mapping[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)


Plan = list[Process | Include]


NAV2 = (  # the arguments that every launch file has, named as Nav2's
    Argument("namespace", "vla", "Namespace of this package's nodes and of their topics."),
    Argument("params_file", "", "Your parameter file, over the package's own, so that it needs only what differs.", file=True),
    Argument(
        "autostart",
        "",
        "Configure and activate vla_node and arm_node at once; empty: as the parameter file says, and the package's says true.",
        OF_THE_FILE,
    ),
    Argument("use_sim_time", "", "Take time from /clock; empty: as the parameter file says, else false.", OF_THE_FILE),
    Argument("use_respawn", "false", "Start a node that ended again, instead of stopping all; not arm_node.", BOOLEAN),
    Argument("log_level", "info", "Least severe log message of this package's nodes that is shown.", LEVELS),
    Argument("checkpoint", "", "Policy of vla_node; empty: that of the parameter file."),
    Argument("unnorm_key", "", "Key of its action statistics; empty: that of the parameter file, or the only one."),
    Argument("adapted", "", "Bundle of vla-sd adapt for this policy: drafts, decoder and settings."),
    Argument("record", "false", "Record each goal, as vla-sd record does, into the folder runs.", BOOLEAN),
    Argument("use_rviz", "false", "Start RViz with the package's view of camera, arm, target and path.", BOOLEAN),
)


POLICY = {"checkpoint": "policy.checkpoint", "unnorm_key": "policy.unnorm_key", "adapted": "policy.adapted"}

REAL = (
    Argument(
        "driver",
        "real",
        "real: start the arm's driver of ROS too; direct: the vendor's library instead, by pip; sim: a simulated one; none: it "
        "runs elsewhere.",
        DRIVERS,
    ),
    Argument("nodes", "all", "Nodes to start here: all; arm: arm_node, beside the robot; vla: vla_node, beside the GPU.", PARTS),
    Argument("image_topic", "/camera/image_raw", "Topic of the camera's images."),
    Argument(
        "first_run",
        "false",
        "For an arm or a policy that is new to you: config/first_run.yaml over the package's file, slow, "
        "scaled down, with an enabling switch, and nothing sent before dry_run is set to false.",
        BOOLEAN,
    ),
)

SIM = (
    *NAV2,
    Argument(
        "arm", "franka", "franka: a scene of LIBERO; widowx: a simulated WidowX 250 S before its camera.", ("franka", "widowx")
    ),
    Argument("suite", "", "franka: LIBERO suite of the scene; empty: that of the parameter file."),
    Argument("task", "", "franka: index of the task in the suite, 0..9; empty: that of the parameter file."),
    Argument("initial_state", "", "franka: index of the initial state, 0..49; empty: that of the parameter file."),
)

# How a controller is reached: arm.interface of arm_node, the node's own topic, the controller's, and its usual name. crisp's
# has the name that its user gives it; MoveIt Servo hands on to a controller of its own configuration.
FRANKA_CONTROLLERS = {
    "crisp": ("pose_target", "target_pose", "/target_pose", ""),
    "cartesian": ("pose_target", "target_pose", "/{name}/target_frame", "cartesian_motion_controller"),
    "servo_twist": ("servo_twist", "", "", ""),
    "servo_pose": ("servo_pose", "", "", ""),
    "joint_trajectory": ("joint_trajectory", "joint_trajectory", "/{name}/joint_trajectory", "fr3_arm_controller"),
}

CRISP_FILE, CRISP_CONTROLLER = "config/franka_controllers.yaml", "cartesian_impedance_controller"
MODES_FILE = "config/widowx_modes.yaml"
WXAI_FINGERS: dict[str, object] = {"gripper.open_position": 0.044, "gripper.closed_position": 0.0}

FRANKA = (
    *NAV2,
    *REAL,
    Argument("robot_ip", "", "Address of the robot's control box, for driver:=real and direct."),
    Argument(
        "realtime",
        "enforce",
        "driver:=direct: enforce: refuse a kernel that keeps no real time; ignore: for a simulator.",
        ("enforce", "ignore"),
    ),
    Argument(
        "robot_type",
        "fr3",
        "Type of the robot, which its joints and links are named after.",
        ("fr3", "fr3v2", "fr3v2_1", "fp3", "fer"),
    ),
    Argument("arm_prefix", "", "What is put before the names of joints and links, without its last underscore."),
    Argument("target_topic", "", "Topic of the targets, of crisp, cartesian, joint_trajectory; empty: the controller's usual."),
    Argument("servo_node", "/servo_node", "Node of MoveIt Servo, of servo_twist and servo_pose."),
    Argument(
        "controller_tip",
        "",
        "Link that the controller moves; empty: link8 of the robot with MoveIt Servo, where the group fr3_arm ends, that of the "
        "parameter file with the others.",
    ),
    Argument("load_gripper", "true", "Whether the arm carries Franka's hand; without it the tip is link8.", BOOLEAN),
    Argument(
        "controller",
        "crisp",
        "Controller that takes the targets. MoveIt Servo (servo_...) is yours to start.",
        tuple(FRANKA_CONTROLLERS),
    ),
    Argument(
        "controllers_yaml",
        "",
        "Parameter file of the driver's controllers; empty: with crisp the package's own, else that of franka_bringup.",
        file=True,
    ),
    Argument(
        "controller_name",
        "",
        "Controller to load and activate with the driver, and to watch; empty: crisp's of the package's own file; else it is "
        "active already, and watched by its usual name (Servo: not watched).",
    ),
    Argument("gripper", "franka_gripper", "What comes before the names of the gripper's actions (gripper.action of arm_node)."),
    Argument("joint_states_topic", "/franka/joint_states", "Joint states: not the merged ones, which come at 30 Hz only."),
    Argument("robot_description_topic", "/robot_description", "Topic of the robot's description."),
)

WIDOWX = (
    *NAV2,
    *REAL,
    Argument("model", "wx250s", "wx250s: Interbotix WidowX 250 S; wxai: Trossen WidowX AI.", ("wx250s", "wxai")),
    Argument("ip_address", "192.168.1.2", "Address of the arm's controller (WidowX AI)."),
    Argument("arm_variant", "base", "End effector of the WidowX AI.", ("base", "leader", "follower")),
    Argument("arm_side", "none", "Side of a WidowX AI follower.", ("none", "left", "right")),
    Argument("robot_name", "wx250s", "Namespace of the Interbotix driver, and prefix of its links."),
    Argument("target_topic", "", "Topic of the joint positions; empty: that of the driver."),
    Argument("mode_configs", "", "Operating modes and profiles of the motors (Interbotix); empty: the package's own.", file=True),
)


def sim(given: Mapping[str, str]) -> Plan:
    """sim.launch.py."""
    scene: dict[str, object] = {name: _index(name, given[name]) for name in ("task", "initial_state") if given[name]}
    if given["suite"]:
        scene["suite"] = given["suite"]
    if given["arm"] == "widowx":
        if scene:
            raise ValueError(f"{next(iter(scene))} is of LIBERO's scenes, which have a Franka: leave it out with arm:=widowx")
        defaults = {argument.name: argument.default for argument in WIDOWX}
        return widowx(defaults | {name: given[name] for name in defaults if name in given} | {"driver": "sim"})
    scene |= _clock(given)
    return [Process("sim_node", scene), *_nodes("all", given, {}, {}, {}), *_rviz(given, "panda_link0", {})]


def franka(given: Mapping[str, str]) -> Plan:
    """franka.launch.py."""
    return (_franka_direct if given["driver"] == "direct" else _franka_ros)(given)


def _franka_direct(given: Mapping[str, str]) -> Plan:
    """Without ros2_control: the driver has the topics of arm_node, in the same namespace."""
    _refuse_given(
        given,
        FRANKA,
        "controller",
        "controllers_yaml",
        "controller_name",
        "controller_tip",
        "target_topic",
        "gripper",
        "servo_node",
        "joint_states_topic",
        "robot_description_topic",
    )
    if not given["robot_ip"]:
        raise ValueError("driver:=direct needs robot_ip:=ADDRESS of the robot")
    asked = {name: given[name] for name in ("robot_ip", "realtime")}
    names = _franka_names(given)
    driver = Process("franka_driver", asked, derived=names | {"hand": given["load_gripper"] == "true"})
    return _direct(given, driver, names)


def _direct(given: Mapping[str, str], driver: Process, names: Mapping[str, object]) -> Plan:
    """A driver by pip and the nodes; `names`: base_frame, tip_link and joint_names of the arm, positions of its fingers."""
    arm = {**names, "arm.interface": "pose_target", "gripper.interface": "topic"}
    return [driver, *_nodes(given["nodes"], given, arm, {}, _camera(given)), *_rviz(given, str(names["base_frame"]), {})]


def _refuse_given(given: Mapping[str, str], arguments: tuple[Argument, ...], *names: str) -> None:
    """ValueError for an argument that means nothing without ros2_control."""
    defaults = {argument.name: argument.default for argument in arguments}
    for name in names:
        if given[name] != defaults[name]:
            raise ValueError(f"{name} is of a driver of ROS, and driver:=direct has none: leave it out")


def _prefix(given: Mapping[str, str]) -> str:
    """What comes before the names of a Franka's joints, links and hardware, and before its type."""
    return f"{given['arm_prefix']}_" if given["arm_prefix"] else ""


def _franka_names(given: Mapping[str, str]) -> dict[str, object]:
    """base_frame, tip_link and joint_names; without the hand the tip is the flange."""
    robot = _prefix(given) + given["robot_type"]
    return {
        "base_frame": f"{robot}_link0",
        "tip_link": f"{robot}_hand_tcp" if given["load_gripper"] == "true" else f"{robot}_link8",
        "joint_names": [f"{robot}_joint{i}" for i in range(1, 8)],
    }


def _franka_ros(given: Mapping[str, str]) -> Plan:
    names, robot = _franka_names(given), _prefix(given) + given["robot_type"]
    interface, own, theirs, usual = FRANKA_CONTROLLERS[given["controller"]]
    shipped = given["driver"] == "real" and given["controller"] == "crisp" and not given["controllers_yaml"]
    loaded = given["controller_name"] or (CRISP_CONTROLLER if shipped else "")
    name = loaded or usual
    theirs = given["target_topic"] or theirs.format(name=name)
    moved = given["controller_tip"] or (f"{robot}_link8" if interface.startswith("servo") else "")  # by the controller
    inputs = {"joint_states": given["joint_states_topic"], "robot_description": given["robot_description_topic"]}
    parameters: dict[str, object] = names | {
        "arm.interface": interface,
        "servo.node": given["servo_node"],
        "gripper.action": "/" + given["gripper"].lstrip("/"),
    }
    if moved:
        parameters["arm.tip_link"] = moved
    if given["driver"] != "sim":  # the simulated one has no controllers and no faults
        space = f"/{given['arm_prefix']}" if given["arm_prefix"] else ""
        parameters |= ({"controller.name": name} if name else {}) | {
            "controller.hardware": f"{_prefix(given)}FrankaHardwareInterface",
            "controller.recovery_action": f"{space}/action_server/error_recovery",
        }
    if given["load_gripper"] != "true":
        parameters["gripper.interface"] = "topic"  # of whatever else is there; nobody has to listen
    plan: Plan = []
    if given["driver"] == "real":
        plan += _franka_driver(given, loaded, {"fr3_hand_tcp": str(names["tip_link"]), "fr3_": f"{robot}_"} if shipped else {})
    elif given["driver"] == "sim":
        topics = inputs | {"target_pose": theirs, "image": given["image_topic"]}
        derived = {"robot": "franka", "prefix": robot, "gripper_action": parameters["gripper.action"]}
        plan.append(_simulated_franka(given, interface, topics, derived))
    targets = {own: theirs} if own else {}
    seen = {"joint_states": inputs["joint_states"]} | _camera(given)
    nodes = _nodes(given["nodes"], given, parameters, inputs | targets, seen)
    return plan + nodes + _rviz(given, str(names["base_frame"]), inputs)


def _franka_driver(given: Mapping[str, str], loaded: str, names: Mapping[str, str]) -> Plan:
    """Upstream's driver. loaded: name of the controller to spawn, "" for none; names: of our controllers' file in the arm's own,
    where that file is used."""
    if not given["robot_ip"]:
        raise ValueError("driver:=real needs robot_ip:=ADDRESS of the robot; give driver:=none where the driver runs elsewhere")
    arguments = {name: given[name] for name in ("robot_ip", "robot_type", "arm_prefix", "load_gripper")}
    if file := CRISP_FILE if names else given["controllers_yaml"]:
        arguments["controllers_yaml"] = file
    plan: Plan = [Include("franka_bringup", "franka.launch.py", arguments, names)]
    if loaded:
        plan.append(
            Process(
                "spawner",
                package="controller_manager",
                namespace="",
                arguments=(loaded,),
                needs=("crisp_controllers",) if names else (),
                asked=f"controller_name:={loaded}",
            )
        )
    return plan


def _simulated_franka(given: Mapping[str, str], interface: str, topics: Mapping[str, str], derived: Mapping) -> Process:
    """The simulated one, with its topics and derived parameters; it takes poses, and has a hand."""
    if interface != "pose_target":
        raise ValueError("the simulated Franka takes targets as crisp does: driver:=sim needs controller:=crisp")
    if given["load_gripper"] != "true":
        raise ValueError("the simulated Franka has a hand: load_gripper:=false needs driver:=real or driver:=none")
    return Process("sim_arm_node", _clock(given), topics, namespace="", derived=derived)


def widowx(given: Mapping[str, str]) -> Plan:
    """widowx.launch.py."""
    if given["driver"] == "direct":
        return _wxai_direct(given)
    return (_wxai if given["model"] == "wxai" else _wx250s)(given)


def _wxai_direct(given: Mapping[str, str]) -> Plan:
    if given["model"] != "wxai":
        raise ValueError("driver:=direct is for the WidowX AI: give model:=wxai; a WidowX 250 S has no library without ROS")
    _refuse_given(given, WIDOWX, "target_topic", "mode_configs", "arm_side")
    names: dict[str, object] = {
        "base_frame": "base_link",
        "tip_link": "ee_gripper_link",
        "joint_names": [f"joint_{i}" for i in range(6)],
    }
    driver = Process("wxai_driver", {"ip_address": given["ip_address"]}, derived=names | {"variant": given["arm_variant"]})
    return _direct(given, driver, names | WXAI_FINGERS)


def _wx250s(given: Mapping[str, str]) -> Plan:
    name = given["robot_name"]
    parameters = {"base_frame": f"{name}/base_link", "tip_link": f"{name}/ee_gripper_link"}
    remaps = {
        topic: f"/{name}/{topic}"
        for topic in ("joint_states", "robot_description", "commands/joint_group", "commands/joint_single", "get_robot_info")
    }
    remaps["commands/joint_group"] = given["target_topic"] or remaps["commands/joint_group"]
    modes = given["mode_configs"] or MODES_FILE
    plan: Plan = []
    if given["driver"] == "real":
        arguments = {"robot_model": given["model"], "robot_name": name, "mode_configs": modes, "use_rviz": "false"}
        plan.append(Include("interbotix_xsarm_control", "xsarm_control.launch.py", arguments))
    elif given["driver"] == "sim":
        plan.append(
            Process(
                "sim_arm_node",
                _clock(given),
                {"image": given["image_topic"]},
                namespace=name,
                derived={"robot": "widowx", "prefix": name, "modes": modes},
                needs=("interbotix_xs_msgs",),
            )
        )
    nodes = _nodes(given["nodes"], given, parameters, remaps, {"joint_states": remaps["joint_states"]} | _camera(given))
    return plan + nodes + _rviz(given, parameters["base_frame"], remaps)


def _wxai(given: Mapping[str, str]) -> Plan:
    """Names and types of trossen_arm_ros: its controllers arm_controller and gripper_controller, link ee_gripper_link."""
    if given["driver"] == "sim":
        raise ValueError("there is no simulated WidowX AI: give driver:=real, driver:=none, or model:=wx250s")
    if given["arm_side"] != "none" and given["arm_variant"] != "follower":
        raise ValueError("of the WidowX AI only arm_variant:=follower has a left and a right side: leave arm_side out")
    arguments = {
        "robot_model": "wxai",
        "arm_variant": given["arm_variant"],
        "arm_side": given["arm_side"],
        "ip_address": given["ip_address"],
        "use_rviz": "false",
    }
    plan: Plan = [Include("trossen_arm_bringup", "trossen_arm.launch.py", arguments)] if given["driver"] == "real" else []
    parameters = {
        "base_frame": "base_link",
        "tip_link": "ee_gripper_link",
        "joint_names": [f"joint_{i}" for i in range(6)],
        "arm.interface": "joint_trajectory",
        "controller.name": "arm_controller",
        "gripper.interface": "parallel_gripper_command",
        "gripper.action": "/gripper_controller/gripper_cmd",
        "gripper.joint": "left_carriage_joint",
        "gripper.effort": 0.0,
        **WXAI_FINGERS,
    }
    inputs = {"joint_states": "/joint_states", "robot_description": "/robot_description"}
    nodes = _nodes(
        given["nodes"],
        given,
        parameters,
        inputs | {"joint_trajectory": given["target_topic"] or "/arm_controller/joint_trajectory"},
        {"joint_states": "/joint_states"} | _camera(given),
    )
    return plan + nodes + _rviz(given, "base_link", inputs)


def _camera(given: Mapping[str, str]) -> dict[str, str]:
    """Remaps of vla_node; image_transport puts compressed images below the topic of the others."""
    return {"image": given["image_topic"], "image/compressed": f"{given['image_topic']}/compressed"}


def _nodes(which: str, given: Mapping[str, str], arm: dict, arm_remaps: dict, vla_remaps: dict) -> Plan:
    """arm_node and vla_node; `arm`: derived parameters of arm_node, whose base frame is that of vla_node too."""
    common = _clock(given) | ({"autostart": given["autostart"] == "true"} if given["autostart"] else {})
    policy = {parameter: given[name] for name, parameter in POLICY.items() if given[name]}
    frame = {"base_frame": arm["base_frame"]} if "base_frame" in arm else {}
    if given.get("driver") == "sim":
        frame |= {"policy.real_arm": False, "policy.checkpoint": CHECKPOINT}
    nodes = {
        "arm": Process("arm_node", common, arm_remaps, derived=arm, respawn=False),
        "vla": Process("vla_node", common | policy, vla_remaps, derived=frame),
    }
    recorder: Plan = [Process("goal_recorder", _clock(given), arm_remaps | vla_remaps)] if given["record"] == "true" else []
    return [node for name, node in nodes.items() if which in ("all", name)] + recorder


def _clock(given: Mapping[str, str]) -> dict[str, object]:
    return {"use_sim_time": given["use_sim_time"] == "true"} if given["use_sim_time"] else {}


def _index(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"{name}:={value} is no index: give a whole number, 0 or more")
    return int(value)


def _rviz(given: Mapping[str, str], frame: str, topics: Mapping[str, str]) -> Plan:
    """RViz with the package's view, around the frame; `topics`: those that are not in the namespace of the nodes."""
    if given["use_rviz"] != "true":
        return []
    remaps = {name: topics[name] for name in ("robot_description",) if name in topics}
    if "image_topic" in given:
        remaps["image"] = given["image_topic"]
    return [
        Process(
            "rviz2", package="rviz2", remaps=remaps, arguments=("-d", "config/vla_sd_ros.rviz", "-f", frame), asked="use_rviz:=true"
        )
    ]


LAUNCH_FILES: dict[str, tuple[tuple[Argument, ...], Callable[[Mapping[str, str]], Plan]]] = {
    "sim.launch.py": (SIM, sim),
    "franka.launch.py": (FRANKA, franka),
    "widowx.launch.py": (WIDOWX, widowx),
}


def parameter_files(file: str, given: Mapping[str, str]) -> tuple[str, ...]:
    """The package's own parameter files, each over those before it, and the user's over all. Raises ValueError."""
    if given.get("first_run") == "true" and given.get("adapted"):
        raise ValueError(
            "first_run:=true decodes autoregressively, and adapted:= brings a decoder of its own: leave adapted:= out until you know "
            "the policy (docs/first-run.md, step 6)"
        )
    name = "widowx" if given.get("arm") == "widowx" else file.partition(".")[0]
    first = ("config/first_run.yaml",) if given.get("first_run") == "true" else ()
    return "config/decoder.yaml", f"config/{name}.yaml", *first
