def _drive():
    import builtins
    import json
    import linecache
    import os
    import signal
    import sys
    import traceback

    # The channel to the server is kept where programs do not look; theirs is what they see as 0, 1 and 2.
    calls = os.fdopen(os.dup(0), "rb")
    out, err = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    os.environ.setdefault("MPLBACKEND", "Agg")

    import types
    main = types.ModuleType("__main__")
    main.__builtins__ = builtins
    sys.modules["__main__"] = main
    sys.argv = [""]
    state = {"running": False}

    def interrupt(number, frame):
        # One that comes late, between two calls, has nothing to interrupt.
        if state["running"]:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)

    def send(file, data):
        while data:
            data = data[os.write(file, data):]

    def told(kind, error, trace):
        # The frames of this file are not the program's.
        while trace is not None and trace.tb_frame.f_code.co_filename == "<string>":
            trace = trace.tb_next
        try:
            text = "".join(traceback.format_exception(kind, error, trace))
        except BaseException:
            text = kind.__name__
        try:
            value = str(error)
        except BaseException:
            value = ""
        return {"name": kind.__name__, "value": value[:65536], "traceback": text[-65536:]}

    def run(code, count):
        name = "<code>" if count == 1 else f"<code {count}>"
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        # What functions of long ago need in a traceback is worth only so much memory.
        linecache.cache.pop(f"<code {count - 200}>", None)
        try:
            state["running"] = True
            exec(compile(code, name, "exec"), main.__dict__)
            state["running"] = False
        except SystemExit as error:
            state["running"] = False
            if error.code not in (None, 0):
                return told(type(error), error, error.__traceback__)
        except BaseException as error:
            state["running"] = False
            return told(type(error), error, error.__traceback__)
        return None

    def flush():
        for name in ("stdout", "stderr"):
            try:
                getattr(sys, name).flush()
            except BaseException:
                pass

    send(out, b"ready\n")
    count = 0
    for line in calls:
        call = json.loads(line)
        mark = call["mark"].encode()
        before = {name: os.environ.get(name) for name in call["envs"]}
        os.environ.update(call["envs"])
        count += 1
        error = None
        try:
            flush()
            send(out, mark + b"[")
            send(err, mark + b"[")
            error = run(call["code"], count)
            flush()
        except KeyboardInterrupt as late:
            # The interrupt came just when the program ended.
            state["running"] = False
            error = error or told(KeyboardInterrupt, late, None)
        state["running"] = False
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        text = json.dumps(error).encode()
        send(err, mark + b"]")
        send(out, mark + b"]" + text + b"\n")


_drive()
