rule collect:
    input:
        stamp=layout.stamp("collect"),
        cells=[layout.cell(S=S) for S in cfg.contexts],
    output:
        layout.summary(),
    log:
        layout.log(f"collect_{BACKEND}"),
    conda:
        "../envs/nsa.yaml"
    message:
        "collect: {wildcards.backend}"
    shell:
        "exec python -m nsa collect {input.cells} --stamp {input.stamp} --out {output} > {log} 2>&1"
