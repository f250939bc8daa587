def _run():
    import sys

    # Output and errors go into one text: in the order they were written.
    sys.stdout.reconfigure(line_buffering=True)
    mark, size = sys.stdin.buffer.readline().split()
    charts = sys.stdin.buffer.read(int(size))
    code = sys.stdin.buffer.read().decode()

    class Hook:
        # Costs nothing until somebody imports matplotlib.
        def find_spec(self, name, path=None, target=None):
            if name != "matplotlib.pyplot":
                return None
            sys.meta_path.remove(self)
            for finder in sys.meta_path:
                spec = finder.find_spec(name, path, target)
                if spec is not None and spec.loader is not None:
                    break
            else:
                return None
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                try:
                    scope = {}
                    exec(compile(charts, "<charts>", "exec"), scope)
                    scope["install"](module, mark)
                except Exception as error:
                    print("charts are not available:", error, file=sys.stderr)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Hook())

    def excepthook(kind, error, trace):
        import linecache
        import traceback
        linecache.cache["<code>"] = (len(code), None, code.splitlines(True), "<code>")
        # The frames of this file are not the program's.
        while trace is not None and trace.tb_frame.f_code.co_filename == "<string>":
            trace = trace.tb_next
        traceback.print_exception(kind, error, trace)

    sys.excepthook = excepthook
    return code


_code = _run()
del _run
exec(compile(globals().pop("_code"), "<code>", "exec"))
