// Chat: streaming, stopping, comparing, a worker that dies, answering again, editing, base models, options, history.
import { fireEvent, screen, waitFor, within } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { FakeIpc } from "../src/ipc/fake";
import { finished, key, openChat, openOn, openWindow, press, reply, say, type } from "./window";

describe("a reply", () => {
  it("streams in, and ends with its speed and its reason", async () => {
    const ipc = await openWindow({ paceMs: 5, reply: "One two three four five six." });
    await openChat();
    await say("Count");
    expect(screen.getByTestId("user-text").textContent).toContain("Count");
    await waitFor(() => expect(reply().dataset["state"]).toBe("writing"));
    const part = within(reply()).getByTestId("reply-text").textContent ?? "";
    expect("One two three four five six.".startsWith(part.trim())).toBe(true);
    const done = await finished();
    expect(within(done).getByTestId("reply-text").textContent?.trim()).toBe("One two three four five six.");
    const stats = within(done).getByTestId("reply-stats").textContent;
    expect(stats).toContain("152\u202ftok/s");
    expect(stats).toContain("first token 183\u202fms");
    expect(stats).toContain("6 tokens");
    expect(stats).toContain("finished");
    expect(ipc.sent).toHaveLength(1);
    expect(ipc.sent[0]).toMatchObject({ chat: null, models: ["starter"], keep_turns: null, text: "Count" });
    expect(ipc.sent[0]?.options).toMatchObject({ temperature: 0, max_tokens: 512, system: null });
  });

  it("says what the model does before the first token", async () => {
    await openWindow({ paceMs: 30 });
    await openChat();
    await say("Hello");
    await waitFor(() => expect(screen.getByTestId("reply-status").textContent).toContain("Loading the model"));
    await waitFor(() => expect(screen.getByTestId("reply-status").textContent).toContain("Reading the prompt: 42 of 42"));
  });

  it("stops when asked, keeps what was said, and says who stopped it", async () => {
    await openWindow({ paceMs: 10, reply: "word ".repeat(300) });
    await openChat();
    await say("Talk");
    await waitFor(() => expect(reply().dataset["state"]).toBe("writing"));
    await press("chat-stop");
    const done = await finished();
    expect(within(done).getByTestId("reply-stats").textContent).toContain("stopped by you");
    expect(within(done).getByTestId("reply-text").textContent).toContain("word");
    expect(screen.getByTestId("chat-send")).toBeTruthy();
  });

  it("goes on while another view is open", async () => {
    await openWindow({ paceMs: 3, reply: "One two three." });
    await openChat();
    await say("Count");
    await press("nav-models");
    await new Promise((resolve) => setTimeout(resolve, 80));
    await press("nav-chat");
    expect(within(await finished()).getByTestId("reply-text").textContent?.trim()).toBe("One two three.");
  });
});

describe("a worker that dies", () => {
  it("leaves the text so far, the reason, and a way to try again", async () => {
    const ipc = await openWindow({ reply: "One two three four five six." });
    await openChat();
    ipc.breakNext = { model: "starter", error: { code: "worker_died", message: "killed (signal 9) with 2.1 GB in use" } };
    await say("Count");
    const broken = await finished();
    expect(broken.dataset["state"]).toBe("error");
    const note = within(broken).getByTestId("reply-error");
    expect(note.dataset["code"]).toBe("worker_died");
    expect(note.textContent).toContain("Killed (signal 9) with 2.1 GB in use.");
    expect(within(broken).getByTestId("reply-text").textContent?.trim()).toBe("One two three");
    await fireEvent.click(within(broken).getByTestId("reply-try-again"));
    const done = await finished();
    expect(done.dataset["state"]).toBe("finished");
    expect(ipc.sent[1]).toMatchObject({ keep_turns: 1, text: null });
    expect(screen.queryByTestId("reply-error")).toBeNull();
  });
});

