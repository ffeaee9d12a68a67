rule collect:
    input:
        stamp=f"{STAMPS}/collect.json",
        cells=expand("results/decode/{{backend}}/S{S}.parquet", S=cfg.contexts),
    output:
        "results/decode_{backend}.parquet",
    log:
        "results/logs/collect_{backend}.log",
    conda:
        "../envs/nsa.yaml"
    message:
        "collect: {wildcards.backend}"
    shell:
        "exec python -m nsa collect {input.cells} --stamp {input.stamp} --out {output} > {log} 2>&1"
