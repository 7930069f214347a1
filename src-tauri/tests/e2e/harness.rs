//! The real window under a private display, driven as a person drives it: Xvfb, tauri-driver, WebKitWebDriver.
//!
//! Every `Window` has its own display, driver and data folder, and takes them down when it is dropped, whatever became
//! of the test. No wait is without a limit, and nothing here inherits the test's own output: a process that is left
//! behind could otherwise keep the whole run open.

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// How long anything that only draws may take, on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(20);
/// How long anything that runs a model may take.
pub const AFTER_WORK: Duration = Duration::from_mins(8);
/// How long one window may be open, all its waits together.
const WHOLE_LIFE: Duration = Duration::from_mins(20);

/// A running app with its window.
pub struct Window {
    client: Client,
    processes: Processes,
    display: Display,
    /// No wait goes on after it.
    latest: Instant,
}

/// The driver and all that it starts over one data folder; ended with their folder when dropped.
struct Processes {
    driver: Child,
    data: PathBuf,
}

impl Window {
    /// Starts the app over the data folder and waits until its page is drawn.
    pub async fn open(data: &Path) -> Self {
        Self::open_with(data, &[]).await
    }

    /// The same with more in the app's environment.
    pub async fn open_with(data: &Path, environment: &[(&str, &str)]) -> Self {
        let display = Display::start();
        let (port, native_port) = (free_port(), free_port());
        let log = log("driver");
        let driver = app_environment(Command::new(tauri_driver()), data, &display)
            .envs(environment.iter().copied())
            .args(["--port", &port.to_string()])
            .args(["--native-port", &native_port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("tauri-driver starts");
        let processes = Processes {
            driver,
            data: data.to_owned(),
        };
        // The driver listens before the web view's own driver does, and passes on to it.
        wait_for_port(native_port);
        wait_for_port(port);

        let mut wanted = Capabilities::new();
        wanted.insert("tauri:options".into(), json!({ "application": app() }));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let address = format!("http://127.0.0.1:{port}");
        let connecting = builder.capabilities(wanted).connect(&address);
        let client = tokio::time::timeout(3 * SOON, connecting)
            .await
            .unwrap_or_else(|limit| panic!("the app did not open its window: {limit}"))
            .unwrap_or_else(|error| panic!("the app did not open its window: {error}"));
        let window = Self {
            client,
            processes,
            display,
            latest: Instant::now() + WHOLE_LIFE,
        };
        window
            .wait(
                "the page is drawn",
                SOON,
                "return document.querySelector('nav, main') !== null",
            )
            .await;
        window
    }

    /// Presses what has this test id.
    pub async fn click(&self, id: &str) {
        self.wait(
            &format!("{id} can be pressed"),
            SOON,
            &format!(
                "const e = document.querySelector({}); return e !== null && !e.disabled",
                by_id(id)
            ),
        )
        .await;
        let place = selector(id);
        let press = async {
            let element = self.client.find(Locator::Css(&place)).await?;
            element.click().await
        };
        if let Err(why) = in_time(press).await {
            self.picture(&format!("cannot-press-{id}")).await;
            panic!("{id} cannot be pressed: {why}");
        }
    }

    /// Types into what has this test id.
    pub async fn type_into(&self, id: &str, text: &str) {
        self.wait_for(id, SOON).await;
        let place = selector(id);
        let typing = async {
            let element = self.client.find(Locator::Css(&place)).await?;
            element.send_keys(text).await
        };
        if let Err(why) = in_time(typing).await {
            panic!("cannot type into {id}: {why}");
        }
    }

    /// What can be read in the first element with this test id; empty where there is none.
    pub async fn text(&self, id: &str) -> String {
        let script = format!(
            "return document.querySelector({})?.innerText ?? ''",
            by_id(id)
        );
        self.run(&script)
            .await
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// How many elements have this test id.
    pub async fn count(&self, id: &str) -> usize {
        let script = format!("return document.querySelectorAll({}).length", by_id(id));
        self.run(&script).await.as_u64().unwrap_or_default() as usize
    }

    /// Waits until an element with this test id is there.
    pub async fn wait_for(&self, id: &str, limit: Duration) {
        let script = format!("return document.querySelector({}) !== null", by_id(id));
        self.wait(&format!("{id} is shown"), limit, &script).await;
    }

    /// Waits until no element has this test id.
    pub async fn wait_until_gone(&self, id: &str, limit: Duration) {
        let script = format!("return document.querySelector({}) === null", by_id(id));
        self.wait(&format!("{id} is gone"), limit, &script).await;
    }

    /// Waits until the script returns true; a failure shows what the window showed instead.
    pub async fn wait(&self, what: &str, limit: Duration, script: &str) {
        let begun = Instant::now();
        let latest = self.latest.min(begun + limit);
        while Instant::now() < latest {
            if self.run(script).await == Value::Bool(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let picture = self.picture("waited-in-vain").await;
        let seen = self.run("return document.body.innerText").await;
        panic!(
            "waited {:?} in vain: {what}. Picture: {picture:?}. The window said:\n{}",
            begun.elapsed(),
            seen.as_str().unwrap_or_default()
        );
    }

    /// Runs a script in the page and returns what it returns.
    pub async fn run(&self, script: &str) -> Value {
        match in_time(self.client.execute(script, Vec::new())).await {
            Ok(value) => value,
            Err(why) => {
                let picture = self.display.picture("script-failed", None);
                panic!("the script failed: {why}. Picture: {picture:?}\n{script}");
            }
        }
    }

    /// Does to the page what the system does when files are dropped on the window.
    pub async fn drop_file(&self, path: &Path) {
        let payload = json!({ "paths": [path], "position": { "x": 600, "y": 400 } });
        let script = format!(
            "return window.__TAURI_INTERNALS__.invoke('plugin:event|emit', {{ event: 'tauri://drag-drop', payload: {payload} }})"
        );
        self.run(&script).await;
    }

    /// Answers the desktop's own save dialog, which no driver reaches, with this path: every later one too.
    pub async fn answer_save_dialog(&self, path: &Path) {
        self.answer_dialog("save", path).await;
    }

    /// Answers the desktop's own dialog for a file or a folder with this path: every later one too.
    pub async fn answer_open_dialog(&self, path: &Path) {
        self.answer_dialog("open", path).await;
    }

    async fn answer_dialog(&self, which: &str, path: &Path) {
        let answer = json!(path);
        self.run(&format!(
            "const ask = window.fetch; window.fetch = (address, options) => \
             String(address).includes('dialog%7C{which}') \
             ? Promise.resolve(new Response(JSON.stringify({answer}), \
               {{ headers: {{ 'content-type': 'application/json', 'Tauri-Response': 'ok' }} }})) \
             : ask(address, options)"
        ))
        .await;
    }

    /// Ends the engine at once, as the system does when memory runs out; returns how many processes it was.
    pub fn kill_engine(&self) -> usize {
        let engines = self.engines();
        kill(&engines);
        engines.len()
    }

    /// Process numbers of the engines that run for this window.
    pub fn engines(&self) -> Vec<u32> {
        let all = self.processes.all().into_iter();
        all.filter(|&process| command_line(process).contains("--engine-worker"))
            .collect()
    }

    /// Keeps a picture of the window under the target folder, where ImageMagick is installed.
    pub async fn picture(&self, name: &str) -> Option<PathBuf> {
        // Without a graphics card the web view may show an old frame until it has more to paint: paint a dot some
        // times.
        self.run(
            "const dot = document.createElement('div');\
             dot.dataset.testid = 'painting';\
             Object.assign(dot.style, { position: 'fixed', right: 0, bottom: 0, width: '1px', height: '1px', zIndex: 99 });\
             document.body.append(dot);\
             let frames = 0;\
             const paint = () => {\
               dot.style.background = frames++ % 2 ? 'black' : 'white';\
               if (frames < 20) requestAnimationFrame(paint); else dot.remove();\
             };\
             requestAnimationFrame(paint)",
        )
        .await;
        // A window that paints nothing any more is worth a picture too.
        let painted = async {
            while self.count("painting").await > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        drop(tokio::time::timeout(SOON / 4, painted).await);
        let place = self
            .run("return [innerWidth, innerHeight, screenX, screenY].map(Math.round)")
            .await;
        let [width, height, x, y] = [0, 1, 2, 3].map(|at| place[at].as_u64().unwrap_or_default());
        self.display
            .picture(name, Some(format!("{width}x{height}+{x}+{y}")))
    }

    /// Sets the size of the window and waits until its page has it.
    pub async fn resize(&self, width: u32, height: u32) {
        let resizing = self.client.set_window_rect(0, 0, width, height);
        if let Err(why) = in_time(resizing).await {
            panic!("the window cannot be {width} x {height}: {why}");
        }
        self.wait(
            &format!("the page is {width} x {height}"),
            SOON,
            &format!("return innerWidth === {width} && innerHeight === {height}"),
        )
        .await;
    }

    /// Closes the window and waits until the app and its engines are gone.
    pub async fn close(self) {
        let engines = self.engines();
        drop(in_time(self.client.clone().close()).await);
        let begun = Instant::now();
        while engines.iter().any(|&process| is_alive(process)) {
            assert!(
                begun.elapsed() < SOON,
                "engines {engines:?} outlive the window"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Processes {
    /// Every process that was started over the data folder, whoever its parent is by now: all inherit the folder's
    /// name.
    fn all(&self) -> Vec<u32> {
        let mark = format!("BILLION_DATA={}", self.data.join("billion").display());
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|process| {
                let environment = std::fs::read(format!("/proc/{process}/environ"));
                let environment = environment.unwrap_or_default();
                environment
                    .split(|&byte| byte == 0)
                    .any(|entry| entry == mark.as_bytes())
            })
            .collect()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let begun = Instant::now();
        // One that is just being started is found the next time.
        while begun.elapsed() < SOON {
            let left = self.all();
            if left.is_empty() {
                break;
            }
            kill(&left);
            std::thread::sleep(Duration::from_millis(20));
        }
        end(&mut self.driver);
    }
}

/// A private display. There is one at a time: windows share the machine's cores, so they are tested one after the other.
pub struct Display {
    server: Child,
    name: String,
    _turn: MutexGuard<'static, ()>,
}

impl Display {
    /// Waits for its turn, then starts Xvfb on a display number of its own choice.
    pub fn start() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // The server writes its number here once it listens.
        let number = tempfile::NamedTempFile::new().expect("a file for the display's number");
        let output = number.reopen().expect("the file was just made");
        let server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1600x1000x24"])
            .args(["-nolisten", "tcp"])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb starts; ./test installs it");
        let mut display = Self {
            server,
            name: String::new(),
            _turn: turn,
        };
        let begun = Instant::now();
        while !display.name.ends_with('\n') {
            assert!(begun.elapsed() < SOON, "Xvfb does not name its display");
            std::thread::sleep(Duration::from_millis(20));
            display.name = std::fs::read_to_string(number.path()).expect("the file is there");
        }
        display.name = format!(":{}", display.name.trim());
        display
    }

    /// Keeps a picture of the display, or of this part of it (WIDTHxHEIGHT+X+Y), under the target folder, where
    /// ImageMagick is installed.
    pub fn picture(&self, name: &str, part: Option<String>) -> Option<PathBuf> {
        let path = output_folder().join(format!("{name}.png"));
        let mut import = Command::new("import");
        import.args(["-silent", "-window", "root"]);
        if let Some(part) = part {
            import.args(["-crop", &part, "+repage"]);
        }
        let mut import = import
            .env("DISPLAY", &self.name)
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            if let Some(status) = import.try_wait().ok()? {
                return status.success().then_some(path);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        end(&mut import);
        None
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        end(&mut self.server);
    }
}

/// The app without a driver, for what happens before there is a page; what it says goes into the file.
pub fn start_app(data: &Path, display: &Display, says: File) -> Child {
    app_environment(Command::new(app()), data, display)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(says)
        .spawn()
        .expect("the app starts")
}

/// The command line over the same data as a window.
pub fn command_line_tool(data: &Path) -> Command {
    let mut command = Command::new(app().with_file_name("billion"));
    command
        .env("BILLION_DATA", data.join("billion"))
        .env("HF_HOME", data.join("hub"))
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("BILLION_KEYCHAIN", "off")
        .env_remove("HF_TOKEN")
        // Its lease is its own, whatever else this machine measures.
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Ends a process and waits for it.
pub fn end(process: &mut Child) {
    drop(process.kill());
    drop(process.wait());
}

/// The file beside the app that serves as its engine must be there before anything is tested.
fn app() -> PathBuf {
    let app = PathBuf::from(env!("CARGO_BIN_EXE_billion-app"));
    let engine = app.with_file_name("billion");
    assert!(
        engine.exists(),
        "{} is not built: cargo build -p billion-cli, or run ./test",
        engine.display()
    );
    app
}

fn app_environment(mut command: Command, data: &Path, display: &Display) -> Command {
    command
        .env("BILLION_DATA", data.join("billion"))
        .env("XDG_DATA_HOME", data.join("share"))
        .env("XDG_CACHE_HOME", data.join("cache"))
        .env("XDG_CONFIG_HOME", data.join("config"))
        .env("HF_HOME", data.join("hub"))
        // No test asks the real hub, or touches the keychain of whoever runs it.
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("BILLION_KEYCHAIN", "off")
        .env_remove("HF_TOKEN")
        .env_remove("XDG_RUNTIME_DIR")
        .env("DISPLAY", &display.name)
        .env("GDK_BACKEND", "x11")
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("NO_AT_BRIDGE", "1")
        .env_remove("WAYLAND_DISPLAY");
    command
}

fn tauri_driver() -> PathBuf {
    const NAME: &str = "tauri-driver-2.1.0";
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let cache = std::env::var_os("BILLION_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        base.unwrap_or_else(|| home.join(".cache")).join("billion")
    });
    let driver = cache.join("tools/bin").join(NAME);
    assert!(
        driver.exists(),
        "{} is missing: ./test installs it",
        driver.display()
    );
    driver
}

/// Where pictures and the driver's output go: target/e2e.
fn output_folder() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_billion-app")).parent();
    let target = profile.and_then(Path::parent);
    let folder = target.expect("target/PROFILE/billion-app").join("e2e");
    std::fs::create_dir_all(&folder).expect("a folder beside the build");
    folder
}

fn log(name: &str) -> File {
    File::create(output_folder().join(format!("{name}.log"))).expect("a log beside the build")
}

/// The answer of the driver, or in words why there is none.
async fn in_time<T>(asked: impl Future<Output = Result<T, CmdError>>) -> Result<T, String> {
    match tokio::time::timeout(SOON, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("no answer within {SOON:?}")),
    }
}

fn selector(id: &str) -> String {
    format!("[data-testid=\"{id}\"]")
}

fn by_id(id: &str) -> Value {
    Value::String(selector(id))
}

#[expect(
    clippy::disallowed_types,
    reason = "the driver of this test listens, on this machine only"
)]
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the driver of this test listens, on this machine only"
)]
fn wait_for_port(port: u16) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < SOON, "no driver listens on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn kill(processes: &[u32]) {
    let numbers = processes.iter().map(u32::to_string);
    let killing = Command::new("kill")
        .arg("-9")
        .args(numbers)
        .stderr(Stdio::null())
        .status();
    drop(killing);
}

fn command_line(process: u32) -> String {
    let raw = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ")
}

fn is_alive(process: u32) -> bool {
    !command_line(process).is_empty()
}