describe("comparing", () => {
  it("sends one message to each model and shows the replies side by side", async () => {
    const ipc = await openWindow({ reply: "Yes." });
    await openChat(["starter", "tinyllama-1.1b-chat"]);
    await say("Well?");
    await finished(0);
    await finished(1);
    expect(ipc.sent[0]?.models).toEqual(["starter", "tinyllama-1.1b-chat"]);
    expect(reply(0).textContent).toContain("SmolLM2 135M Instruct");
    expect(reply(1).textContent).toContain("TinyLlama 1.1B Chat");
    expect(screen.getAllByTestId(/^reply-\d$/)).toHaveLength(2);
  });

  it("shows that a model waits for its turn", async () => {
    await openWindow({ paceMs: 15 });
    await openChat(["starter", "tinyllama-1.1b-chat"]);
    await say("Well?");
    await waitFor(() => expect(within(reply(1)).getByTestId("reply-status").textContent).toContain("Waits for the model before it"));
  });

  it("can begin in the middle of a chat, and leaves the earlier replies as they were", async () => {
    const ipc = await openWindow({ reply: "Yes." });
    await openChat();
    await say("One");
    await finished();
    await openChat(["starter", "tinyllama-1.1b-chat"]);
    expect(screen.getAllByTestId("reply-0")).toHaveLength(1);
    await say("Two");
    await finished(1);
    expect(ipc.sent[1]).toMatchObject({ chat: ipc.chats[0]?.id, models: ["starter", "tinyllama-1.1b-chat"] });
    expect(ipc.chats).toHaveLength(1);
    expect(screen.getAllByTestId("reply-0")).toHaveLength(2);
    expect(screen.getAllByTestId("reply-1")).toHaveLength(1);
  });

  it("does not change models while they answer", async () => {
    await openWindow({ paceMs: 20 });
    await openChat();
    await say("One");
    await press("chat-models");
    expect((screen.getByTestId("chat-model-tinyllama-1.1b-chat") as HTMLInputElement).disabled).toBe(true);
  });
});

describe("going back", () => {
  it("answers again, replacing the reply", async () => {
    const ipc = await openWindow({ reply: "First." });
    await openChat();
    await say("Well?");
    await finished();
    ipc.reply = "Second.";
    await press("chat-regenerate");
    await finished();
    expect(screen.getAllByTestId("reply-0")).toHaveLength(1);
    expect(reply().textContent).toContain("Second.");
    expect(ipc.chats[0]?.turns).toHaveLength(2);
  });

  it("edits an earlier message, and drops what followed it", async () => {
    const ipc = await openWindow({ reply: "Yes." });
    await openChat();
    await say("One");
    await finished();
    await say("Two");
    await waitFor(() => expect(screen.getAllByTestId("reply-0")).toHaveLength(2));
    await finished();
    await press("edit-0");
    expect((screen.getByTestId("edit-input") as HTMLTextAreaElement).value).toBe("One");
    await type("edit-input", "Uno");
    await press("edit-send");
    await finished();
    expect(ipc.sent[2]).toMatchObject({ keep_turns: 0, text: "Uno" });
    expect(screen.getAllByTestId("user-text").map((text) => text.textContent)).toEqual(["You: Uno"]);
  });

  it("gives the draft back when nothing could be sent", async () => {
    const ipc = await openWindow();
    await openChat();
    ipc.models = [];
    await say("Hello");
    expect((await screen.findByTestId("chat-error")).textContent).toContain("There is no model “starter”");
    expect((screen.getByTestId("chat-input") as HTMLTextAreaElement).value).toBe("Hello");
    expect(screen.queryByTestId("user-text")).toBeNull();
  });
});

