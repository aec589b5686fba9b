# SPDX-License-Identifier: Apache-2.0
"""The folder of a study: fieldtrial's design and database, and beside them what stays sealed until the unblinding.

    study.yaml, fieldtrial.db   the design and all trials. Their arms are called a, b, ...: not even here does it say which is which
    compared.yaml               what is compared, in the order of its names, and how
    sealed/arms.json.gz         which of a, b, ... is what; study.yaml holds its hash, so nobody can exchange them later
    sealed/ID.tar.gz            of each trial the recording and what was measured, which would tell the decoder
    trials/                     the same, opened by the unblinding

Sealed is a curtain, not a safe: nothing is shown by accident, and who wants to look can. No ROS in here.
"""

import fcntl
import gzip
import hashlib
import io
import json
import os
import random
import re
import secrets
import shutil
import string
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from vla_sd_ros.inputs import BadInput, writable_folder
from vla_sd_ros.trial.arms import Arm
from vla_sd_ros.whole_files import whole

DATABASE = "fieldtrial.db"
OUTCOME = "outcome.json"
OPTION = "vla-sd trial FOLDER"  # names the folder
REPETITIONS_MAX = 500  # of each arm
CUT_OFF = "cut off before its end"
SUCCESS, NOTHING = 0, -1  # the stages of fieldtrial that a trial can reach: ours has one


class Stopped(RuntimeError):
    """The study cannot go on now; the message is one sentence."""


@dataclass(frozen=True)
class Protocol:
    """How a trial of the study is made; the same for all of them.

    simulator: whether sim_node and the nodes are started for it, with suite, task, checkpoint and parameter file (empty: the
    installed one). outcome: who judges, "task_success" or "operator". time_limit [s]; 0: the node's own.
    """

    instruction: str
    outcome: str
    time_limit: float = 0.0
    namespace: str = "vla"
    simulator: bool = False
    suite: str | None = None
    task: int | None = None
    checkpoint: str | None = None
    params: str | None = None


@dataclass(frozen=True)
class Slot:
    """The next trial. code: the blind one of its arm. setup: which arrangement of the scene, from 1 on."""

    id: str
    seq: int
    total: int
    code: str
    setup: int
    parameters: dict[str, object]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. success: None where it does not count and is made again, because of `why`.

    termination: in fieldtrial's words. duration [s]. measured: what was observed of the decoder, for JSON.
    """

    success: bool | None
    termination: str
    duration: float
    measured: dict
    why: str = ""


def create(folder: Path, arms: Sequence[Arm], repetitions: int, protocol: Protocol) -> None:
    """Make the study's folder, whole or not at all, and lock its design. Raises BadInput, OSError."""
    from fieldtrial.services.study import lock_study

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists and is no study; give the name of a new folder")
    writable_folder(folder.parent, OPTION)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        letters = random.SystemRandom().sample(string.ascii_lowercase[: len(arms)], len(arms))
        key = {
            "salt": secrets.token_hex(16),
            "arms": {letter: vars(arm) for letter, arm in zip(letters, arms)},
            "treatment": letters[-1],
            "control": letters[0],
            "protocol": vars(protocol),
        }
        content = json.dumps(key).encode()
        (part / "sealed").mkdir()
        (part / "sealed" / "arms.json.gz").write_bytes(gzip.compress(content))
        compared = {"arms": {arm.name: arm.parameters for arm in sorted(arms, key=lambda arm: arm.name)}, **vars(protocol)}
        (part / "compared.yaml").write_text(yaml.safe_dump(compared, sort_keys=False))
        seal = {"sealed": hashlib.sha256(content).hexdigest()}
        # Treatment and control by the alphabet, as who is the control is known: the true ones are sealed. The test is two-sided.
        design = _design(
            folder.resolve().name, dict.fromkeys(sorted(letters), seal), "b", "a", repetitions, secrets.randbelow(2**31)
        )
        (part / "study.yaml").write_text(design)
        lock_study(part)
        part.chmod(0o755)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _design(name: str, arms: dict[str, dict], treatment: str, control: str, repetitions: int, seed: int) -> str:
    """The text of study.yaml. arms: what fieldtrial shall know of each, by its identifier."""
    return yaml.safe_dump(
        {
            "fieldtrial": 1,
            "name": re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:64] or "study",
            "rubric": {"stages": [{"id": "success", "label": "did what the instruction says"}], "success": "success"},
            "arms": [{"id": arm, "policy": policy} for arm, policy in arms.items()],
            "conditions": {"factors": {"setup": {"range": [1, repetitions]}}},
            "design": {"type": "randomized_block", "order": "random", "blinding": "operator", "seed": seed},
            "analysis": {
                "primary": {"comparison": {"treatment": treatment, "control": control}, "alternative": "two-sided"},
                "secondary": ["time_to_success"],
            },
        },
        sort_keys=False,
    )


