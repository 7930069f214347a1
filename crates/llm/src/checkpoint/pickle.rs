//! A machine for the pickles of PyTorch state dicts that can do nothing but build them.
//!
//! It runs the opcodes that `torch.save` writes (pickle protocol 2; Lib/pickletools.py of Python) and knows the names that a
//! dictionary of tensors needs: an ordered dictionary, two functions that describe a tensor, and the kinds of storage. Every
//! other name and opcode ends the reading, with its name and place. Values are numbered, so that a pickle which repeats
//! itself takes no more memory than its length allows, and nothing is recursive.

use std::collections::{HashMap, HashSet};

/// A state dict takes about a hundred bytes a tensor; a longer pickle is something else.
const MAX_PICKLE_BYTES: usize = 2 << 20;
/// More than any tensor of a model has.
const MAX_DIMS: usize = 8;

/// How the numbers of a storage are stored: PyTorch's name, the one in safetensors files, bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumberKind {
    storage: &'static str,
    pub safetensors: &'static str,
    pub bytes: u64,
}

const fn kind(storage: &'static str, safetensors: &'static str, bytes: u64) -> NumberKind {
    NumberKind {
        storage,
        safetensors,
        bytes,
    }
}

static KINDS: [NumberKind; 10] = [
    kind("FloatStorage", "F32", 4),
    kind("HalfStorage", "F16", 2),
    kind("BFloat16Storage", "BF16", 2),
    kind("DoubleStorage", "F64", 8),
    kind("LongStorage", "I64", 8),
    kind("IntStorage", "I32", 4),
    kind("ShortStorage", "I16", 2),
    kind("CharStorage", "I8", 1),
    kind("ByteStorage", "U8", 1),
    kind("BoolStorage", "BOOL", 1),
];

/// A tensor of a state dict: which numbers of which storage it is made of. Nothing is checked against the storage yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub kind: &'static NumberKind,
    /// Name of the storage's entry in the archive.
    pub storage: String,
    /// Numbers in the storage.
    pub storage_len: u64,
    /// Its first number.
    pub offset: u64,
    pub shape: Vec<u64>,
    /// From one number to the next along each dimension.
    pub strides: Vec<u64>,
}

