"""Recipes against the schemas of what reads them: schemas.py FILE.yaml ..., in the environment of `check` beside it."""

import sys
from pathlib import Path

import yaml

KUBERNETES = "1.32"


def check_job(job: dict) -> None:
    """A Kubernetes Job, of which nothing may be unknown."""
    import kubernetes_validate

    kubernetes_validate.validate(job, KUBERNETES, strict=True)


def check_jobset(jobset: dict) -> None:
    """A JobSet by the models that Kubeflow makes of its schema, and each Job that it is a template of."""
    from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

    read = JobsetV1alpha2JobSet.from_dict(jobset).to_dict()
    unknown = _paths(jobset) - _paths(read)
    # Those models have no place for what a pod is made of; that is the Job's part.
    unknown = {path for path in unknown if "template" not in path}
    if unknown:
        raise ValueError(f"a JobSet knows nothing of {sorted(map('.'.join, unknown))}")
    for replicated in jobset["spec"]["replicatedJobs"]:
        spec = replicated["template"]["spec"]
        check_job({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec})


def _paths(value: object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Where in nested plain values something is."""
    if isinstance(value, dict):
        return {path}.union(*(_paths(inner, (*path, key)) for key, inner in value.items()))
    if isinstance(value, list):
        return {path}.union(*(_paths(inner, path) for inner in value))
    return {path}


def check_task(path: Path) -> None:
    """A task of SkyPilot."""
    import sky

    sky.Task.from_yaml(str(path))


def main() -> None:
    """Check each file; the first that does not fit ends this with its error."""
    for path in map(Path, sys.argv[1:]):
        for document in yaml.safe_load_all(path.read_text()):
            checks = {"Job": check_job, "JobSet": check_jobset}
            if document.get("kind") in checks:
                checks[document["kind"]](document)
            else:
                check_task(path)


if __name__ == "__main__":
    main()
