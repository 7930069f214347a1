//! CPython, compiled and ready to start: the engine's settings, the clock that interrupts, one run of one interpreter.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::{Config, Engine, InstancePre, Linker, OptLevel, Store, UpdateDeadline};

use super::guest::{Guest, Stop};
use super::{cache, wasi};
use crate::Error;

/// How often a running interpreter looks at its time.
const TICK: Duration = Duration::from_millis(5);

/// Machine stack of an interpreter; CPython's own build for wasmtime asks for as much. Its recursion ends at the C stack
/// inside its memory (512 kB) or at Python's recursion limit long before.
const WASM_STACK_BYTES: usize = 8 << 20;

/// Stack of the thread that runs it; only what is touched takes memory.
const THREAD_STACK_BYTES: usize = WASM_STACK_BYTES + (2 << 20);

/// CPython for WebAssembly, compiled. Cheap to clone; every run is a fresh interpreter.
#[derive(Clone)]
pub struct Python {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    pre: InstancePre<Guest>,
    clock: Mutex<Clock>,
    compiled: bool,
}

/// While interpreters run, one thread ticks.
#[derive(Default)]
struct Clock {
    running: usize,
    ticks: bool,
}

impl Python {
    /// Compiles the interpreter in the file `wasm`, which takes seconds, or takes it from `cache_dir`, where it is kept
    /// afterwards. A cache that is not exactly what was put there is not used.
    pub fn open(wasm: &Path, cache_dir: &Path) -> Result<Self, Error> {
        let failed = |e: wasmtime::Error| Error::Sandbox {
            what: format!("cannot prepare {}", wasm.display()),
            problem: format!("{e:#}"),
        };
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .epoch_interruption(true)
            // The second is not used without async, but must not be less.
            .max_wasm_stack(WASM_STACK_BYTES)
            .async_stack_size(WASM_STACK_BYTES)
            .wasm_backtrace_max_frames(None);
        let engine = Engine::new(&config).map_err(failed)?;
        let (module, compiled) = cache::module(&engine, wasm, cache_dir)?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(failed)?;
        let pre = linker.instantiate_pre(&module).map_err(failed)?;
        Ok(Self {
            shared: Arc::new(Shared {
                engine,
                pre,
                clock: Mutex::default(),
                compiled,
            }),
        })
    }

    /// Whether `open` had to compile.
    pub fn was_compiled(&self) -> bool {
        self.shared.compiled
    }

    /// Runs `guest` in a fresh interpreter on a thread of its own until it stops; `then` is told why on that thread.
    pub(super) fn start<'scope>(
        &self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        guest: Guest,
        then: impl FnOnce(Stop) + Send + 'scope,
    ) -> std::io::Result<()> {
        let python = self.clone();
        std::thread::Builder::new()
            .name("python".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn_scoped(scope, move || then(python.run(guest)))
            .map(drop)
    }

    fn run(&self, guest: Guest) -> Stop {
        // Without the clock nothing would ever be interrupted.
        let _ticking = match self.tick() {
            Ok(ticking) => ticking,
            Err(error) => return Stop::Crash(format!("no thread for the clock: {error}")),
        };
        let mut store = Store::new(&self.shared.engine, guest);
        store.limiter(|guest| guest);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            let guest = context.data_mut();
            match guest.tick() {
                None => Ok(UpdateDeadline::Continue(1)),
                Some(stop) => {
                    guest.stop = Some(stop);
                    Ok(UpdateDeadline::Interrupt)
                }
            }
        });
        let result = self
            .shared
            .pre
            .instantiate(&mut store)
            .and_then(|instance| instance.get_typed_func::<(), ()>(&mut store, "_start"))
            .and_then(|start| start.call(&mut store, ()));
        store.data_mut().tick();
        store.data_mut().why(result)
    }

    /// Has the engine's clock tick as long as the returned value lives.
    fn tick(&self) -> std::io::Result<Ticking> {
        let mut clock = lock(&self.shared.clock);
        if !clock.ticks {
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new()
                .name("python-clock".to_owned())
                .spawn(move || {
                    loop {
                        std::thread::sleep(TICK);
                        shared.engine.increment_epoch();
                        let mut clock = lock(&shared.clock);
                        if clock.running == 0 {
                            clock.ticks = false;
                            return;
                        }
                    }
                })?;
            clock.ticks = true;
        }
        clock.running += 1;
        Ok(Ticking(Arc::clone(&self.shared)))
    }
}

/// One running interpreter's share of the ticking clock.
struct Ticking(Arc<Shared>);

impl Drop for Ticking {
    fn drop(&mut self) {
        lock(&self.0.clock).running -= 1;
    }
}

fn lock(clock: &Mutex<Clock>) -> std::sync::MutexGuard<'_, Clock> {
    // The counts are sound whatever happened to the thread that held them.
    clock.lock().unwrap_or_else(PoisonError::into_inner)
}
