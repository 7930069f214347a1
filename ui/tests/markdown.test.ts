// What a model writes is shown, and does nothing else: no element of its choosing, no script, no request, no navigation.
import { render } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import Markdown from "../src/markdown/Markdown.svelte";
import { GrowingMarkdown, parseMarkdown } from "../src/markdown/parse";

function show(text: string): HTMLElement {
  return render(Markdown, { text }).container;
}

/** Elements that a reply may become; anything else would be the model's own HTML. */
const KNOWN = new Set(
  "DIV P STRONG EM DEL CODE PRE FIGURE FIGCAPTION BLOCKQUOTE UL OL LI TABLE THEAD TBODY TR TH TD HR BR SPAN BUTTON svg path INPUT".split(" "),
);

function foreign(root: HTMLElement): string[] {
  return [...root.querySelectorAll("*")].map((element) => element.tagName).filter((name) => !KNOWN.has(name));
}

describe("hostile markdown", () => {
  const HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "before <svg onload=alert(1)><circle/></svg> after",
    "<iframe src='https://example.org'></iframe>",
    "<a href='javascript:alert(1)'>here</a>",
    "<style>body{display:none}</style>",
    "<form action=https://example.org><input name=q></form>",
    "[here](javascript:alert(1))",
    "[here](JaVaScRiPt:alert(1) \"title\")",
    "[here](data:text/html,<script>alert(1)</script>)",
    "<javascript:alert(1)>",
    "![pixel](https://example.org/track.png)",
    "[![pixel](https://example.org/track.png)](https://example.org)",
    "[x]: javascript:alert(1)\n\n[x]",
    "| <img src=x onerror=alert(1)> |\n|---|\n| <script>alert(1)</script> |",
    "```html\n<script>alert(1)</script>\n```",
    "# <img src=x onerror=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
  ];

  it.each(HOSTILE)("%s", (text) => {
    const shown = show(text);
    expect(foreign(shown)).toEqual([]);
    expect(shown.querySelectorAll("a, img, script, iframe, style, form, [href], [src], [srcdoc]")).toHaveLength(0);
    for (const element of shown.querySelectorAll("*")) {
      for (const { name } of element.attributes) expect(name.startsWith("on"), name).toBe(false);
    }
  });

  it("shows HTML as the characters that were written", () => {
    expect(show("<img src=x onerror=alert(1)>").textContent).toContain("<img src=x onerror=alert(1)>");
    expect(show("a <b>c</b>").textContent).toContain("a <b>c</b>");
  });

  it("does not run out of stack on endless nesting", () => {
    for (const text of [">".repeat(20_000) + " x", "- ".repeat(3000) + "x", "*".repeat(5000) + "x" + "*".repeat(5000), "[".repeat(5000), "![".repeat(3000)]) {
      expect(show(text).textContent).toContain(text.includes("x") ? "x" : "[");
    }
  }, 20_000);
});

describe("markdown", () => {
  it("becomes the elements it names", () => {
    const shown = show(
      "# Title\n\nA **bold** and *slanted* `code`.\n\n- one\n- two\n\n3. three\n\n> said\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---\n",
    );
    expect(shown.querySelector("[role=heading]")?.textContent).toBe("Title");
    expect(shown.querySelector("strong")?.textContent).toBe("bold");
    expect(shown.querySelector("em")?.textContent).toBe("slanted");
    expect(shown.querySelector("p code")?.textContent).toBe("code");
    expect([...shown.querySelectorAll("ul li")].map((item) => item.textContent?.trim())).toEqual(["one", "two"]);
    expect(shown.querySelector("ol")?.getAttribute("start")).toBe("3");
    expect(shown.querySelector("blockquote")?.textContent?.trim()).toBe("said");
    expect([...shown.querySelectorAll("td")].map((cell) => cell.textContent)).toEqual(["1", "2"]);
    expect(shown.querySelector("hr")).not.toBeNull();
  });

  it("keeps code as it is, with its language and a button to copy it", () => {
    const shown = show("```rust\nlet a = &b; // <x> &amp;\n```");
    expect(shown.querySelector("pre")?.textContent).toBe("let a = &b; // <x> &amp;");
    expect(shown.querySelector("figcaption")?.textContent).toContain("rust");
    expect(shown.querySelector("[data-testid=copy-code]")).not.toBeNull();
  });

  it("names links and their address, and pictures, without following them", () => {
    expect(show("[docs](https://example.org/a)").textContent).toContain("docs (https://example.org/a)");
    expect(show("![a cat](https://example.org/cat.png)").textContent).toContain("[image: a cat]");
  });

  it("keeps the spaces between words and marks", () => {
    expect(show("one **two** three `four` five").textContent?.trim()).toBe("one two three four five");
  });

  it("reads a growing text as it reads the whole one", () => {
    const whole =
      "# One\n\nA *b*\nc\n\n1. x\n\n   more\n2. y\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nlet a;\n\nlet b;\n```\n\n> q\n> r\n\n- [x] t\n- u\n\nTitle\n---\n\nEnd **of** it.\n\n---\n\nlast";
    for (const step of [1, 3, 7, 40]) {
      const reader = new GrowingMarkdown();
      for (let end = 0; end <= whole.length; end += step) {
        expect(reader.read(whole.slice(0, end)), `${end}`).toEqual(parseMarkdown(whole.slice(0, end)));
      }
      expect(reader.read(whole)).toEqual(parseMarkdown(whole));
      // Another text altogether.
      expect(reader.read("new *text*")).toEqual(parseMarkdown("new *text*"));
    }
  });

  it("takes no longer for a chunk at the end of a long reply than at its start", () => {
    const part = "Hello **world** and `x` [a](b).\n\n- item\n- item\n\n";
    const reader = new GrowingMarkdown();
    let text = "";
    for (let n = 0; n < 1500; n += 1) text += part;
    for (let n = 0; n < text.length; n += 500) reader.read(text.slice(0, n));
    const began = performance.now();
    for (let n = 0; n < 50; n += 1) reader.read((text += "word "));
    // Reading all 70 kB again would take seconds; the bound is far above what is needed, for slow machines.
    expect(performance.now() - began).toBeLessThan(1000);
  });

  it("shows unfinished markdown while it streams", () => {
    const whole = "Text\n\n```js\nlet a = 1;\n```\n\n| a |\n|---|\n| 1 |";
    for (let end = 0; end <= whole.length; end += 1) expect(() => parseMarkdown(whole.slice(0, end))).not.toThrow();
    expect(show("```js\nlet a").querySelector("pre")?.textContent).toBe("let a");
  });
});
