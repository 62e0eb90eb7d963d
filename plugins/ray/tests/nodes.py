"""A program that keeps a cluster of several nodes on one machine. Reads commands, answers each with a line.

add             starts a node with one CPU; its number
raylet NUMBER   process id of a node's raylet; 0 is the head's
gcs             process id of the server that makes the head the head
"""

from __future__ import annotations

import sys
from typing import Any

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes: list[Any] = [cluster.head_node]
    say(cluster.address)
    for line in sys.stdin:
        command, _, number = line.strip().partition(" ")
        if command == "add":
            nodes.append(cluster.add_node(num_cpus=1))
            say(len(nodes) - 1)
        else:
            (process,) = nodes[int(number or 0)].all_processes["raylet" if command == "raylet" else "gcs_server"]
            say(process.process.pid)


def say(what: object) -> None:
    print(what, flush=True)  # noqa: T201  # the tests read it


main()
