// The real side of the interface, on Tauri's own mock of its bridge.
import { clearMocks, mockIPC } from "@tauri-apps/api/mocks";
import { afterEach, describe, expect, it } from "vitest";
import type { ChatEvent, ChatSend, Job } from "../src/ipc";
import { tauriIpc } from "../src/ipc/tauri";

interface Sink<T> {
  onmessage: (message: T) => void;
}

const SEND: ChatSend = { chat: null, models: ["starter"], keep_turns: null, text: "Hello", options: {} };

afterEach(() => clearMocks());

describe("commands", () => {
  it("pass their arguments and give the result", async () => {
    const asked: unknown[] = [];
    mockIPC((command, args) => {
      asked.push([command, args]);
      return [];
    });
    expect(await tauriIpc.listChats("whale")).toEqual([]);
    await tauriIpc.dismissJob(7);
    await tauriIpc.checkPair("smollm2-1.7b", { kind: "model", model: "starter" });
    expect(asked).toEqual([
      ["list_chats", { search: "whale" }],
      ["dismiss_job", { id: 7 }],
      ["check_pair", { target: "smollm2-1.7b", drafter: { kind: "model", model: "starter" } }],
    ]);
  });

  it("reject with the program's own error, and with words for any other", async () => {
    mockIPC(() => {
      throw { code: "busy", message: "Job 7 holds the machine." };
    });
    await expect(tauriIpc.listRuns()).rejects.toEqual({ code: "busy", message: "Job 7 holds the machine." });
    mockIPC(() => {
      throw "command list_runs not found";
    });
    await expect(tauriIpc.listRuns()).rejects.toEqual({ code: "failed", message: "command list_runs not found" });
  });

  it("hear of jobs for as long as the window lives", async () => {
    let sink: Sink<Job[]> | undefined;
    mockIPC((_, args) => {
      sink = (args as { events: Sink<Job[]> }).events;
      return null;
    });
    const heard: number[] = [];
    await tauriIpc.watchJobs((jobs) => heard.push(jobs.length));
    sink?.onmessage([]);
    sink?.onmessage([{} as Job]);
    expect(heard).toEqual([0, 1]);
  });
});

describe("a chat", () => {
  it("is not over before its last event has come, even if the command's result overtakes it", async () => {
    const order: string[] = [];
    mockIPC((_, args) => {
      const { events } = args as { events: Sink<ChatEvent> };
      setTimeout(() => events.onmessage({ kind: "saved", chat: 1, title: "Hello" }), 5);
      setTimeout(() => events.onmessage({ kind: "done" }), 20);
      return null;
    });
    await tauriIpc.sendChat(SEND, (event) => order.push(event.kind)).then(() => order.push("over"));
    expect(order).toEqual(["saved", "done", "over"]);
  });

  it("fails at once when the command fails", async () => {
    mockIPC(() => {
      throw { code: "failed", message: "choose at least one model to answer" };
    });
    await expect(tauriIpc.sendChat(SEND, () => {})).rejects.toMatchObject({ message: "choose at least one model to answer" });
  });
});

describe("the file dialog", () => {
  it("gives the path, or nothing when it was closed", async () => {
    const asked: unknown[] = [];
    mockIPC((command, args) => {
      asked.push([command, args]);
      return asked.length === 1 ? "/tmp/a.gguf" : null;
    });
    expect(await tauriIpc.pickModelFile()).toBe("/tmp/a.gguf");
    expect(await tauriIpc.pickModelFolder()).toBeNull();
    expect(asked[0]).toMatchObject(["plugin:dialog|open", { options: { filters: [{ extensions: ["gguf"] }] } }]);
    expect(asked[1]).toMatchObject(["plugin:dialog|open", { options: { directory: true } }]);
  });
});
