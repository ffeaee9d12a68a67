rule build:
    input:
        stamp=f"{STAMPS}/build.json",
    output:
        "results/build/cuda.json",
    log:
        "results/logs/build.log",
    conda:
        "../envs/nsa.yaml"
    message:
        "build: the CUDA extension"
    shell:
        "exec python -m nsa build --stamp {input.stamp} --out-dir results/build > {log} 2>&1"
