rule core_curve:
    input:
        stamp=layout.stamp(f"core_curve-{BACKEND}"),
        environment=layout.environment,
        artifacts=artifacts,
    output:
        layout.core_curve(),
    log:
        layout.log(f"core_curve_{BACKEND}"),
    wildcard_constraints:
        backend=coring,
    conda:
        "../envs/nsa.yaml"
    resources:
        gpu=1,
    params:
        artifacts=artifacts_option,
    message:
        "core curve: {wildcards.backend}"
    shell:
        "exec python -m nsa core-curve --backend {wildcards.backend} --stamp {input.stamp}"
        " --environment {input.environment} {params.artifacts} --out {output} > {log} 2>&1"


rule core_curve_report:
    input:
        stamp=layout.stamp("core_curve-report"),
        curves=[layout.core_curve(backend) for backend in cfg.coring],
    output:
        page=layout.curve_page,
        table=layout.curve_figures,
        drawing=layout.curve_drawing,
    log:
        layout.log("core_curve_report"),
    conda:
        "../envs/nsa.yaml"
    message:
        "core curve: the table and the figure"
    shell:
        "exec python -m nsa core-curve-report {input.curves} --stamp {input.stamp} --out {output.page}"
        " --table {output.table} --drawing {output.drawing} > {log} 2>&1"
