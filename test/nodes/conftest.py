# SPDX-License-Identifier: Apache-2.0
"""An arm_node in this process, before an arm that is at once where it is sent; the test calls what its executor would."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ros"))  # so that tests can say `from panda import ...`


class ArmBench:
    """`node`; `sent`: the poses that went to the robot; `q`: where its joints are."""

    def __init__(self, domain, name="arm_node", **parameters):
        import rclpy
        from geometry_msgs.msg import PoseStamped
        from panda import HOME, NAMES, urdf
        from rclpy.context import Context
        from rclpy.parameter import Parameter
        from rclpy.signals import SignalHandlerOptions

        from vla_sd_ros.kinematics.arm import ArmKinematics
        from vla_sd_ros.nodes.arm_node import ArmNode

        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = ArmNode(name, context=self.context, namespace="/vla", parameter_overrides=given)
        self.kinematics, self.q, self.sent = ArmKinematics(urdf(), "panda_tcp", NAMES), np.array(HOME), []
        self.node.create_subscription(PoseStamped, "target_pose", lambda message: None, 1)  # somebody listens

    def start(self, urdf_text=None):
        """Configured and activated, and its joints known."""
        from panda import urdf

        self.node.trigger_configure()
        self.describe(urdf_text or urdf())
        self.activate()
        self.measure()
        return self

    def activate(self):
        self.node.trigger_activate()
        publisher = self.node.arm._publisher
        publisher.publish = self.sent.append

    def describe(self, text):
        from std_msgs.msg import String

        self.node.arm_state.on_description(String(data=text))

    def measure(self, age=0.0, **changes):
        """One message of joint states, stamped `age` [s] ago; changes: of its fields."""
        from panda import NAMES
        from rclpy.duration import Duration
        from sensor_msgs.msg import JointState

        message = JointState(**({"name": NAMES, "position": self.q.tolist()} | changes))
        message.header.stamp = (self.node.get_clock().now() - Duration(seconds=age)).to_msg()
        self.node.arm_state.on_joint_states(message)

    def command(self, **fields):
        from panda import command

        self.node._on_command(command(**fields))

    def run(self, seconds, **measured):
        """Tick at 100 Hz while the arm follows; measured: arguments of `measure`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
            before = len(self.sent)
            self.node._tick()
            if len(self.sent) > before:
                pose = self.sent[-1].pose
                self.q = self._joints(pose)
            self.measure(**measured)

    def drive(self, commands=3, **fields):
        """Some commands of a goal, 0.2 s each."""
        for step in range(commands):
            self.command(**({"step": step, "translation": (0.02, 0.0, 0.0)} | fields))
            self.run(0.2)

    def hold(self, on):
        from std_srvs.srv import SetBool

        return self.node._on_hold(SetBool.Request(data=on), SetBool.Response())

    def lifecycle(self, *transitions):
        for transition in transitions:
            getattr(self.node, f"trigger_{transition}")()

    @property
    def status(self):
        return self.node.controller.status(time.monotonic())

    @property
    def path(self):
        """(n, 3) positions that were sent."""
        return np.array([[m.pose.position.x, m.pose.position.y, m.pose.position.z] for m in self.sent]).reshape(-1, 3)

    @property
    def speeds(self):
        """(n-1,) of the positions that were sent, by their stamps [m/s]: on a loaded machine the steps are longer."""
        times = np.array([m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in self.sent])
        return np.linalg.norm(np.diff(self.path, axis=0), axis=1) / np.diff(times)

    @property
    def tip(self):
        """Where the tip is, base axes."""
        return self.kinematics.forward(self.q)[0]

    def _joints(self, pose):
        from pinocchio import Quaternion

        p, o = pose.position, pose.orientation
        q = self.kinematics.inverse(np.array([p.x, p.y, p.z]), Quaternion(o.w, o.x, o.y, o.z).matrix(), self.q)
        return self.q if q is None else q

    def close(self):
        self.node.stop()
        self.node.destroy_node()
        self.node.controller = None  # rclpy holds on to the node
        self.context.try_shutdown()


@pytest.fixture
def domain():
    """A ROS domain of this test's own."""
    from processes import Domain

    domain = Domain()
    yield domain
    domain.release()


@pytest.fixture
def make_arm(domain):
    """make_arm(name, **parameters) -> ArmBench, not yet started; all of one test in one ROS domain."""
    made = []

    def make(name="arm_node", **parameters):
        made.append(ArmBench(domain, name, **parameters))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def arm(make_arm):
    """An active one."""
    return make_arm().start()


class StandinRobot:
    """drivers.Robot of an arm that is always in one place. `followed`: the (target, twist) that it was sent; `rests`: how often;
    `gripped`: the wishes for its gripper.
    """

    description, fingers, fault = "", (), ""

    def __init__(self):
        from vla_sd_ros.kinematics.pose import Pose

        self.here, self.followed, self.rests, self.homed = Pose(np.zeros(3), np.eye(3)), [], 0, []
        self.gripped = []

    def read(self):
        from vla_sd_ros.drivers import Reading

        return Reading(np.zeros(1), np.zeros(1), ())

    def pose(self, joints):
        return self.here

    def follow(self, target, twist):
        self.followed.append((target, twist))

    def rest(self):
        self.rests += 1

    def grip(self, position):
        self.gripped.append(position)

    def home(self, forbidden=lambda: ""):
        self.homed.append("arm")
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            if why := forbidden():
                from vla_sd_ros.drivers import RobotError

                raise RobotError(why)
            time.sleep(0.01)

    def home_gripper(self):
        self.homed.append("gripper")

    def recover(self):
        self.homed.append("recovered")

    def gripper_problem(self):
        return ""

    def stop(self):
        pass


@pytest.fixture
def make_driver(domain):
    """make_driver() -> a DriverNode before a StandinRobot, which is its `robot`; the test calls what its executor would."""
    import rclpy
    from rclpy.context import Context
    from rclpy.signals import SignalHandlerOptions

    from vla_sd_ros.nodes.driver_node import SHARED, DriverNode
    from vla_sd_ros.nodes.parameters import ParameterSpec

    class Driver(DriverNode):
        TABLE = (
            ParameterSpec("base_frame", "base", "", read_only=True),
            ParameterSpec("joint_names", ["joint"], "", read_only=True),
            *SHARED,
        )

        def connect(self):
            self.robot = StandinRobot()
            return self.robot

    made = []

    def make():
        context = Context()
        rclpy.init(context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
        made.append((Driver("franka_driver", context=context, namespace="/vla"), context))
        return made[-1][0]

    yield make
    for node, context in made:
        node.destroy_node()
        context.try_shutdown()
