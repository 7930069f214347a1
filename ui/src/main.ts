// Entry point: the locale guard first, then the program behind the window, then the window.
import "./locale";

async function start(): Promise<void> {
  const [{ mount }, { default: App }, ipc] = await Promise.all([
    import("svelte"),
    import("./shell/App.svelte"),
    import.meta.env.MODE === "fake"
      ? import("./ipc/fake").then(({ FakeIpc }) => FakeIpc.forBrowser())
      : import("./ipc/tauri").then(({ tauriIpc }) => tauriIpc),
  ]);
  const target = document.getElementById("app");
  if (target === null) throw new Error("index.html has no #app");
  mount(App, { target, props: { ipc } });
}

void start();
