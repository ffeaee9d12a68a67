rule report:
    input:
        stamp=f"{STAMPS}/report.json",
        environment="results/environment.json",
        deleted=f"results/{deleted.NOTE}",
        build="results/build/cuda.json" if "cuda" in cfg.backends else [],
        cells=expand("results/decode/{backend}/S{S}.parquet", backend=cfg.backends, S=cfg.contexts),
        decode=expand("results/decode_{backend}.parquet", backend=cfg.backends),
        checks=expand("results/check_{backend}.parquet", backend=cfg.backends),
        dram=expand("results/dram_{backend}.json", backend=cfg.backends),
    output:
        "results/gate_report.md",
        "results/gate_report.html",
        "results/gate.json",
        "results/decode.csv",
        "results/checks.parquet",
        directory("results/figures"),
    log:
        "results/logs/report.log",
    conda:
        "../envs/nsa.yaml"
    params:
        build=build_option,
        accepted=lambda wildcards, input: ACCEPTED,  # to digest what is no such function, Snakemake imports pandas
    message:
        "report: both gates"
    shell:
        "exec python -m nsa report {input.cells} {input.decode} {input.checks} {input.dram}"
        " --stamp {input.stamp} --environment {input.environment} {params.build} --accepted {params.accepted}"
        " --out-dir results > {log} 2>&1"
