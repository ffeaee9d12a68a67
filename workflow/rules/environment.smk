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
        "environment: hardware and software"
    shell:
        "exec python -m nsa env --out {output} > {log} 2>&1"
