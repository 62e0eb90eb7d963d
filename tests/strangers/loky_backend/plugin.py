from manyhands import Backend, Capabilities, ProcessExecutorOptions, hookimpl

CAPABILITIES = Capabilities(concurrent=True, crosses_process=True, can_kill=True)


class LokyOptions(ProcessExecutorOptions):
    max_workers: int = 2


@hookimpl
def manyhands_backends():
    return [Backend("loky", "executor", f"{__package__}.executor:LokyExecutor", LokyOptions, CAPABILITIES)]
