rule roofline:
    input:
        stamp=f"{STAMPS}/roofline.json",
        environment="results/environment.json",
        artifacts=[record for backend, record in ARTIFACTS.items() if backend in cfg.backends],
    output:
        "results/roofline.parquet",
    log:
        "results/logs/roofline.log",
    conda:
        "../envs/nsa.yaml"
    resources:
        gpu=1,
    params:
        artifacts=artifacts_option,
    message:
        "roofline: every backend on every shape"
    shell:
        "exec python -m nsa roofline --stamp {input.stamp} --environment {input.environment} {params.artifacts}"
        " --out {output} > {log} 2>&1"


rule roofline_report:
    input:
        stamp=f"{STAMPS}/roofline-report.json",
        record="results/roofline.parquet",
    output:
        "results/roofline.md",
    log:
        "results/logs/roofline_report.log",
    conda:
        "../envs/nsa.yaml"
    message:
        "roofline: the table"
    shell:
        "exec python -m nsa roofline-report {input.record} --stamp {input.stamp} --out {output} > {log} 2>&1"
