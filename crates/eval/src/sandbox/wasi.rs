//! All that an interpreter can ask of the host: the functions of WASI preview 1 that CPython imports, over a `Guest`.
//!
//! There is no folder, no environment, no socket behind them, and no code here that could reach one: descriptor 0 is
//! the line to the host, both ways, 1 and 2 are counted outputs that go nowhere, and every other descriptor and every path
//! is refused. The wall clock stands still, the monotonic one runs.
//! Specification: WebAssembly/WASI, `legacy/preview1/docs.md`.

use wasmtime::{Caller, Extern, Linker, Memory, Result};

use super::guest::{Guest, Stop};

const MODULE: &str = "wasi_snapshot_preview1";

/// The descriptor of the line to the host. Not a number of its own: the file system inside the module, which holds
/// Python's library, lets no other descriptor through.
const LINE: i32 = 0;

/// Midnight of 1 January 2026, UTC: what the wall clock shows.
const WALL_NANOS: u64 = 1_767_225_600_000_000_000;

const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const INVAL: i32 = 28;
const NOTCAPABLE: i32 = 76;
const NOTSUP: i32 = 58;
const SPIPE: i32 = 70;

/// More buffers in one call are refused.
const MOST_BUFFERS: u32 = 1024;

type Ctx<'a> = Caller<'a, Guest>;

/// A failed call: an error number for the guest, or the guest's end.
enum Failed {
    Errno(i32),
    Stop(Stop),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

type Outcome<T = ()> = std::result::Result<T, Failed>;

/// Every function of preview 1 that the interpreter imports.
pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    link_process(linker)?;
    link_descriptors(linker)?;
    link_refusals(linker)
}

