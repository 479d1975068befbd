"""What to do about what a job is doing, in one sentence each."""

from __future__ import annotations

from nova_dpo_sdk.backends._contract import JobStatus

_OF_STATUS = {
    JobStatus.PENDING: "Wait: the training operator takes up a new job within seconds.",
    JobStatus.QUEUED: "Wait for quota in the queue, or ask who runs the cluster.",
    JobStatus.UNSCHEDULABLE: "Wait for nodes, scale the instance group, or submit with fewer replicas.",
    JobStatus.STARTING: "Wait: the first pull of a training image takes minutes.",
    JobStatus.RUNNING: "job.result() waits for its checkpoint.",
    JobStatus.RESTARTING: "Wait: it begins again by itself. If it does so again and again, read its logs.",
    JobStatus.DEGRADED: "Mend what the message names, cancel, and submit plan.again().",
    JobStatus.STALLED: "Ask who runs the cluster for the job's events.",
    JobStatus.STOPPING: "Wait until it is gone; plan.again() is its next attempt, under a name of its own.",
    JobStatus.SUCCEEDED: "job.checkpoint() gives its checkpoint.",
    JobStatus.FAILED: "Mend what the message names, then submit plan.again().",
    JobStatus.STOPPED: "Submit plan.again() to train it anew.",
    JobStatus.DELETED: "If it had finished, job.checkpoint() still finds its manifest.",
    JobStatus.UNKNOWN: "It has neither failed nor finished: wait, update nova-dpo-sdk, or look at the object itself.",
}
_IMAGE = "Check the image's Region and account and that nodes may pull it; cancel; plan.again()."
_CRASH = "The container ends by itself: mend what its message names, cancel, and submit plan.again()."
_OPERATOR = "The training operator has not looked at the job: ask who runs the cluster whether it runs."
_STOPPED = "The queue is stopped: ask who runs the cluster when it takes jobs again."
_EVICTED = "Wait: its pods are made anew where there is room, and the run begins again."
_OF_REASON = {
    (JobStatus.PENDING, "Admitted"): "Wait: its pods come within a minute.",
    (JobStatus.QUEUED, "Inadmissible"): "The queue cannot hold it as it is: check its name and the team's quota for "
    "this instance type, use fewer replicas, or ask who runs the cluster.",
    (JobStatus.QUEUED, "Deactivated"): "It does not come back by itself: have its Workload activated again, or cancel "
    "and submit plan.again().",
    (JobStatus.QUEUED, "ClusterQueueStopped"): _STOPPED,
    (JobStatus.QUEUED, "LocalQueueStopped"): _STOPPED,
    (JobStatus.QUEUED, "PodsReadyTimeout"): "Its pods were not ready in the queue's time, so it waits again. If that "
    "repeats, ask who runs the cluster to raise that time: a first image pull takes minutes.",
    (JobStatus.QUEUED, "Preempted"): "Wait: it begins again by itself when the queue has quota. A higher "
    "HyperPodOptions(queue_priority=...) keeps the next one from being preempted.",
    (JobStatus.RESTARTING, "NodeLost"): "Wait: the node is replaced, its pod made anew, and the run begins again.",
    (JobStatus.RESTARTING, "Preempted"): f"{_EVICTED} A higher HyperPodOptions(priority_class=...) keeps its place.",
    (JobStatus.RESTARTING, "Evicted"): _EVICTED,
    (JobStatus.RESTARTING, "PodDeleted"): _EVICTED,
    (JobStatus.RESTARTING, "NoPods"): "Wait: the operator makes its pods anew. If it does not, it may not be running.",
    (JobStatus.DEGRADED, "CrashLoopBackOff"): _CRASH,
    (JobStatus.DEGRADED, "CrashLoopBackOff", "init"): "The init container ends before training begins, most often "
    "because the recipe or a path in it cannot be used: mend what its message names, cancel, submit plan.again().",
    (JobStatus.DEGRADED, "InvalidImageName"): "Correct HyperPodOptions(image=...), cancel, and plan anew.",
    (JobStatus.DEGRADED, "CreateContainerConfigError"): "Something the pod refers to is not there, such as its "
    "ConfigMap: cancel, and submit plan.again().",
    (JobStatus.STALLED, "NoPods"): "The operator cannot create pods, or is not running: ask who runs the cluster "
    "for the job's events.",
    (JobStatus.STALLED, "OperatorSilent"): _OPERATOR,
    (JobStatus.STALLED, "OperatorSilent", "finished"): f"{_OPERATOR} The manifest may be there already.",
    (JobStatus.STALLED, "ContainerCreating"): "A volume or the ConfigMap cannot be mounted, or the image is still "
    "being pulled: ask who runs the cluster for the pod's events.",
    (JobStatus.STALLED, "NodeLost"): "The pod cannot leave a node that does not answer: ask who runs the cluster "
    "to replace the node, or cancel and submit plan.again().",
    (JobStatus.FAILED, "DeadlineExceeded"): "Give HyperPodOptions(active_deadline_seconds=...) more time and plan with "
    "that and the next number of attempt=, or shorten the run.",
    (JobStatus.FAILED, "BackoffLimitExceeded"): "Mend what its last words name and submit plan.again(), or allow more "
    "restarts by HyperPodOptions(backoff_limit=...) and plan with that and the next number of attempt=.",
}


def next_step(status: JobStatus, reason: str = "", detail: str = "") -> str:
    """What to do about a job in this state.

    Args:
        status: What it is doing.
        reason: Why, in one word.
        detail: What else tells two cases of one reason apart: `init` or `finished`.
    """
    if status is JobStatus.DEGRADED and "Image" in reason and reason != "InvalidImageName":
        return _IMAGE
    for key in ((status, reason, detail), (status, reason)):
        if key in _OF_REASON:
            return _OF_REASON[key]
    return _OF_STATUS[status]
