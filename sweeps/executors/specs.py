"""The settings of executors, as typed objects (configs/executor)."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.data.blocks import Count, NotNegative, Positive, Size, Spec


class ExecutorSpec(Spec):
    """What all executors have."""

    target: str = Field(alias="_target_", description="the class that trains the groups")
    retries: Size = Field(description="further tries of a run that dies by itself")


class LocalSpec(ExecutorSpec):
    """Processes of this machine."""

    workers: Count | None = Field(description="processes; null: as many as cores or GPUs have room")
    gpus: Size | None = Field(description="GPUs to use; null: all that there are; 0: none")
    gpu_share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="part of a GPU that a process takes"
    )


class RaySpec(ExecutorSpec):
    """Tasks of a Ray cluster."""

    address: str | None = Field(description="of the cluster; null: RAY_ADDRESS, or one of our own")
    cpus: Positive = Field(description="CPU cores a group")
    gpus: NotNegative = Field(description="GPUs a group")


class SlurmSpec(ExecutorSpec):
    """Array jobs of Slurm."""

    cluster: Literal["slurm", "local"] = Field(description="local: processes here, to try it")
    partition: str | None = Field(description="--partition; null: the cluster's default")
    account: str | None = Field(description="--account")
    qos: str | None = Field(description="--qos")
    constraint: str | None = Field(description="--constraint")
    minutes: Count = Field(description="--time of a job")
    cpus: Count = Field(description="--cpus-per-task: CPU cores a group")
    gpus: Size = Field(description="--gpus-per-node: GPUs a group")
    memory_gb: Positive = Field(description="--mem")
    setup: list[str] = Field(description="lines of shell before the work")
    array_parallelism: Count = Field(description="jobs of an array that run at a time")
    array_size: Count = Field(description="jobs of an array at most")
    signal_seconds: Size = Field(description="before a job's time is up it is told to save")
    timeouts: Size = Field(description="how often a job may be queued again after its time was up")
    poll_seconds: Positive = Field(description="between looks at the queue")


SPECS: dict[str, type[ExecutorSpec]] = {"local": LocalSpec, "ray": RaySpec, "slurm": SlurmSpec}