describe("a message that was never answered", () => {
  it("can be answered when its chat is opened again", async () => {
    const ipc = new FakeIpc({ reply: "Here I am." });
    ipc.chats.push({
      id: 50,
      title: "Hello",
      models: ["starter"],
      options: {},
      turns: [{ kind: "user", text: "Hello" }],
      updated_at: 0,
    });
    await openOn(ipc);
    await press("nav-chat");
    await press("chat-open-50");
    expect((await screen.findByTestId("chat-unanswered")).textContent).toContain("Not answered");
    await press("chat-answer");
    expect((await finished()).textContent).toContain("Here I am.");
    expect(ipc.sent[0]).toMatchObject({ chat: 50, keep_turns: 1, text: null });
    expect(ipc.sent[0]?.options).toMatchObject({ max_tokens: 512 });
    expect(screen.queryByTestId("chat-unanswered")).toBeNull();
  });
});

describe("a base model", () => {
  it("gets a box for text to continue, and why", async () => {
    const ipc = await openWindow({ reply: "there was a *king*" });
    await press("nav-models");
    await press("model-chat-pythia-1b");
    const note = await screen.findByTestId("completion-note");
    expect(note.textContent).toContain("Pythia 1B is a base model without a chat template");
    expect(screen.getByTestId("chat-input").getAttribute("aria-label")).toBe("Text to continue");
    expect(note.textContent).not.toContain("added to the end");
    await say("Once upon a time");
    const done = await finished();
    // Continued text is text, not markdown.
    expect(within(done).getByTestId("reply-text").textContent).toContain("*king*");
    expect(ipc.sent[0]?.models).toEqual(["pythia-1b"]);
    expect(screen.getByTestId("completion-note").textContent).toContain("added to the end");
  });
});

describe("options", () => {
  it("are sent with the next message; what is out of bounds is not", async () => {
    const ipc = await openWindow({ reply: "one two three four" });
    await openChat();
    await press("chat-options");
    await type("option-max-tokens", "2");
    await type("option-temperature", "0.7");
    await type("option-top-p", "7");
    expect(screen.getByText("Give a number from 0 to 1.")).toBeTruthy();
    await type("option-system", "Be brief.");
    await type("option-stop", "END\n\\n\\n");
    await say("Well?");
    const done = await finished();
    expect(ipc.sent[0]?.options).toMatchObject({
      max_tokens: 2,
      temperature: 0.7,
      top_p: 1,
      system: "Be brief.",
      stop: ["END", "\n\n"],
    });
    expect(within(done).getByTestId("reply-stats").textContent).toContain("stopped at the token limit");
  });
});

describe("the history", () => {
  it("shows the chat that was chosen last, whichever is read first", async () => {
    const ipc = new FakeIpc();
    for (const [id, text] of [[1, "slow"], [2, "fast"]] as const) {
      ipc.chats.push({ id, title: text, models: ["starter"], options: {}, turns: [{ kind: "user", text }], updated_at: id });
    }
    const load = ipc.loadChat.bind(ipc);
    ipc.loadChat = async (id) => {
      const chat = await load(id);
      await new Promise((resolve) => setTimeout(resolve, id === 1 ? 60 : 5));
      return chat;
    };
    await openOn(ipc);
    await press("nav-chat");
    await press("chat-open-1");
    await press("chat-open-2");
    await waitFor(() => expect(screen.getByTestId("user-text").textContent).toContain("fast"));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(screen.getByTestId("user-text").textContent).toContain("fast");
  });

  it("finds, opens and deletes chats", async () => {
    const ipc = await openWindow({ reply: "Yes." });
    await openChat();
    await say("About whales");
    await finished();
    await key("n", { ctrlKey: true });
    await waitFor(() => expect(screen.queryByTestId("reply-0")).toBeNull());
    await say("About stars");
    await finished();
    const [whales, stars] = ipc.chats.map((chat) => chat.id);
    await type("chat-search", "whale");
    await waitFor(() => expect(screen.queryByTestId(`chat-open-${stars}`)).toBeNull());
    await press(`chat-open-${whales}`);
    await waitFor(() => expect(screen.getByTestId("user-text").textContent).toContain("About whales"));
    await press(`chat-delete-${whales}`);
    await press("confirm-delete");
    await waitFor(() => expect(ipc.chats.map((chat) => chat.id)).toEqual([stars]));
    expect(screen.queryByTestId("user-text")).toBeNull();
  });
});
