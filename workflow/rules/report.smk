rule report:
    input:
        stamp=layout.stamp(stages.REPORT),  # says what is gone of the last report, so that it runs again
        environment=layout.environment,
        artifacts=artifacts_of(*cfg.backends),
        cells=[layout.cell(backend, S) for backend in cfg.backends for S in cfg.contexts],
        checks=[layout.check(backend) for backend in cfg.selecting],
        cores=[layout.core(backend) for backend in cfg.coring],
        dram=[layout.dram(backend) for backend in cfg.selecting],
    output:
        layout.report,
        report(layout.html, caption="../report/gate_report.rst", category="1. Verdicts"),
        report(layout.gate, caption="../report/gate.rst", category="3. Data"),
        layout.run_file,
        report(layout.csv, caption="../report/decode.rst", category="3. Data"),
        layout.checks,
        report(
            directory(layout.figures),
            patterns=["{figure}.svg"],
            caption="../report/figures.rst",
            category="2. Figures",
        ),
    log:
        layout.log("report"),
    conda:
        "../envs/nsa.yaml"
    params:
        artifacts=artifacts_option,
        accepted=lambda wildcards, input: ACCEPTED,  # to digest what is no such function, Snakemake imports pandas
        history=lambda wildcards, input: HISTORY,  # no output: Snakemake deletes those, and this one only grows
        results=lambda wildcards, input: layout.root,
    message:
        "report: both gates"
    shell:
        "exec python -m nsa report {input.cells} {input.checks} {input.cores} {input.dram}"
        " --stamp {input.stamp} --environment {input.environment} {params.artifacts} --accepted {params.accepted}"
        " --history {params.history} --out-dir {params.results} > {log} 2>&1"
