# SPDX-License-Identifier: Apache-2.0
"""From what a client sends to an observation, or to the sentence that says what was wrong with it."""

from dataclasses import dataclass

import numpy as np

from vla_sd_ros.instruction import objection
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.serving.wire import WireError, from_json, unpack

IMAGE_KEYS = ("observation/image", "observation/exterior_image_1_left", "image")  # openpi's for LIBERO and DROID
MAX_SIDE = 8192  # pixels
MAX_INSTRUCTION = 500  # characters
EXTENSION = "vla_sd"  # key of an openpi observation under which our own client says more


class BadRequest(ValueError):
    """Input that cannot be used: one sentence that says what was wrong and what to do."""


class Busy(RuntimeError):
    """More requests wait than the server can answer in time; one sentence."""


class Unready(RuntimeError):
    """The server takes no goals: its model is being loaded, or it is about to stop; one sentence."""


@dataclass(frozen=True)
class Observation:
    """image (H, W, 3) uint8 RGB. unnorm_key: the statistics that the client expects, empty for those of the server.

    step: how many actions of this episode the client has executed, where it says so; 0 begins a new episode. measured: where
    the end effector was when the image was taken. follows: whether the client says that this image follows the one before by one
    control period, in which the arm was not held; only then can a step do without a look at its image.
    """

    image: np.ndarray
    instruction: str
    unnorm_key: str = ""
    step: int | None = None
    measured: Pose | None = None
    follows: bool = False


def from_act(body: bytes) -> tuple[Observation, bool]:
    """The observation in the body of a POST /act, and whether it was encoded twice, as deploy.py allows. BadRequest."""
    payload = _read(from_json, body)
    twice = "encoded" in payload
    if twice:
        if len(payload) != 1:
            raise BadRequest("'encoded' comes with other keys: put everything into the encoded text")
        payload = _read(from_json, payload["encoded"])
    if "image" not in payload:
        raise BadRequest(
            f"there is no 'image' among the keys {_keys(payload)}: send image, instruction and, if you like, unnorm_key"
        )
    key = payload.get("unnorm_key")
    if not isinstance(key, str | None):
        raise BadRequest(f"unnorm_key is of type {type(key).__name__}, but must be text")
    return Observation(_image("image", payload["image"]), _instruction("instruction", payload), key or ""), twice


def from_openpi(data: bytes) -> Observation:
    """The observation in a message of openpi's clients. BadRequest."""
    message = _read(unpack, data)
    name = next((key for key in IMAGE_KEYS if key in message), None)
    if name is None:
        raise BadRequest(f"there is no image among the keys {_keys(message)}: send one as {' or '.join(map(repr, IMAGE_KEYS))}")
    return Observation(_image(name, message[name]), _instruction("prompt", message), **_extension(message.get(EXTENSION, {})))


def _read(decode, data) -> dict:
    try:
        message = decode(data)
    except WireError as error:
        raise BadRequest(f"{error}: see how docs/serving.md sends an observation") from error
    if not isinstance(message, dict):
        raise BadRequest(f"this is of type {type(message).__name__}, but must be a map with image and instruction")
    return message


def _image(name: str, image) -> np.ndarray:
    """A copy of its own, because the model may want to write."""
    if not isinstance(image, np.ndarray):
        raise BadRequest(f"{name!r} is of type {type(image).__name__}, but must be a numpy array, encoded as docs/serving.md says")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise BadRequest(f"{name!r} is {image.dtype} of shape {image.shape}, but must be RGB, uint8 of shape (height, width, 3)")
    if not all(1 <= side <= MAX_SIDE for side in image.shape[:2]):
        raise BadRequest(f"{name!r} is of shape {image.shape}, but height and width must lie in 1 .. {MAX_SIDE}")
    return image.copy()


def _instruction(name: str, message: dict) -> str:
    text = message.get(name)
    try:
        text = text.item() if isinstance(text, np.ndarray) and text.ndim == 0 else text
        text = text.decode() if isinstance(text, bytes) else text
        wrong = objection(text) if isinstance(text, str) else "is not there, or no text"
        if wrong or not isinstance(text, str):
            raise BadRequest(f"{name!r} {wrong}: say in words what the arm shall do")
    except (UnicodeError, SystemError, ValueError) as error:  # numpy's text may hold what is no character
        if isinstance(error, BadRequest):
            raise
        raise BadRequest(f"{name!r} is no valid UTF-8 text") from error
    if len(text) > MAX_INSTRUCTION:
        raise BadRequest(f"{name!r} has {len(text)} characters, but at most {MAX_INSTRUCTION} are allowed")
    return text


def _extension(entry) -> dict:
    """step, follows and measured, of what our own client sends beside an observation."""
    step = entry.get("step") if isinstance(entry, dict) else -1
    if step is not None and (isinstance(step, bool) or not isinstance(step, int) or step < 0):
        raise BadRequest(f"{EXTENSION!r} must be a map whose 'step' is the number of actions executed in this episode")
    said = {"step": step, "follows": entry.get("follows") is True}
    pose = [entry.get(name) for name in ("position", "rotation")]
    if all(value is None for value in pose):
        return said
    for value, shape in zip(pose, ((3,), (3, 3))):
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape != shape:
            raise BadRequest(f"'position' and 'rotation' in {EXTENSION!r} must be arrays of floats, (3,) and (3, 3)")
    return {**said, "measured": Pose(*(value.astype(float) for value in pose))}


def _keys(message: dict) -> str:
    return repr([str(key)[:40] for key in list(message)[:10]])