fn link_process(linker: &mut Linker<Guest>) -> Result<()> {
    linker.func_wrap(MODULE, "args_sizes_get", |mut c: Ctx, n: u32, size: u32| {
        answer(&mut c, |c, memory| {
            let args = &c.data().args;
            let bytes: usize = args.iter().map(|a| a.len() + 1).sum();
            let count = args.len() as u32;
            put(c, memory, n, &count.to_le_bytes())?;
            put(c, memory, size, &(bytes as u32).to_le_bytes())
        })
    })?;
    linker.func_wrap(MODULE, "args_get", |mut c: Ctx, list: u32, buf: u32| {
        answer(&mut c, |c, memory| {
            let mut at = buf;
            for (i, arg) in (0u32..).zip(c.data().args.clone()) {
                put(c, memory, offset(list, i, 4)?, &at.to_le_bytes())?;
                put(c, memory, at, &arg)?;
                at = offset(at, arg.len() as u32, 1)?;
                put(c, memory, at, &[0])?;
                at = offset(at, 1, 1)?;
            }
            Ok(())
        })
    })?;
    linker.func_wrap(
        MODULE,
        "environ_sizes_get",
        |mut c: Ctx, n: u32, size: u32| {
            answer(&mut c, |c, memory| {
                put(c, memory, n, &[0; 4])?;
                put(c, memory, size, &[0; 4])
            })
        },
    )?;
    linker.func_wrap(MODULE, "environ_get", |mut c: Ctx, _: u32, _: u32| {
        answer(&mut c, |_, _| Ok(()))
    })?;
    linker.func_wrap(MODULE, "clock_res_get", |mut c: Ctx, _: u32, out: u32| {
        answer(&mut c, |c, memory| {
            put(c, memory, out, &1000u64.to_le_bytes())
        })
    })?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |mut c: Ctx, clock: u32, _: u64, out: u32| {
            answer(&mut c, |c, memory| {
                let nanos = time(c.data(), clock)?;
                put(c, memory, out, &nanos.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(MODULE, "random_get", |mut c: Ctx, at: u32, len: u32| {
        answer(&mut c, |c, memory| {
            let (data, guest) = memory.data_and_store_mut(&mut *c);
            let end = (at as usize).saturating_add(len as usize);
            let bytes = data.get_mut(at as usize..end);
            guest.fill_random(bytes.ok_or(Failed::Errno(FAULT))?);
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "sched_yield", |mut c: Ctx| {
        answer(&mut c, |_, _| Ok(()))
    })?;
    linker.func_wrap(
        MODULE,
        "proc_exit",
        |mut c: Ctx, status: i32| -> Result<()> { Err(stopped(&mut c, Stop::Exit(status))) },
    )?;
    linker.func_wrap(
        MODULE,
        "poll_oneoff",
        |mut c: Ctx, subscriptions: u32, events: u32, n: u32, happened: u32| {
            answer(&mut c, |c, memory| {
                let count = poll(c, memory, subscriptions, events, n)?;
                put(c, memory, happened, &count.to_le_bytes())
            })
        },
    )?;
    Ok(())
}

fn link_descriptors(linker: &mut Linker<Guest>) -> Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_read",
        |mut c: Ctx, fd: i32, list: u32, n: u32, got: u32| {
            answer(&mut c, |c, memory| {
                let buffers = buffers(c, memory, list, n)?;
                if fd != LINE {
                    return Err(Failed::Errno(BADF));
                }
                let mut total = 0;
                if let Some(&(at, len)) = buffers.iter().find(|b| b.1 > 0) {
                    let bytes = c.data_mut().heard(len as usize)?;
                    total = bytes.len() as u32;
                    put(c, memory, at, &bytes)?;
                }
                put(c, memory, got, &total.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut c: Ctx, fd: i32, list: u32, n: u32, written: u32| {
            answer(&mut c, |c, memory| {
                if !matches!(fd, 1 | 2 | LINE) {
                    return Err(Failed::Errno(BADF));
                }
                let buffers = buffers(c, memory, list, n)?;
                let total: u64 = buffers.iter().map(|b| u64::from(b.1)).sum();
                let (data, guest) = memory.data_and_store_mut(&mut *c);
                if fd == LINE && total > guest.answer_bytes as u64 {
                    return Err(Stop::Output("answered").into());
                }
                let mut message = Vec::new();
                for (at, len) in buffers {
                    let end = (at as usize).saturating_add(len as usize);
                    let bytes = data.get(at as usize..end).ok_or(Failed::Errno(FAULT))?;
                    if fd == LINE {
                        message.extend_from_slice(bytes);
                    } else {
                        guest.printed(bytes, fd == 2)?;
                    }
                }
                if fd == LINE {
                    guest.said(&message)?;
                }
                put(c, memory, written, &(total as u32).to_le_bytes())
            })
        },
    )?;
    // A file type "unknown" and no rights: neither a terminal nor a file.
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut c: Ctx, fd: i32, out: u32| {
        answer(&mut c, |c, memory| {
            standard(fd)?;
            put(c, memory, out, &[0; 24])
        })
    })?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_get",
        |mut c: Ctx, fd: i32, out: u32| {
            answer(&mut c, |c, memory| {
                standard(fd)?;
                put(c, memory, out, &[0; 64])
            })
        },
    )?;
    linker.func_wrap(MODULE, "fd_close", |mut c: Ctx, fd: i32| {
        answer(&mut c, |_, _| standard(fd))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        |mut c: Ctx, fd: i32, _: i32| answer(&mut c, |_, _| standard(fd)),
    )?;
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |mut c: Ctx, fd: i32, _: i64, _: i32, _: u32| refuse_seek(&mut c, fd),
    )?;
    linker.func_wrap(MODULE, "fd_tell", |mut c: Ctx, fd: i32, _: u32| {
        refuse_seek(&mut c, fd)
    })?;
    Ok(())
}

/// What there is no right to: files, folders, sockets.
fn link_refusals(linker: &mut Linker<Guest>) -> Result<()> {
    /// `refuse!(linker, errno, "name"(types), ...)`: functions that only ever give `errno`.
    macro_rules! refuse {
        ($errno:expr, $($name:literal ( $($ty:ty),* )),+ $(,)?) => {$(
            linker.func_wrap(MODULE, $name, |mut c: Ctx, $(_: $ty),*| {
                answer(&mut c, |_, _| Err(Failed::Errno($errno)))
            })?;
        )+};
    }
    refuse!(
        BADF,
        "fd_advise"(i32, i64, i64, i32),
        "fd_allocate"(i32, i64, i64),
        "fd_datasync"(i32),
        "fd_filestat_set_size"(i32, i64),
        "fd_filestat_set_times"(i32, i64, i64, i32),
        "fd_pread"(i32, i32, i32, i64, i32),
        "fd_prestat_get"(i32, i32),
        "fd_prestat_dir_name"(i32, i32, i32),
        "fd_pwrite"(i32, i32, i32, i64, i32),
        "fd_readdir"(i32, i32, i32, i64, i32),
        "fd_sync"(i32),
    );
    refuse!(
        NOTCAPABLE,
        "path_create_directory"(i32, i32, i32),
        "path_filestat_get"(i32, i32, i32, i32, i32),
        "path_filestat_set_times"(i32, i32, i32, i32, i64, i64, i32),
        "path_link"(i32, i32, i32, i32, i32, i32, i32),
        "path_open"(i32, i32, i32, i32, i32, i64, i64, i32, i32),
        "path_readlink"(i32, i32, i32, i32, i32, i32),
        "path_remove_directory"(i32, i32, i32),
        "path_rename"(i32, i32, i32, i32, i32, i32),
        "path_symlink"(i32, i32, i32, i32, i32),
        "path_unlink_file"(i32, i32, i32),
    );
    refuse!(
        NOTSUP,
        "sock_accept"(i32, i32, i32),
        "sock_recv"(i32, i32, i32, i32, i32, i32),
        "sock_send"(i32, i32, i32, i32, i32),
        "sock_shutdown"(i32, i32),
    );
    Ok(())
}

/// Counts the call, runs it, and turns its failure into an error number or the guest's end.
fn answer(c: &mut Ctx<'_>, call: impl FnOnce(&mut Ctx<'_>, Memory) -> Outcome) -> Result<i32> {
    if let Err(stop) = c.data_mut().called() {
        return Err(stopped(c, stop));
    }
    let Some(Extern::Memory(memory)) = c.get_export("memory") else {
        let problem = "the module exports no memory".to_owned();
        return Err(stopped(c, Stop::Crash(problem)));
    };
    match call(c, memory) {
        Ok(()) => Ok(SUCCESS),
        Err(Failed::Errno(errno)) => Ok(errno),
        Err(Failed::Stop(stop)) => Err(stopped(c, stop)),
    }
}

/// Ends the guest; what is returned unwinds it.
fn stopped(c: &mut Ctx<'_>, stop: Stop) -> wasmtime::Error {
    c.data_mut().stop = Some(stop.clone());
    wasmtime::Error::new(stop)
}

fn standard(fd: i32) -> Outcome {
    if matches!(fd, 0..=2) {
        Ok(())
    } else {
        Err(Failed::Errno(BADF))
    }
}

fn refuse_seek(c: &mut Ctx<'_>, fd: i32) -> Result<i32> {
    answer(c, |_, _| {
        standard(fd)?;
        Err(Failed::Errno(SPIPE))
    })
}

/// Nanoseconds of clock 0 (wall), 1 (monotonic), 2 and 3 (processor time: taken as the monotonic one).
fn time(guest: &Guest, clock: u32) -> Outcome<u64> {
    match clock {
        0 => Ok(WALL_NANOS),
        1..=3 => Ok(guest.monotonic_nanos()),
        _ => Err(Failed::Errno(INVAL)),
    }
}

/// Answers at once if a descriptor is waited for; else lets the shortest of the times asked for pass. Gives the number
/// of events written.
fn poll(c: &mut Ctx<'_>, memory: Memory, subscriptions: u32, events: u32, n: u32) -> Outcome<u32> {
    const SUBSCRIPTION: u32 = 48;
    const EVENT: u32 = 32;
    if n == 0 || n > MOST_BUFFERS {
        return Err(Failed::Errno(INVAL));
    }
    // User data, kind, and nanoseconds to wait.
    let mut waits: Vec<([u8; 8], u8, u64)> = Vec::new();
    for i in 0..n {
        let at = offset(subscriptions, i, SUBSCRIPTION)?;
        let bytes: [u8; SUBSCRIPTION as usize] = get(c, memory, at)?;
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let user = bytes[..8].try_into().expect("8 bytes");
        let wait = match bytes[8] {
            0 => {
                let until_absolute = bytes[40] & 1 == 1;
                let now = if until_absolute {
                    time(c.data(), bytes[16].into())?
                } else {
                    0
                };
                word(24).saturating_sub(now)
            }
            1 | 2 => 0,
            _ => return Err(Failed::Errno(INVAL)),
        };
        waits.push((user, bytes[8], wait));
    }
    let shortest = waits.iter().map(|w| w.2).min().unwrap_or(0);
    if shortest > 0 {
        c.data_mut().sleep(shortest)?;
    }
    let mut count = 0;
    for (user, kind, wait) in waits {
        if wait <= shortest {
            let mut event = [0; EVENT as usize];
            event[..8].copy_from_slice(&user);
            event[10] = kind;
            put(c, memory, offset(events, count, EVENT)?, &event)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The buffers of a read or write: address and length.
fn buffers(c: &mut Ctx<'_>, memory: Memory, list: u32, n: u32) -> Outcome<Vec<(u32, u32)>> {
    if n > MOST_BUFFERS {
        return Err(Failed::Errno(INVAL));
    }
    (0..n)
        .map(|i| {
            let bytes: [u8; 8] = get(c, memory, offset(list, i, 8)?)?;
            let word =
                |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
            Ok((word(0), word(4)))
        })
        .collect()
}

/// `base + index * size`, if the guest's addresses reach that far.
fn offset(base: u32, index: u32, size: u32) -> Outcome<u32> {
    index
        .checked_mul(size)
        .and_then(|o| base.checked_add(o))
        .ok_or(Failed::Errno(FAULT))
}

fn put(c: &mut Ctx<'_>, memory: Memory, at: u32, bytes: &[u8]) -> Outcome {
    memory
        .write(c, at as usize, bytes)
        .map_err(|_| Failed::Errno(FAULT))
}

fn get<const N: usize>(c: &mut Ctx<'_>, memory: Memory, at: u32) -> Outcome<[u8; N]> {
    let mut bytes = [0; N];
    memory
        .read(c, at as usize, &mut bytes)
        .map_err(|_| Failed::Errno(FAULT))?;
    Ok(bytes)
}
