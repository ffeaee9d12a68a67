rule kernel_check:
    input:
        stamp=f"{STAMPS}/check-{{backend}}.json",
        environment="results/environment.json",
        artifacts=artifacts,
    output:
        "results/check_{backend}.parquet",
    log:
        "results/logs/check_{backend}.log",
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
