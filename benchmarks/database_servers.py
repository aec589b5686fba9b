# SPDX-License-Identifier: Apache-2.0
"""A million steps in PostgreSQL with pgvector beside the embedded database and Qdrant's local mode: recall and latency of a query.

    pip install pgserver 'psycopg[binary]' && python benchmarks/database_servers.py
    python benchmarks/database_servers.py --vectors 30000 --dry-run

The server is started here, over made-up vectors (retrieval_query.py), and removed again: some GB under --folder meanwhile. Each
task has a table and a graph of its own, as it has a partition and a collection elsewhere; each query is about one task. Run by
root, the server runs as `nobody`. Exit code 1 where a recall is below 0.99.
"""

import argparse
import contextlib
import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
import safety_page
from retrieval_query import DIRECTIONS, timed, trajectories

from vla_sd_ros.retrieval import Entries, Origin, TrajectoryDatabase
from vla_sd_ros.retrieval.index import CONNECTIONS, EF_CONSTRUCTION, EF_SEARCH, exact

PAGE = safety_page.ROOT / "docs" / "scale.md"
WIDTH = {"the embedded policy": 192, "OpenVLA-7B": 2176}  # numbers of a step's features
TASK = 7500  # steps: fifty demonstrations
PAYLOAD = 4 * 7  # numbers beside the features: an action and the next three
LOCAL = 2000  # steps in Qdrant's local mode, which is slow to fill
SETTINGS = ("fsync=off", "wal_level=minimal", "max_wal_senders=0", "shared_buffers=1GB", "maintenance_work_mem=256MB", "jit=off")


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a PostgreSQL that lives in a folder, and ends with it."""
    found = importlib.util.find_spec("pgserver")
    programs = Path(found.origin).parent / "pginstall" / "bin" if found else Path(shutil.which("postgres")).resolve().parent
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    data = Path(tempfile.mkdtemp(dir=folder))
    if user:
        shutil.chown(data, "nobody", "nogroup")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    initialise = [*user, programs / "initdb", "-D", data, "-U", "vla", "-A", "trust", "--no-sync"]
    subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, cwd="/")
    settings = [part for setting in (*SETTINGS, f"port={port}", f"unix_socket_directories={data}") for part in ("-c", setting)]
    command = [*user, programs / "postgres", "-D", data, *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        yield f"host=127.0.0.1 port={port} user=vla dbname=postgres"
    finally:
        process.kill()  # what it held is thrown away
        process.wait()
        shutil.rmtree(data, ignore_errors=True)


def connect(address: str):
    """A connection, as soon as the server takes one."""
    import psycopg

    deadline = time.monotonic() + 30.0
    while True:
        try:
            connection = psycopg.connect(address, autocommit=True)
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            return connection
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def rows(features: np.ndarray, payload: np.ndarray) -> bytes:
    """Of a table (row int, features vector, payload bytea), as COPY takes them in binary."""
    size, wide = features.shape[1], 4 * payload.shape[1]
    fields: list[tuple] = [("count", ">i2"), ("n1", ">i4"), ("row", ">i4"), ("n2", ">i4"), ("size", ">i2"), ("unused", ">i2")]
    made = np.zeros(len(features), [*fields, ("features", ">f4", size), ("n3", ">i4"), ("payload", "V", wide)])
    made["count"], made["n1"], made["n2"], made["size"], made["n3"] = 3, 4, 4 + 4 * size, size, wide
    made["row"], made["features"] = np.arange(len(features)), features
    made["payload"] = np.ascontiguousarray(payload, np.float32).view(f"V{wide}")[:, 0]
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + made.tobytes() + struct.pack(">h", -1)


def fill(connection, task: int, features: np.ndarray, payload: np.ndarray) -> None:
    """One task's table and graph."""
    connection.execute(f"CREATE UNLOGGED TABLE task{task} (step int, features vector({features.shape[1]}), payload bytea)")
    with connection.cursor().copy(f"COPY task{task} FROM STDIN BINARY") as copy:
        copy.write(rows(features, payload))
    options = f"m = {CONNECTIONS}, ef_construction = {EF_CONSTRUCTION}"
    connection.execute(f"CREATE INDEX ON task{task} USING hnsw (features vector_ip_ops) WITH ({options})")


class Postgres:
    """Tasks on a server. refused: what it says to features as wide as OpenVLA-7B's."""

    def __init__(self, address: str, tasks: list[np.ndarray], payload: np.ndarray):
        self._connection = connect(address)
        for number, features in enumerate(tasks):
            fill(self._connection, number, features, payload[: len(features)])
        self._connection.execute(f"SET hnsw.ef_search = {EF_SEARCH}")
        self.bytes = self._connection.execute("SELECT pg_database_size(current_database())").fetchone()[0]
        self.version = self._connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()[0]
        self.refused = self._refusal(WIDTH["OpenVLA-7B"])

    def search(self, task: int, query: np.ndarray, k: int) -> list[int]:
        """Numbers of the steps; what belongs to them comes along."""
        vector = struct.pack(">hh", query.size, 0) + query.astype(">f4").tobytes()
        sql = f"SELECT step, payload, features <#> %b::vector FROM task{task} ORDER BY features <#> %b::vector LIMIT {k}"
        found = self._connection.execute(sql, (Vector(vector), Vector(vector)), prepare=True, binary=True).fetchall()
        return [row[0] for row in found]

    def _refusal(self, size: int) -> str:
        import psycopg

        try:
            fill(self._connection, -1 % 10**6, np.zeros((1, size), np.float32), np.zeros((1, PAYLOAD), np.float32))
            return ""
        except (psycopg.errors.ProgramLimitExceeded, psycopg.errors.InternalError_) as error:  # newer, older versions
            return str(error).splitlines()[0]


