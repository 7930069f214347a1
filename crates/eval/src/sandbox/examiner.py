# Runs in interpreter A: the prompt, the tests and check(); never a word of the program under test. Its `candidate`
# crosses the host to interpreter B over descriptor 0; only exact plain values come back.
def examine():
    import builtins
    from marshal import dumps, loads
    from posix import read, write

    channel = 0

    def message():
        size = int.from_bytes(read(channel, 4), "little")
        return read(channel, size)

    nonce = message()
    prompt = message().decode()
    test = message().decode()
    name = message().decode()
    raised = last = None
    answered = False

    def remote(error_name, text):
        kind = getattr(builtins, error_name, None)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            try:
                return kind(text)
            except TypeError:
                pass
        return Exception(f"{error_name}: {text}")

    def number(kind, body):
        if kind == b"D":
            from decimal import Decimal

            return Decimal(body)
        from fractions import Fraction

        return Fraction(*body)

    def candidate(*args, **kwargs):
        nonlocal raised, last, answered
        write(channel, b"C" + dumps((args, kwargs), 2))
        answer = message()
        kind, body = answer[:1], answer[1:]
        if kind == b"E":
            error_name, _, text = body.decode("utf-8", "replace").partition("\n")
            raised = remote(error_name, text)
            raise raised
        body = loads(body)
        if kind == b"V":
            value = body
        elif kind == b"I":
            value = iter(body)
        elif kind == b"G":
            value = range(*body)
        elif kind == b"K":
            value = dict.fromkeys(body).keys()
        elif kind == b"W":
            value = dict(enumerate(body)).values()
        elif kind == b"T":
            value = dict(body).items()
        else:
            value = number(kind, body)
        last, answered = value, True
        return value

    candidate.__name__ = candidate.__qualname__ = name

    def asserted(error):
        """The line of the tests that failed, and what the last call gave."""
        where = error.__traceback__
        line = 0
        while where is not None:
            if where.tb_frame.f_code.co_filename == "<test>":
                line = where.tb_lineno
            where = where.tb_next
        lines = test.split("\n")
        text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        if not isinstance(error, AssertionError):
            text += f" gave {type(error).__name__}: {str(error)[:200]}"
        if answered:
            try:
                from reprlib import repr as short

                text += f" (the last call returned {short(last)})"
            except BaseException:
                pass
        return text.strip()

    space = {}
    exec(compile(prompt, "<prompt>", "exec", dont_inherit=True), space)
    space[name] = candidate
    exec(compile(test, "<test>", "exec", dont_inherit=True), space)
    space[name] = candidate
    status, detail = b"P", ""
    try:
        space["check"](candidate)
    except BaseException as error:
        if error is raised:
            status = b"X"
        else:
            status, detail = b"W", asserted(error)
    write(channel, b"D" + nonce + status + detail.encode("utf-8", "replace")[:2000])


examine()
