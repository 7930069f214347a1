# Runs in interpreter B: it loads the program under test and answers calls of its function, over descriptor 0.
# The program shares this interpreter and may change anything here. That is allowed for: whatever it writes is taken as
# its answer, the host checks the form, and nothing that decides the verdict is in here.
def serve():
    import sys
    from _io import StringIO
    from marshal import dumps, loads
    from posix import read, write

    channel = 0
    largest = 1000000

    def message():
        size = int.from_bytes(read(channel, 4), "little")
        return read(channel, size)

    def say(kind, body=b""):
        write(channel, kind + body)

    def words(error):
        try:
            name = str(type(error).__name__)
            text = str(error)
        except BaseException:
            name, text = "Exception", ""
        return f"{name[:100]}\n{text[:1000]}".encode("utf-8", "replace")

    class NotPlain(Exception):
        pass

    def is_record(kind):
        return kind.__bases__ == (tuple,) and type(kind.__dict__.get("_fields")) is tuple

    def plain(value, depth=0):
        """Rebuilds `value` with the standard library's dictionaries and named tuples as exact plain ones."""
        kind = type(value)
        if depth > 150:
            raise NotPlain("nested too deep")
        if kind in (type(None), bool, int, float, complex, str, bytes):
            return value
        if kind is bytearray:
            return bytes(value)
        if kind in (list, tuple, set, frozenset):
            return kind([plain(item, depth + 1) for item in value])
        collections = sys.modules.get("collections")
        standard = collections and (
            collections.Counter,
            collections.OrderedDict,
            collections.defaultdict,
        )
        if kind is dict or standard and kind in standard:
            return {plain(k, depth + 1): plain(v, depth + 1) for k, v in dict.items(value)}
        if is_record(kind):
            return tuple([plain(item, depth + 1) for item in tuple.__iter__(value)])
        raise NotPlain(describe(kind))

    def describe(kind):
        own = kind.__flags__ & 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
        module = str(kind.__module__).partition(".")[0]
        library = module != "builtins" and module in sys.stdlib_module_names
        return ("!" if own and not library else "") + kind.__name__

    def listed(items):
        items = iter(items)
        taken = [plain(item) for _, item in zip(range(largest), items)]
        if len(taken) == largest:
            raise NotPlain(f"iterator of {largest} items or more")
        return dumps(taken, 2)

    def encoded(value):
        try:
            return b"V", dumps(value, 2)
        except ValueError:
            pass
        kind = type(value)
        if kind is range:
            return b"G", dumps((value.start, value.stop, value.step), 2)
        for view, letter in ({}.keys, b"K"), ({}.values, b"W"), ({}.items, b"T"):
            if kind is type(view()):
                return letter, listed(value)
        for module, name, letter in ("decimal", "Decimal", b"D"), ("fractions", "Fraction", b"F"):
            loaded = sys.modules.get(module)
            if loaded and kind is getattr(loaded, name):
                whole = str(value) if letter == b"D" else (value.numerator, value.denominator)
                return letter, dumps(whole, 2)
        if hasattr(kind, "__next__") and kind.__module__ in ("builtins", "itertools"):
            return b"I", listed(value)
        try:
            return b"V", dumps(plain(value), 2)
        except NotPlain as what:
            return b"O", str(what).encode("utf-8", "replace")

    # Descriptor 0 is the line to the host; the program's own input is empty.
    sys.stdin = StringIO()
    source = message().decode()
    name = message().decode()
    space = {}
    try:
        code = compile(source, "<completion>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return say(b"S", f"line {error.lineno}: {error.msg}".encode("utf-8", "replace"))
    except BaseException as error:
        return say(b"E", words(error))
    try:
        exec(code, space)
        if name not in space:
            raise NameError(f"name '{name}' is not defined")
        function = space[name]
    except BaseException as error:
        return say(b"E", words(error))
    say(b"R")
    while True:
        args, kwargs = loads(message())
        try:
            kind, body = encoded(function(*args, **kwargs))
        except NotPlain as what:
            kind, body = b"O", str(what).encode("utf-8", "replace")
        except BaseException as error:
            kind, body = b"E", words(error)
        del args, kwargs
        say(kind, body)


serve()
