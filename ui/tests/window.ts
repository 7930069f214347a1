// The whole window on a fake program, and the few gestures that tests share.
import { fireEvent, render, screen, waitFor } from "@testing-library/svelte";
import App from "../src/shell/App.svelte";
import { FakeIpc, type FakeOptions } from "../src/ipc/fake";

export async function openWindow(options: FakeOptions = {}): Promise<FakeIpc> {
  const ipc = new FakeIpc(options);
  await openOn(ipc);
  return ipc;
}

export async function openOn(ipc: FakeIpc): Promise<void> {
  render(App, { ipc });
  await screen.findByTestId("view-scorecard");
  await waitFor(() => screen.getByTestId("nav-chat"));
}

export async function press(testid: string): Promise<void> {
  await fireEvent.click(await screen.findByTestId(testid));
}

export async function type(testid: string, text: string): Promise<void> {
  await fireEvent.input(await screen.findByTestId(testid), { target: { value: text } });
}

export async function key(name: string, options: KeyboardEventInit = {}): Promise<void> {
  await fireEvent.keyDown(document.activeElement ?? document.body, { key: name, bubbles: true, ...options });
}

/** Opens Chat with these models chosen. */
export async function openChat(models: string[] = ["starter"]): Promise<void> {
  await press("nav-chat");
  await press("chat-models");
  for (const model of models) {
    const box = (await screen.findByTestId(`chat-model-${model}`)) as HTMLInputElement;
    if (!box.checked) await fireEvent.click(box);
  }
  await press("chat-models");
}

export async function say(text: string): Promise<void> {
  await type("chat-input", text);
  await fireEvent.keyDown(screen.getByTestId("chat-input"), { key: "Enter" });
}

/** The reply of a column in the last turn that holds replies. */
export function reply(column = 0): HTMLElement {
  const all = screen.getAllByTestId(`reply-${column}`);
  const last = all.at(-1);
  if (last === undefined) throw new Error(`no reply in column ${column}`);
  return last;
}

export async function finished(column = 0): Promise<HTMLElement> {
  return waitFor(() => {
    const found = reply(column);
    if (found.dataset["state"] !== "finished" && found.dataset["state"] !== "error") {
      throw new Error(`still ${found.dataset["state"]}`);
    }
    if (screen.queryByTestId("chat-stop") !== null) throw new Error("still answering");
    return found;
  });
}
