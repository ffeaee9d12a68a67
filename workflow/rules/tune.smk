rule tune:
    input:
        stamp=f"{STAMPS}/tune.json",
        environment="results/environment.json",
    output:
        ARTIFACTS["triton"],
    log:
        "results/logs/tune.log",
    conda:
        "../envs/nsa.yaml"
    resources:
        gpu=1,
    message:
        "tune: the launch_configs of the Triton kernel"
    shell:
        "exec python -m nsa tune --stamp {input.stamp} --environment {input.environment} --out {output} > {log} 2>&1"
