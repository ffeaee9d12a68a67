rule kernel_check:
    input:
        stamp=layout.stamp(f"check-{BACKEND}"),
        environment=layout.environment,
        artifacts=artifacts,
    output:
        layout.check(),
    log:
        layout.log(f"check_{BACKEND}"),
    wildcard_constraints:
        backend=selecting,
    conda:
        "../envs/nsa.yaml"
    resources:
        gpu=1,
    params:
        artifacts=artifacts_option,
    message:
        "kernel check: {wildcards.backend}"
    shell:
        "exec python -m nsa kernel-check --backend {wildcards.backend} --stamp {input.stamp}"
        " --environment {input.environment} {params.artifacts} --out {output} > {log} 2>&1"
