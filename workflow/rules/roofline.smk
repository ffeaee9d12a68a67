rule roofline:
    input:
        stamp=layout.stamp("roofline"),
        environment=layout.environment,
        artifacts=artifacts_of(*cfg.selecting),
    output:
        layout.roofline,
    log:
        layout.log("roofline"),
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
        stamp=layout.stamp("roofline-report"),
        record=layout.roofline,
    output:
        report(layout.roofline_page, caption="../report/roofline.rst", category="3. Data"),
    log:
        layout.log("roofline_report"),
    conda:
        "../envs/nsa.yaml"
    message:
        "roofline: the table"
    shell:
        "exec python -m nsa roofline-report {input.record} --stamp {input.stamp} --out {output} > {log} 2>&1"
