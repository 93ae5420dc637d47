"""Which runners exist and who may use them: pure decisions (policy.py), memory arithmetic, and the task that acts."""

from corral.sched.hostmemory import HostMemory
from corral.sched.launch import Handle, Launcher
from corral.sched.memory import DeviceFigures, HostFigures, MemoryEstimate
from corral.sched.remember import Remembered
from corral.sched.request import Lease, LeaseRequest, LoadedModel, RequestInfo
from corral.sched.scheduler import Scheduler

__all__ = [
    "DeviceFigures",
    "Handle",
    "HostFigures",
    "HostMemory",
    "Launcher",
    "Lease",
    "LeaseRequest",
    "LoadedModel",
    "MemoryEstimate",
    "Remembered",
    "RequestInfo",
    "Scheduler",
]