/// The tensors of a pickled state dict, in order. The error is the problem, without the path.
pub(super) fn state_dict(pickle: &[u8]) -> Result<Vec<(String, Tensor)>, String> {
    if pickle.len() > MAX_PICKLE_BYTES {
        return Err(format!(
            "its pickle has {} bytes; a state dict's has at most {MAX_PICKLE_BYTES}",
            pickle.len()
        ));
    }
    let mut machine = Machine {
        bytes: pickle,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let (mut op, mut at) = (0, 0);
    let top = loop {
        let step = machine.opcode().and_then(|opcode| {
            (op, at) = (opcode, machine.at - 1);
            machine.step(opcode)
        });
        match step {
            Ok(None) => {}
            Ok(Some(top)) => break top,
            Err(problem) => {
                return Err(format!(
                    "its pickle at byte {at} ({}): {problem}",
                    opcode_name(op)
                ));
            }
        }
    };
    if machine.at != pickle.len() {
        return Err(format!(
            "its pickle ends at byte {}, but has {} bytes",
            machine.at,
            pickle.len()
        ));
    }
    machine.tensors(top)
}

type Id = usize;

#[derive(Debug)]
enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Function(Function),
    Kind(&'static NumberKind),
    Storage(&'static NumberKind, &'a str, u64),
    Tensor(Box<Tensor>),
}

impl Value<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a truth value",
            Self::Int(_) => "an integer",
            Self::Float => "a float",
            Self::Text(_) => "a text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Function(_) => "a function",
            Self::Kind(_) => "a kind of storage",
            Self::Storage(..) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// What a pickle may ask to be called; each only describes.
#[derive(Clone, Copy, Debug)]
enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack where marks lie.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn opcode(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    /// The value that the pickle stands for, at its end.
    fn step(&mut self, opcode: u8) -> Result<Option<Id>, String> {
        match opcode {
            // PROTO
            0x80 => {
                let version = self.take(1)?[0];
                if version != 2 {
                    return Err(format!("protocol {version}; PyTorch writes protocol 2"));
                }
            }
            b'c' => self.global()?,
            // BINPUT, LONG_BINPUT
            b'q' | b'r' => {
                let key = self.unsigned(if opcode == b'q' { 1 } else { 4 })?;
                let top = self.top()?;
                self.memo.insert(key as u32, top);
            }
            // BINGET, LONG_BINGET
            b'h' | b'j' => {
                let key = self.unsigned(if opcode == b'h' { 1 } else { 4 })? as u32;
                let id = self.memo.get(&key);
                let id = *id.ok_or_else(|| format!("nothing was remembered as {key}"))?;
                self.stack.push(id);
            }
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            // BININT1, BININT2, BININT, LONG1
            b'K' | b'M' => {
                let value = self.unsigned(if opcode == b'K' { 1 } else { 2 })?;
                self.push(Value::Int(value as i64));
            }
            b'J' => {
                let value = self.unsigned(4)? as u32 as i32;
                self.push(Value::Int(value.into()));
            }
            0x8a => {
                let len = self.unsigned(1)? as usize;
                if len > 8 {
                    return Err(format!("an integer of {len} bytes; at most 8 are read"));
                }
                let unused = 64 - 8 * len as u32;
                let value = self.unsigned(len)?;
                // The sign is the highest of the bits written.
                let value = if len == 0 {
                    0
                } else {
                    (value << unused) as i64 >> unused
                };
                self.push(Value::Int(value));
            }
            // BINFLOAT
            b'G' => {
                self.take(8)?;
                self.push(Value::Float);
            }
            // BINUNICODE
            b'X' => {
                let len = self.unsigned(4)? as usize;
                let text = std::str::from_utf8(self.take(len)?)
                    .map_err(|_| "a text that is not UTF-8".to_owned())?;
                self.push(Value::Text(text));
            }
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0x84..opcode {
                    items.insert(0, self.pop()?);
                }
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            // APPEND, APPENDS
            b'a' | b'e' => {
                let items = if opcode == b'a' {
                    vec![self.pop()?]
                } else {
                    self.since_mark()?
                };
                let top = self.top()?;
                match &mut self.values[top] {
                    Value::List(list) => list.extend(items),
                    other => return Err(format!("appends to {}", other.name())),
                }
            }
            // SETITEM, SETITEMS
            b's' | b'u' => {
                let items = if opcode == b's' {
                    let value = self.pop()?;
                    vec![self.pop()?, value]
                } else {
                    self.since_mark()?
                };
                let (pairs, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err("a key without a value".to_owned());
                }
                let top = self.top()?;
                match &mut self.values[top] {
                    Value::Dict(dict) => {
                        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
                    }
                    other => return Err(format!("sets an item of {}", other.name())),
                }
            }
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            // BUILD gives an ordered dictionary attributes (`_metadata`), which say nothing about tensors.
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                let pair = (&self.values[top], &self.values[state]);
                if !matches!(pair, (Value::Dict(_), Value::Dict(_))) {
                    return Err(format!(
                        "gives {} the state {}; only a dictionary may have some",
                        pair.0.name(),
                        pair.1.name()
                    ));
                }
            }
            b'.' => {
                let top = self.pop()?;
                if !self.stack.is_empty() {
                    return Err(format!("{} values are left over", self.stack.len()));
                }
                return Ok(Some(top));
            }
            _ => {
                return Err(
                    "this opcode has no place in a state dict; the file may be hostile, and nothing of it was run"
                        .to_owned(),
                );
            }
        }
        Ok(None)
    }

    /// GLOBAL: a name that the pickle means to use.
    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        let value = match (module, name) {
            ("collections", "OrderedDict") => Value::Function(Function::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Value::Function(Function::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Value::Function(Function::RebuildParameter),
            ("torch", name) if let Some(kind) = KINDS.iter().find(|k| k.storage == name) => {
                Value::Kind(kind)
            }
            _ => {
                return Err(format!(
                    "it asks for {:?} of {:?}, which no state dict needs; the file may be hostile, and nothing of it was \
                     run",
                    shortened(name),
                    shortened(module)
                ));
            }
        };
        self.push(value);
        Ok(())
    }

    /// BINPERSID: ("storage", kind, key, device, number of elements).
    fn persistent(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let items = self.tuple(id)?;
        let parts: Vec<&Value<'a>> = items.iter().map(|&id| &self.values[id]).collect();
        let &[
            Value::Text("storage"),
            &Value::Kind(kind),
            &Value::Text(key),
            Value::Text(_),
            &Value::Int(len),
        ] = &parts[..]
        else {
            let found: Vec<_> = parts.iter().map(|value| value.name()).collect();
            return Err(format!("a storage is described by {}", found.join(", ")));
        };
        let len = u64::try_from(len).map_err(|_| format!("a storage of {len} numbers"))?;
        self.push(Value::Storage(kind, key, len));
        Ok(())
    }

    /// REDUCE: a call.
    fn reduce(&mut self) -> Result<(), String> {
        let args = self.pop()?;
        let function = self.pop()?;
        let Value::Function(function) = self.values[function] else {
            return Err(format!("it calls {}", self.values[function].name()));
        };
        let args = self.tuple(args)?.to_vec();
        let value = match function {
            Function::OrderedDict if args.is_empty() => Value::Dict(Vec::new()),
            // (storage, offset, shape, strides, requires_grad, hooks)
            Function::RebuildTensor if args.len() == 6 => {
                let Value::Storage(kind, key, len) = self.values[args[0]] else {
                    return Err(format!(
                        "a tensor is made of {}",
                        self.values[args[0]].name()
                    ));
                };
                let (shape, strides) = (self.counts(args[2])?, self.counts(args[3])?);
                if shape.len() != strides.len() || shape.len() > MAX_DIMS {
                    return Err(format!(
                        "a tensor has {} dimensions and {} strides; at most {MAX_DIMS} are read",
                        shape.len(),
                        strides.len()
                    ));
                }
                Value::Tensor(Box::new(Tensor {
                    kind,
                    storage: key.to_owned(),
                    storage_len: len,
                    offset: self.count(args[1])?,
                    shape,
                    strides,
                }))
            }
            // (tensor, requires_grad, hooks)
            Function::RebuildParameter if args.len() == 3 => match &self.values[args[0]] {
                Value::Tensor(tensor) => Value::Tensor(tensor.clone()),
                other => return Err(format!("a parameter is made of {}", other.name())),
            },
            other => return Err(format!("{other:?} is called with {} values", args.len())),
        };
        self.push(value);
        Ok(())
    }

    /// What the top value holds, if it is a state dict.
    fn tensors(&self, top: Id) -> Result<Vec<(String, Tensor)>, String> {
        let Value::Dict(items) = &self.values[top] else {
            return Err(format!(
                "it holds {}, not a dictionary of tensors",
                self.values[top].name()
            ));
        };
        let mut tensors = Vec::new();
        let mut names = HashSet::new();
        for &(key, value) in items {
            match (&self.values[key], &self.values[value]) {
                (Value::Text(name), Value::Tensor(tensor)) => {
                    if !names.insert(*name) {
                        return Err(format!("{:?} is in it twice", shortened(name)));
                    }
                    tensors.push(((*name).to_owned(), Tensor::clone(tensor)));
                }
                (Value::Text(name), other) => {
                    return Err(format!(
                        "{:?} in it is {}, not a tensor; only dictionaries of tensors are read",
                        shortened(name),
                        other.name()
                    ));
                }
                (other, _) => return Err(format!("a key in it is {}, not a text", other.name())),
            }
        }
        Ok(tensors)
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// Height of the stack that belongs to what is being built.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, String> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err("there is no value for it".to_owned()),
        }
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("there is no mark for it")?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&self, id: Id) -> Result<&[Id], String> {
        match &self.values[id] {
            Value::Tuple(items) => Ok(items),
            other => Err(format!("expected a tuple, found {}", other.name())),
        }
    }

    /// A number from 0 on.
    fn count(&self, id: Id) -> Result<u64, String> {
        match self.values[id] {
            Value::Int(number) => u64::try_from(number).map_err(|_| {
                format!("an offset, a size or a stride is {number}; none may be negative")
            }),
            ref other => Err(format!("expected a number, found {}", other.name())),
        }
    }

    fn counts(&self, id: Id) -> Result<Vec<u64>, String> {
        let items = self.tuple(id)?;
        items
            .iter()
            .take(MAX_DIMS + 1)
            .map(|&id| self.count(id))
            .collect()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(len);
        let part = end.and_then(|end| self.bytes.get(self.at..end));
        let part = part.ok_or_else(|| {
            format!(
                "it needs {len} bytes more, but the pickle has {} left",
                self.bytes.len() - self.at
            )
        })?;
        self.at += len;
        Ok(part)
    }

    /// Little-endian, at most eight bytes.
    fn unsigned(&mut self, len: usize) -> Result<u64, String> {
        let bytes = self.take(len)?;
        let join = |value, &byte| value << 8 | u64::from(byte);
        Ok(bytes.iter().rev().fold(0, join))
    }

    /// Text up to a line's end.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n');
        let len = len.ok_or("a name without an end")?;
        let line = self.take(len + 1)?;
        std::str::from_utf8(&line[..len]).map_err(|_| "a name that is not UTF-8".to_owned())
    }
}

