rule dram:
    input:
        stamp=f"{STAMPS}/dram-{{backend}}.json",
        environment="results/environment.json",
        artifacts=artifacts,
    output:
        "results/dram_{backend}.json",
    log:
        "results/logs/dram_{backend}.log",
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
