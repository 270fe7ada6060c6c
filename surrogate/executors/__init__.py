"""Executors of likelihood calls: serial, threads, processes, MPI, files, or any executor of the user."""

from surrogate.executors.choice import make_executor
from surrogate.executors.evaluate import evaluate_batch
from surrogate.executors.processes import ProcessExecutor
from surrogate.executors.serial import SerialExecutor

__all__ = ["ProcessExecutor", "SerialExecutor", "evaluate_batch", "make_executor"]