/// For messages: the first characters of what may be long.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The opcode's name in pickletools.py, for messages.
fn opcode_name(opcode: u8) -> String {
    let name = match opcode {
        0x80 => "PROTO",
        b'c' => "GLOBAL",
        b'q' => "BINPUT",
        b'r' => "LONG_BINPUT",
        b'h' => "BINGET",
        b'j' => "LONG_BINGET",
        b'N' => "NONE",
        0x88 => "NEWTRUE",
        0x89 => "NEWFALSE",
        b'K' => "BININT1",
        b'M' => "BININT2",
        b'J' => "BININT",
        0x8a => "LONG1",
        b'G' => "BINFLOAT",
        b'X' => "BINUNICODE",
        b'(' => "MARK",
        b')' => "EMPTY_TUPLE",
        b't' => "TUPLE",
        0x85 => "TUPLE1",
        0x86 => "TUPLE2",
        0x87 => "TUPLE3",
        b']' => "EMPTY_LIST",
        b'}' => "EMPTY_DICT",
        b'a' => "APPEND",
        b'e' => "APPENDS",
        b's' => "SETITEM",
        b'u' => "SETITEMS",
        b'Q' => "BINPERSID",
        b'R' => "REDUCE",
        b'b' => "BUILD",
        b'.' => "STOP",
        b'I' => "INT",
        b'L' => "LONG",
        b'S' => "STRING",
        b'T' => "BINSTRING",
        b'U' => "SHORT_BINSTRING",
        b'V' => "UNICODE",
        b'B' => "BINBYTES",
        b'C' => "SHORT_BINBYTES",
        b'F' => "FLOAT",
        b'l' => "LIST",
        b'd' => "DICT",
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'g' => "GET",
        b'p' => "PUT",
        b'i' => "INST",
        b'o' => "OBJ",
        b'P' => "PERSID",
        0x81 => "NEWOBJ",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x8b => "LONG4",
        0x8c => "SHORT_BINUNICODE",
        0x8d => "BINUNICODE8",
        0x8e => "BINBYTES8",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x93 => "STACK_GLOBAL",
        0x94 => "MEMOIZE",
        0x95 => "FRAME",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        other => return format!("opcode {other:#04x}"),
    };
    name.to_owned()
}
