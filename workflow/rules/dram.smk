rule dram:
    input:
        stamp=layout.stamp(f"dram-{BACKEND}"),
        environment=layout.environment,
        artifacts=artifacts,
    output:
        layout.dram(),
    log:
        layout.log(f"dram_{BACKEND}"),
    wildcard_constraints:
        backend=selecting,
    conda:
        "../envs/nsa.yaml"
    resources:
        gpu=1,
    params:
        artifacts=artifacts_option,
    message:
        "DRAM bytes: {wildcards.backend}"
    shell:
        "exec python -m nsa dram --backend {wildcards.backend} --stamp {input.stamp}"
        " --environment {input.environment} {params.artifacts} --out {output} > {log} 2>&1"
