rule core_check:
    input:
        stamp=layout.stamp(f"core-{BACKEND}"),
        environment=layout.environment,
        artifacts=artifacts,
    output:
        layout.core(),
    log:
        layout.log(f"core_{BACKEND}"),
    wildcard_constraints:
        backend=coring,
    conda:
        "../envs/nsa.yaml"
    resources:
        gpu=1,
    params:
        artifacts=artifacts_option,
    message:
        "core check: {wildcards.backend}"
    shell:
        "exec python -m nsa core-check --backend {wildcards.backend} --stamp {input.stamp}"
        " --environment {input.environment} {params.artifacts} --out {output} > {log} 2>&1"


rule paper_table:
    input:
        stamp=layout.stamp("paper-table"),
        cores=[layout.core(backend) for backend in cfg.coring],
    output:
        page=layout.paper_table,
        table=layout.paper_figures,
        drawing=layout.paper_drawing,
    log:
        layout.log("paper_table"),
    conda:
        "../envs/nsa.yaml"
    message:
        "the paper's table 4: cores over dense attention"
    shell:
        "exec python -m nsa paper-table {input.cores} --stamp {input.stamp} --out {output.page}"
        " --table {output.table} --drawing {output.drawing} > {log} 2>&1"
