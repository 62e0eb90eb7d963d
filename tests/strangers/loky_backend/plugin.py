"""What manyhands sees of this distribution."""

from manyhands import Backend, Capabilities, ProcessExecutorOptions, hookimpl

CAPABILITIES = Capabilities(concurrent=True, crosses_process=True, can_kill=True, reports_progress=True)


class LokyOptions(ProcessExecutorOptions):
    max_workers: int = 2


@hookimpl
def manyhands_backends():
    load = "tests.strangers.loky_backend.executor:LokyExecutor"
    return [Backend("loky", "executor", load, options=LokyOptions, capabilities=CAPABILITIES)]
