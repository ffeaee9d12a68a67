rule environment:
    input:
        stamp=f"{STAMPS}/environment.json",
    output:
        "results/environment.json",
    log:
        "results/logs/environment.log",
    conda:
        "../envs/nsa.yaml"
    message:
        "environment: which hardware and software this is"
    shell:
        "exec python -m nsa env --out {output} > {log} 2>&1"
