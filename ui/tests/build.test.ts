// @vitest-environment node
// The page that ships: no invented data, nothing inline that the content security policy would refuse, nothing remote.
import { join } from "node:path";
import { build, type Rolldown } from "vite";
import { beforeAll, describe, expect, it } from "vitest";

type Output = Rolldown.RolldownOutput["output"];

async function bundle(mode: string): Promise<Output> {
  const built = await build({
    root: join(import.meta.dirname, ".."),
    mode,
    logLevel: "silent",
    build: { write: false, emptyOutDir: false },
  });
  const [first] = Array.isArray(built) ? built : [built];
  if (first === undefined || !("output" in first)) throw new Error("no bundle");
  return first.output;
}

function text(output: Output): string {
  return output.map((file) => (file.type === "chunk" ? file.code : String(file.source))).join("\n");
}

describe("the page that ships", () => {
  let output: Output;
  let all: string;
  beforeAll(async () => {
    output = await bundle("production");
    all = text(output);
  }, 60_000);

  it("holds no fake program and no invented figure", () => {
    for (const invented of ["fakeIpc", "SmolLM2 135M Instruct", "AMD EPYC", "There is no model"]) {
      expect(all.includes(invented), invented).toBe(false);
    }
    // The same words are found where they belong, so the check above can fail.
    expect(all).toContain("The message was not sent");
  });

  it("runs under a content security policy without unsafe-inline or unsafe-eval", () => {
    const page = output.find((file) => file.fileName === "index.html");
    const html = page?.type === "asset" ? String(page.source) : "";
    expect(html).toContain('<script type="module"');
    expect(html).not.toMatch(/<script(?![^>]*\ssrc=)/);
    expect(html).not.toMatch(/<style|\sstyle=|\son\w+=/);
    expect(all).not.toMatch(/\beval\(|new Function\(/);
    expect(all).not.toMatch(/\sstyle=\\?"/);
  });

  it("asks for nothing from elsewhere", () => {
    const addresses = [...all.matchAll(/https?:\/\/[\w.-]+/g)].map(([address]) => address);
    // Names of XML spaces, Tauri's own bridge, and what error messages of libraries say.
    const harmless = /^https?:\/\/(www\.w3\.org|ipc\.localhost|asset\.localhost|svelte\.dev|github\.com|npmjs\.com)$/;
    expect([...new Set(addresses)].filter((address) => !harmless.test(address))).toEqual([]);
  });
});

it("the fake program is found in the fake build", async () => {
  expect(text(await bundle("fake"))).toContain("fakeIpc");
}, 60_000);
