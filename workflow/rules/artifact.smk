# What a backend makes for itself before anything is measured (nsa.backends.Stage): a rule for each that has one.
for backend in backends.names():
    if (own := backends.spec(backend).stage) is not None:

        rule:
            name:
                f"artifact_{backend}"
            input:
                stamp=layout.stamp(stages.artifact(backend)),
                environment=layout.environment,
            output:
                layout.artifact(own.artifact),
            log:
                layout.log(f"artifact_{backend}"),
            conda:
                "../envs/nsa.yaml"
            resources:
                gpu=1,
            params:
                backend=lambda wildcards, input, backend=backend: backend,  # read after the loop has ended
            message:
                f"artifact: {backend}"
            shell:
                "exec python -m nsa artifact --backend {params.backend} --stamp {input.stamp}"
                " --environment {input.environment} --out {output} > {log} 2>&1"
