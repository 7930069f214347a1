// Turns a model's markdown into a tree of plain values. Nothing here or in Markdown.svelte makes HTML from text: what a
// model writes as HTML is shown as the characters it wrote, images are named but not fetched, links are named but lead
// nowhere. So there is nothing to sanitise.
import { Lexer, type Token, type Tokens } from "marked";

export type Inline =
  | { kind: "text"; text: string }
  | { kind: "code"; text: string }
  | { kind: "strong" | "em" | "del"; inside: Inline[] }
  | { kind: "link"; inside: Inline[]; address: string }
  | { kind: "image"; alt: string; address: string }
  | { kind: "break" };

export type Block =
  | { kind: "paragraph"; inside: Inline[] }
  | { kind: "heading"; level: number; inside: Inline[] }
  | { kind: "code"; language: string; text: string }
  | { kind: "quote"; blocks: Block[] }
  | { kind: "list"; ordered: boolean; start: number; items: { checked: boolean | null; blocks: Block[] }[] }
  | { kind: "table"; head: Inline[][]; rows: Inline[][][] }
  | { kind: "rule" };

/** Deeper nesting than this is shown as text, so that a hostile reply cannot exhaust the stack. */
const DEEPEST = 12;

/** Never throws: what cannot be read as markdown is a paragraph of text. */
export function parseMarkdown(source: string): Block[] {
  try {
    return blocks(lex(source), 0);
  } catch {
    return [{ kind: "paragraph", inside: [{ kind: "text", text: source }] }];
  }
}

/**
 * Reads a text that grows at its end without reading all of it again: blocks that more text cannot change are kept.
 * (Only a link whose address is defined further on can look different until the text is read anew.)
 */
export class GrowingMarkdown {
  #text = "";
  /** Characters and blocks that are settled. */
  #settled = 0;
  #blocks: Block[] = [];

  read(text: string): Block[] {
    if (!text.startsWith(this.#text)) {
      this.#settled = 0;
      this.#blocks = [];
    }
    this.#text = text;
    try {
      return this.#readOn(text);
    } catch {
      return parseMarkdown(text);
    }
  }

  #readOn(text: string): Block[] {
    const tokens = lex(text.slice(this.#settled));
    // The last two blocks may still change: a paragraph may become a table, a list may go on after a blank line.
    const kept = tokens.filter((token) => token.type !== "space").at(-3);
    const end = kept === undefined ? 0 : tokens.indexOf(kept) + 1;
    const length = tokens.slice(0, end).reduce((sum, token) => sum + token.raw.length, 0);
    const fresh = blocks(tokens, 0);
    // Settle only what is found again, character by character, in the text itself.
    if (end > 0 && text.startsWith(tokens.slice(0, end).map((token) => token.raw).join(""), this.#settled)) {
      const done = blocks(tokens.slice(0, end), 0);
      const all = [...this.#blocks, ...fresh];
      this.#blocks = [...this.#blocks, ...done];
      this.#settled += length;
      return all;
    }
    return [...this.#blocks, ...fresh];
  }
}

function lex(source: string): Token[] {
  return new Lexer({ gfm: true, breaks: true }).lex(flatten(source));
}

/** Cuts runs of block quote and list markers that only serve to nest without end. */
function flatten(source: string): string {
  return source.replace(/^(?:[ \t]*(?:>|[-*+]|\d{1,9}[.)])(?=[ \t>]|$)){13,}/gm, (run) => run.slice(0, 24));
}

function blocks(tokens: Token[], depth: number): Block[] {
  const out: Block[] = [];
  for (const token of tokens) {
    const block = depth > DEEPEST ? asText(token) : blockOf(token, depth);
    if (block !== null) out.push(block);
  }
  return out;
}

function blockOf(token: Token, depth: number): Block | null {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading":
      return { kind: "heading", level: (token as Tokens.Heading).depth, inside: inlines(token.tokens, depth) };
    case "code": {
      const code = token as Tokens.Code;
      return { kind: "code", language: (code.lang ?? "").split(/\s/)[0] ?? "", text: code.text };
    }
    case "blockquote":
      return { kind: "quote", blocks: blocks(token.tokens ?? [], depth + 1) };
    case "list": {
      const list = token as Tokens.List;
      return {
        kind: "list",
        ordered: list.ordered,
        start: list.start === "" ? 1 : list.start,
        items: list.items.map((item) => ({
          checked: item.task ? item.checked === true : null,
          blocks: blocks(
            item.tokens.filter((inner) => inner.type !== "checkbox"),
            depth + 1,
          ),
        })),
      };
    }
    case "table": {
      const table = token as Tokens.Table;
      return {
        kind: "table",
        head: table.header.map((cell) => inlines(cell.tokens, depth)),
        rows: table.rows.map((row) => row.map((cell) => inlines(cell.tokens, depth))),
      };
    }
    case "hr":
      return { kind: "rule" };
    case "paragraph":
    case "text":
      return token.tokens === undefined ? asText(token) : { kind: "paragraph", inside: inlines(token.tokens, depth) };
    default:
      return asText(token);
  }
}

function asText(token: Token): Block | null {
  const text = token.raw.replace(/\n+$/, "");
  return text === "" ? null : { kind: "paragraph", inside: [{ kind: "text", text }] };
}

function inlines(tokens: Token[] | undefined, depth: number): Inline[] {
  return (tokens ?? []).map((token) => inlineOf(token, depth + 1));
}

function inlineOf(token: Token, depth: number): Inline {
  if (depth > DEEPEST) return { kind: "text", text: token.raw };
  switch (token.type) {
    case "strong":
    case "em":
    case "del":
      return { kind: token.type, inside: inlines(token.tokens, depth) };
    case "codespan":
      return { kind: "code", text: (token as Tokens.Codespan).text };
    case "br":
      return { kind: "break" };
    case "link": {
      const link = token as Tokens.Link;
      return { kind: "link", inside: inlines(link.tokens, depth), address: link.href };
    }
    case "image": {
      const image = token as Tokens.Image;
      return { kind: "image", alt: decode(image.text), address: image.href };
    }
    case "escape":
      return { kind: "text", text: (token as Tokens.Escape).text };
    case "text":
      return { kind: "text", text: decode((token as Tokens.Text).text) };
    default:
      // Raw HTML among others: shown as written.
      return { kind: "text", text: token.raw };
  }
}

const NAMED: Record<string, string> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  ndash: "–",
  mdash: "—",
  hellip: "…",
  times: "×",
  rarr: "→",
  larr: "←",
};

/** Character references of markdown text; the result is only ever shown as text. */
function decode(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,8}));/g, (all, dec, hex, name) => {
    if (name !== undefined) return NAMED[name as string] ?? all;
    const code = dec !== undefined ? Number(dec) : parseInt(hex as string, 16);
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff) ? String.fromCodePoint(code) : "\ufffd";
  });
}
