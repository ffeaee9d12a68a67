rule decode:
    input:
        stamp=f"{STAMPS}/decode-{{backend}}.json",
        environment="results/environment.json",
        artifacts=artifacts,
    output:
        "results/decode/{backend}/S{S}.parquet",
    log:
        "results/logs/decode/{backend}/S{S}.log",
    conda:
        "../envs/nsa.yaml"
    resources:
        gpu=1,
    params:
        artifacts=artifacts_option,
    message:
        "decode: {wildcards.backend} at S = {wildcards.S}"
    shell:
        "exec python -m nsa decode --backend {wildcards.backend} --S {wildcards.S} --stamp {input.stamp}"
        " --environment {input.environment} {params.artifacts} --out {output} > {log} 2>&1"