def is_study(folder: Path) -> bool:
    """Whether the folder holds a study that can go on: fieldtrial's database, and the sealed key to its arms."""
    return (folder / DATABASE).is_file() and (folder / "sealed" / "arms.json.gz").is_file()


@contextmanager
def opened(folder: Path) -> Iterator["Study"]:
    """The study in a folder, for this process alone. Raises BadInput."""
    from fieldtrial.services._context import open_study

    writable_folder(folder, OPTION)
    with open(folder / "sealed" / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"another vla-sd trial is at work on {folder}; wait for its end, or stop it") from error
        with open_study(folder) as context:
            yield Study(folder, context)


class Study:
    """Use opened(). begin() first, then for each slot of next(): start(), and keep() with its outcome; end() at last."""

    def __init__(self, folder: Path, context):
        self.folder, self._context = folder, context
        content = gzip.decompress((folder / "sealed" / "arms.json.gz").read_bytes())
        if any(arm.policy.get("sealed") != hashlib.sha256(content).hexdigest() for arm in context.spec.arms):
            raise BadInput(f"{folder / 'sealed' / 'arms.json.gz'} is not the one with which the study was locked; put it back")
        key = json.loads(content)
        self.arms = {letter: Arm(**arm) for letter, arm in key["arms"].items()}
        self.protocol, self._treatment, self._control = Protocol(**key["protocol"]), key["treatment"], key["control"]
        self._session = ""

    # Trials

    def cut_off(self) -> list[str]:
        """Identifiers of the trials that have begun and not ended; next() takes them for done until begin() is called."""
        from fieldtrial.services import trial

        return [one.trial_id for one in trial.list_trials(self._context) if one.status == "running"]

    def begin(self, operator: str, rig: str) -> int:
        """Start a session; returns how many trials an earlier one had left unfinished. They are void, and made again."""
        from fieldtrial.services import session, trial

        cut_off = self.cut_off()
        for identifier in cut_off:
            trial.invalidate_trial(self._context, identifier, CUT_OFF)
        for left_open in session.list_sessions(self._context, open_only=True):
            session.end_session(self._context, left_open.session_id)
        for left in (self.folder / "sealed").glob("part.*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self._session = session.start_session(self._context, operator=operator, rig=rig)
        return len(cut_off)

    def end(self) -> None:
        """End the session that begin() started; what was kept stays."""
        from fieldtrial.services import session

        session.end_session(self._context, self._session)

    def next(self) -> Slot | None:
        """The trial that is due; None when all are done."""
        from fieldtrial.services import trial

        slot = trial.next_slot(self._context)
        if slot is None:
            return None
        return Slot(slot.slot_id, slot.seq, slot.total, slot.blind_code, slot.factors["setup"], self.arms[slot.arm].parameters)

    def start(self, slot: Slot) -> str:
        """Note that the trial has begun; returns its identifier."""
        from fieldtrial.services import trial

        return trial.start_trial(self._context, slot.id, self._session).trial_id

    def workplace(self) -> Path:
        """A new folder for the recording of a trial; keep() takes it away."""
        return Path(tempfile.mkdtemp(prefix="part.", dir=self.folder / "sealed"))

    def keep(self, trial_id: str, workplace: Path, outcome: Outcome) -> None:
        """Seal what was recorded and measured, and only then note how the trial ended."""
        from fieldtrial.services import trial

        self._seal(trial_id, workplace, outcome)
        if outcome.success is None:
            trial.invalidate_trial(self._context, trial_id, outcome.why)
            return
        trial.complete_trial(
            self._context,
            trial_id,
            stage_index=SUCCESS if outcome.success else NOTHING,
            termination=outcome.termination,
            duration_s=outcome.duration,
        )

    def _seal(self, trial_id: str, workplace: Path, outcome: Outcome) -> None:
        archive = self._archive(trial_id)
        content = json.dumps(vars(outcome)).encode()
        with whole(archive) as part:
            with tarfile.open(part, "w:gz", compresslevel=1) as tar:
                for entry in sorted(workplace.iterdir()):
                    tar.add(entry, entry.name)
                about = tarfile.TarInfo(OUTCOME)
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
            with part.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(workplace)

    def _archive(self, trial_id: str) -> Path:
        return self.folder / "sealed" / f"{trial_id}.tar.gz"

    def base(self) -> dict[str, object]:
        """Parameters of vla_node that only some of the arms name, as they were at the beginning."""
        return json.loads(self._base.read_text()) if self._base.is_file() else {}

    def keep_base(self, parameters: dict[str, object]) -> None:
        """Note those parameters, by name, for base(); the file is whole or not there."""
        with whole(self._base) as part:
            part.write_text(json.dumps(parameters))

    @property
    def _base(self) -> Path:
        return self.folder / "sealed" / "base.json"

    # Unblinding

    @property
    def unblinded(self) -> bool:
        """Whether the database says that the codes were opened."""
        from fieldtrial.services.study import study_status

        return not study_status(self.folder).blinded

    def unblind(self) -> dict[str, str]:
        """Open what is sealed, which the database notes; returns the arms' names by code."""
        from fieldtrial.services.study import unblind_study

        if not self.unblinded:
            unblind_study(self.folder)
        for record in self._records():
            if self._archive(record.trial_id).is_file():
                self._open(record)
        return {code: self.arms[letter].name for letter, code in self._codes().items()}

    def _open(self, record) -> None:
        target, part = self._opened(record), self.folder / "trials" / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with tarfile.open(self._archive(record.trial_id)) as tar:
            tar.extractall(part, filter="data")
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
        self._archive(record.trial_id).unlink()

    def _opened(self, record) -> Path:
        """The folder of an unblinded trial, named for its beginning, which nothing changes any more, and who it is."""
        name = f"{record.started_at:%Y-%m-%d_%H-%M-%S}_{self.arms[record.arm].name}_{record.trial_id[-6:]}"
        return self.folder / "trials" / name

    def _records(self) -> list:
        """Of all trials that ended, in fieldtrial's terms."""
        from fieldtrial.services.trial import collect_records

        return collect_records(self._context)[0]

    def _codes(self) -> dict[str, str]:
        from fieldtrial.store import models
        from sqlalchemy import select

        with self._context.db() as database:
            return {arm.key: arm.blind_code for arm in database.scalars(select(models.Arm))}

    def results(self):
        """fieldtrial's analysis of the locked design, with the arms by their names. Only after unblind()."""
        from fieldtrial.analysis.engine import analyze
        from fieldtrial.design.loader import parse_study
        from fieldtrial.services.trial import collect_records

        records, info = collect_records(self._context)
        names = {letter: arm.name for letter, arm in self.arms.items()}
        spec = self._context.spec
        named = _design(
            spec.name,
            {arm.name: arm.parameters for arm in self.arms.values()},
            names[self._treatment],
            names[self._control],
            spec.conditions.count(),
            spec.design.seed,
        )
        return analyze(
            parse_study(named).spec,
            [replace(record, arm=names[record.arm]) for record in records],
            info,
            blind_codes={names[letter]: code for letter, code in self._codes().items()},
        )

    def measured(self) -> dict[str, list[dict]]:
        """What was measured in the trials that count, by the arms' names. Only after unblind()."""
        found: dict[str, list[dict]] = {arm.name: [] for arm in self.arms.values()}
        for record in self._records():
            if record.status == "completed":
                outcome = json.loads((self._opened(record) / OUTCOME).read_text())
                found[self.arms[record.arm].name].append(outcome["measured"])
        return found
