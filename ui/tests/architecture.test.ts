// Rules of the folder layout that the compiler does not enforce.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, it } from "vitest";

const SRC = join(import.meta.dirname, "../src");
const files = readdirSync(SRC, { recursive: true, withFileTypes: true })
  .filter((file) => file.isFile() && /\.(ts|svelte)$/.test(file.name))
  .map((file) => {
    const path = relative(SRC, join(file.parentPath, file.name));
    return { path, text: readFileSync(join(SRC, path), "utf8") };
  });

describe("the layout of the window's sources", () => {
  it("finds the sources", () => {
    expect(files.length).toBeGreaterThan(40);
  });

  it("imports Tauri only in ipc", () => {
    const wrong = files.filter(({ path, text }) => !path.startsWith("ipc/") && /from "@tauri-apps|import\("@tauri-apps/.test(text));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  it("keeps features apart from each other", () => {
    const wrong = files.flatMap(({ path, text }) => {
      const own = /^features\/([^/]+)\//.exec(path)?.[1];
      if (own === undefined) return [];
      return [...text.matchAll(/from "\.\.\/([^./"]+)\//g)].map((found) => `${path} -> ${found[1]}`);
    });
    expect(wrong).toEqual([]);
  });

  it("makes no HTML from text, and no inline script or style", () => {
    const wrong = files.filter(({ text }) => /\{@html|innerHTML|eval\(|new Function|\sstyle="|\son\w+="/.test(text));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  it("says at the top of each file what it owns, and keeps files short", () => {
    const own = files.filter(({ path }) => path !== "ipc/bindings.ts");
    expect(own.filter(({ text }) => !/^(\/\/ |<!-- )/.test(text)).map(({ path }) => path)).toEqual([]);
    expect(own.filter(({ text }) => text.split("\n").length > 500).map(({ path }) => path)).toEqual([]);
  });
});
