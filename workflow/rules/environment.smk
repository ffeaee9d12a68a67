rule environment:
    input:
        stamp=layout.stamp("environment"),
    output:
        layout.environment,
    log:
        layout.log("environment"),
    conda:
        "../envs/nsa.yaml"
    message:
        "environment: which hardware and software this is"
    shell:
        "exec python -m nsa env --out {output} > {log} 2>&1"
