// Svelte compiler options: runes everywhere; CSS in files, never in a style element (content security policy).
import { vitePreprocess } from "@sveltejs/vite-plugin-svelte";

export default {
  preprocess: vitePreprocess({ script: false }),
  compilerOptions: { runes: true, css: "external" },
};
