rule tune:
    input:
        stamp=f"{STAMPS}/tune.json",
        environment="results/environment.json",
    output:
        PREPARED["triton"],
    log:
        "results/logs/tune.log",
    conda:
        "../envs/nsa.yaml"
    resources:
        gpu=1,
    message:
        "tune: the cuts of the Triton kernel"
    shell:
        "exec python -m nsa tune --stamp {input.stamp} --environment {input.environment} --out {output} > {log} 2>&1"
