rule decode:
    input:
        stamp=stamp_of_cell,
        environment=layout.environment,
        artifacts=artifacts,
    output:
        layout.cell(),
    log:
        layout.log("decode/{backend}/S{S}"),
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