class Vector(bytes):
    """In the server's own format."""


def teach() -> None:
    """psycopg how a Vector is sent: as it is, of a type that the server finds out."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class VectorDumper(Dumper):
        format = Format.BINARY

        def dump(self, obj: bytes) -> bytes:
            return obj

    import psycopg

    psycopg.adapters.register_dumper(Vector, VectorDumper)


def entries(features: np.ndarray, payload: np.ndarray) -> Entries:
    """The same for the embedded database."""
    count = len(features)
    steps = np.arange(count, dtype=np.int32)
    return Entries(features, payload[:count, :7], payload[:count, 7:].reshape(count, 3, 7), np.zeros(count, np.int32), steps)


def measured(search: Callable[[int, np.ndarray, int], list[int]], asked: list, k: int) -> dict:
    """Recall against the exact product, and latency. asked: (task, query, true rows)."""
    found, times = timed(lambda one: search(one[0], one[1], k), asked)
    recall = np.mean([len(set(map(int, rows)) & set(one[2].tolist())) / k for rows, one in zip(found, asked)])
    return {"recall": round(float(recall), 4), **times}


def measure(arguments: argparse.Namespace) -> dict:
    """A row for each database."""
    rng = np.random.default_rng(0)
    basis, size, k = rng.standard_normal((DIRECTIONS, arguments.size), np.float32), arguments.size, arguments.k
    tasks = [trajectories(min(TASK, arguments.vectors - start), size, rng, basis) for start in range(0, arguments.vectors, TASK)]
    payload = rng.random((TASK, PAYLOAD), np.float32)
    queries = trajectories(arguments.queries, size, rng, basis)
    about = rng.integers(len(tasks), size=len(queries)).tolist()
    asked = [(task, query, exact(tasks[task], query, k)) for task, query in zip(about, queries)]
    made = {}

    begin = time.perf_counter()
    origin = Origin("made up", "0" * 16)
    database = TrajectoryDatabase({f"task {i}": entries(one, payload) for i, one in enumerate(tasks)}, origin, ["one"])
    built = time.perf_counter() - begin
    search = lambda task, query, k: database.query(query, f"task {task}", k).steps.tolist()  # noqa: E731
    made["embedded"] = {**measured(search, asked, k), "build_s": round(built, 1)}
    print("embedded", made["embedded"], flush=True)

    few = tasks[0][:LOCAL]
    made["Qdrant's local mode"] = qdrant(few, payload, [(0, one[1], exact(few, one[1], k)) for one in asked[:100]], k)
    print("qdrant", made["Qdrant's local mode"], flush=True)

    teach()
    begin = time.perf_counter()
    with server(arguments.folder) as address:
        postgres = Postgres(address, tasks, payload)
        built = time.perf_counter() - begin
        made["PostgreSQL, pgvector"] = {**measured(postgres.search, asked, k), "build_s": round(built, 1)}
        made["PostgreSQL, pgvector"] |= {"bytes": postgres.bytes, "pgvector": postgres.version, "wide": postgres.refused}
    print("postgres", made["PostgreSQL, pgvector"], flush=True)
    return made


def qdrant(features: np.ndarray, payload: np.ndarray, asked: list, k: int) -> dict:
    """One task, because the local mode looks at all vectors of a collection, and at none of the others."""
    from vla_sd_ros.retrieval.qdrant import QdrantDatabase

    origin = Origin("made up", "0" * 16)
    there, begin = QdrantDatabase(":memory:", origin.fingerprint), time.perf_counter()
    there.upload(TrajectoryDatabase({"task 0": entries(features, payload)}, origin, ["one"], graphs={}))
    built = time.perf_counter() - begin
    return {**measured(lambda task, query, k: there.query(query, "task 0", k).steps.tolist(), asked, k), "build_s": round(built, 1)}


def table(made: dict) -> str:
    """As Markdown."""
    lines = ["| database | recall | median [ms] | p95 [ms] | built in [s] |", "|---" * 5 + "|"]
    for name, row in made.items():
        lines.append(f"| {name} | {row['recall']:.4f} | {row['median_ms']:.2f} | {row['p95_ms']:.2f} | {row['build_s']:.0f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=WIDTH["the embedded policy"], help="numbers of a step's features")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the server keeps its files meanwhile"
    )
    parser.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    arguments = parser.parse_args()
    made = measure(arguments)
    there = made["PostgreSQL, pgvector"]
    text = (
        f"{table(made)}\n\n{arguments.vectors:,} steps with features of {arguments.size} numbers in tasks of {TASK:,}, the {arguments.k} "
        f"nearest of {arguments.queries:,} queries; Qdrant with {LOCAL:,} steps of one. "
        f"pgvector {there['pgvector']} took {there['bytes'] / 1e9:.1f} GB. "
        f"To features of {WIDTH['OpenVLA-7B']} numbers it says: {there['wide'] or 'nothing, it takes them'}."
    )
    print(text)
    if not arguments.dry_run:
        settings = {name: getattr(arguments, name) for name in ("vectors", "size", "queries", "k")}
        report = {"command": "python benchmarks/database_servers.py", **settings, "task": TASK, "rows": made}
        safety_page.publish("database_servers", text, report, PAGE)
    return int(any(row["recall"] < 0.99 for row in made.values()))


if __name__ == "__main__":
    sys.exit(main())
