// What a chart draws is what its table says is what the data holds.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cleanup, fireEvent, render, screen, within } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { linear, logarithmic } from "../src/charts/scale";
import { placeLabels } from "../src/charts/labels";
import type { ChartData, SpeculationRequest } from "../src/ipc";
import { FakeIpc } from "../src/ipc/fake";
import { checkpointChart, storedCharts, subjectChart } from "../src/ipc/fakeCharts";
import { fakeModels, fakeScorecard } from "../src/ipc/fakeData";
import { fakeReport, labCharts } from "../src/ipc/fakeSpeculation";
import ChartOnApp from "./ChartOnApp.svelte";

const models = fakeModels().filter((model) => model.problem === null);
const { charts: measured } = fakeScorecard(1, 0, "standard", models, 100);
const LAB: SpeculationRequest = {
  target: "starter", drafter: { kind: "lookup" }, k: "auto", kinds: ["chat", "code"], prompts: [], raw: false, temperature: 0, seed: 0, max_tokens: 64, repeat: 3, sweep: false,
};
const subjects = Array.from({ length: 57 }, (_, at) => `subject_${at}`);
const heat = subjectChart(subjects, models);
const charts = [...measured, ...storedCharts(models), checkpointChart(models)];

function draw(data: ChartData): HTMLElement {
  render(ChartOnApp, { data, ipc: new FakeIpc() });
  return screen.getByTestId("chart");
}

const digits = (text: string | undefined): number => Number(text?.replace(/[^\d.]/g, ""));

function tableOf(chart: HTMLElement): string[][] {
  return [...within(chart).getByTestId("chart-table").querySelectorAll("tbody tr")].map((row) =>
    [...row.children].map((cell) => cell.textContent?.trim() ?? ""),
  );
}

describe("a chart and its table", () => {
  it("exist in every form", () => {
    expect(new Set([...charts, heat].map((chart) => chart.form))).toEqual(new Set(["dots", "scatter", "line", "heat_map"]));
  });

  it.each(charts.map((chart) => [chart.title, chart] as const))("%s", (_, data) => {
    const chart = draw(data);
    const points = data.series.flatMap((series) => series.points.map((point) => ({ ...point, name: series.name })));
    const marks = data.series.flatMap((series) => series.marks);
    expect(points.length).toBeGreaterThan(0);
    // Drawn: each point once, at its own value.
    const drawn = within(chart).getAllByTestId("chart-point").map((point) => Number(point.dataset["y"]));
    expect([...drawn].sort()).toEqual(points.map((point) => point.y).sort());
    // Told: a row for each point and mark, with name, value and interval.
    const all = tableOf(chart);
    expect(all).toHaveLength(points.length + marks.length);
    const rows = all.filter((row) => !/, (published|claimed)$/.test(row[0] ?? ""));
    points.forEach((point, line) => {
      const row = rows[line] ?? [];
      expect(row[0]).toBe(point.name);
      expect(digits(row[data.form === "dots" ? 1 : 2]) / point.y).toBeCloseTo(1, 1);
      if (point.lo !== null && point.hi !== null) {
        const [lo, hi] = (row.at(-1) ?? "").split("–");
        expect(Math.abs(digits(lo) - point.lo)).toBeLessThanOrEqual(0.05 * point.hi);
        expect(Math.abs(digits(hi) - point.hi)).toBeLessThanOrEqual(0.05 * point.hi);
      }
    });
  });

  it("keep two series of one model apart: a row each, the second one hollow", () => {
    const [data] = labCharts(fakeReport(1, LAB, { differs: false, pays: true }));
    if (data === undefined) throw new Error("no chart");
    const chart = draw(data);
    const points = within(chart).getAllByTestId("chart-point");
    expect(points).toHaveLength(4);
    expect(new Set(points.map((point) => point.getAttribute("transform")?.replace(/translate\([\d.]+/, ""))).size).toBe(4);
    const [measuredFill, , predictedFill] = points.map((point) => point.getAttribute("fill"));
    expect(measuredFill).toMatch(/series/);
    expect(predictedFill).toBe("var(--surface)");
    expect(tableOf(chart).map((row) => row.slice(0, 2))).toEqual([["measured", "Chat"], ["measured", "Code"], ["predicted", "Chat"], ["predicted", "Code"]]);
    expect(within(chart).getByTestId("chart-table").querySelector("th")?.textContent).toBe("Series");
  });

  it("hold every cell of a heat map", () => {
    const chart = draw(heat);
    const cells = within(chart).getAllByTestId("chart-point");
    expect(cells).toHaveLength(57 * models.length);
    const rows = tableOf(chart);
    expect(rows).toHaveLength(57);
    expect(rows[0]?.[0]).toBe("subject 0");
    rows.forEach((row, x) =>
      models.forEach((_, y) => expect(digits(row[y + 1])).toBe(heat.series[y]?.points[x]?.value)),
    );
    // The larger value has more of the high colour.
    const share = (cell: HTMLElement): number => Number(/ ([\d.]+)%/.exec(cell.getAttribute("fill") ?? "")?.[1]);
    for (const [a, b] of [[0, 1], [2, 7], [30, 90]] as const) {
      const [first, second] = [cells[a], cells[b]];
      if (first === undefined || second === undefined) throw new Error("no cell");
      const order = Number(first.dataset["value"]) - Number(second.dataset["value"]);
      expect(Math.sign(share(first) - share(second))).toBe(Math.sign(order));
    }
  });

  it("place points by their values", () => {
    const mmlu = measured[0];
    if (mmlu === undefined) throw new Error("no chart");
    const at = within(draw(mmlu))
      .getAllByTestId("chart-point")
      .map((point) => ({
        value: Number(point.dataset["y"]),
        x: Number(/translate\(([\d.]+)/.exec(point.getAttribute("transform") ?? "")?.[1]),
      }))
      .sort((a, b) => a.value - b.value);
    expect(at.length).toBeGreaterThan(2);
    for (let n = 2; n < at.length; n += 1) {
      const [a, b, c] = [at[n - 2], at[n - 1], at[n]];
      if (a === undefined || b === undefined || c === undefined || a.value === b.value) continue;
      expect((c.x - b.x) / (b.x - a.x)).toBeCloseTo((c.value - b.value) / (b.value - a.value), 3);
    }
  });

  it("give a model the same colour and marker in every chart, as in its table", () => {
    const looks = new Set<string>();
    for (const data of measured) {
      const chart = draw(data);
      for (const point of within(chart).getAllByTestId("chart-point")) {
        looks.add(`${point.dataset["model"]} ${point.getAttribute("fill")} ${point.getAttribute("d")?.split("Z")[0]}`);
      }
      cleanup();
    }
    expect(looks.size).toBe(models.length);
    expect(new Set([...looks].map((look) => look.split(" ")[1])).size).toBe(models.length);
  });
});

describe("what others say", () => {
  it("is drawn apart from what was measured, and named", () => {
    const mmlu = measured[0];
    if (mmlu === undefined) throw new Error("no chart");
    const chart = draw(mmlu);
    const marks = mmlu.series.flatMap((series) => series.marks);
    expect(new Set(marks.map((mark) => mark.kind))).toEqual(new Set(["published", "claimed"]));
    for (const kind of ["published", "claimed"]) {
      expect(chart.querySelectorAll(`.${kind} > [data-spot]`)).toHaveLength(marks.filter((mark) => mark.kind === kind).length);
    }
    expect(within(chart).getByTestId("chart-marks").textContent).toContain("claimed by the article");
    expect(tableOf(chart).filter((row) => row[0]?.endsWith(", published"))).toHaveLength(
      marks.filter((mark) => mark.kind === "published").length,
    );
  });
});

describe("the keyboard", () => {
  it("steps through the values of a chart", async () => {
    const mmlu = measured[0];
    if (mmlu === undefined) throw new Error("no chart");
    const chart = draw(mmlu);
    const picture = within(chart).getByTestId("chart-picture");
    expect(picture.tabIndex).toBe(0);
    await fireEvent.keyDown(picture, { key: "ArrowRight" });
    const first = within(chart).getByTestId("chart-tip").textContent ?? "";
    expect(first).toContain(models[0]?.name);
    expect(first).toContain("MMLU accuracy: 31.0\u202f%");
    expect(within(chart).getByRole("status").textContent).toContain("31.0");
    await fireEvent.keyDown(picture, { key: "End" });
    expect(within(chart).getByTestId("chart-tip").textContent).not.toBe(first);
    await fireEvent.keyDown(picture, { key: "ArrowRight" });
    expect(within(chart).getByTestId("chart-tip").textContent).toBe(first);
    await fireEvent.keyDown(picture, { key: "Escape" });
    expect(within(chart).queryByTestId("chart-tip")).toBeNull();
  });
});

describe("the content security policy", () => {
  it("allows the one style rule that Plot writes, by its hash, and no other", () => {
    const mmlu = measured[0];
    if (mmlu === undefined) throw new Error("no chart");
    const chart = draw(mmlu);
    const styles = [...chart.querySelectorAll("style")].map((style) => style.textContent ?? "");
    expect(styles).toHaveLength(1);
    const hash = createHash("sha256").update(styles[0] ?? "").digest("base64");
    const configured = JSON.parse(readFileSync(join(import.meta.dirname, "../../tauri.conf.json"), "utf8"));
    expect(configured.app.security.csp).toContain(`style-src 'self' 'sha256-${hash}';`);
    expect(configured.app.security.csp).not.toContain("unsafe");
  });
});

describe("a scale", () => {
  it("holds every value between round ticks", () => {
    const scale = linear([0.223, 0.477], 0, 100, 500);
    expect(scale.min).toBe(0);
    expect(scale.max).toBeGreaterThanOrEqual(0.477);
    expect(scale.at(0)).toBe(100);
    expect(scale.ticks).toEqual([0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5]);
  });

  it("survives one value, zero, and none", () => {
    for (const values of [[5], [0], [], [Number.NaN], [-3]]) {
      for (const scale of [linear(values, null, 0, 100), logarithmic(values, 0, 100)]) {
        expect(scale.max).toBeGreaterThan(scale.min);
        expect(scale.ticks.length).toBeLessThan(20);
        expect(scale.at(scale.min)).toBe(0);
      }
    }
  });

  it("gives equal ratios equal steps where it is logarithmic", () => {
    const scale = logarithmic([0.135, 6.9], 0, 100);
    expect([scale.min, scale.max]).toEqual([0.1, 10]);
    expect(scale.at(1)).toBeCloseTo(50, 9);
    expect(scale.ticks).toEqual([0.1, 0.2, 0.5, 1, 2, 5, 10]);
    expect(logarithmic([1, 900_000], 0, 100).ticks).toEqual([1, 10, 100, 1000, 10_000, 100_000, 1_000_000]);
  });
});

describe("labels of dots", () => {
  it("keep off each other where there is room", () => {
    const box = { left: 0, right: 600, top: 0, bottom: 300 };
    const labels = placeLabels(
      [
        { x: 100, y: 100, text: "First model" },
        { x: 104, y: 102, text: "Second model" },
        { x: 590, y: 100, text: "At the right edge" },
      ],
      box,
    );
    expect(labels[2]?.anchor).toBe("end");
    expect(labels[0]).not.toEqual(labels[1]);
  });
});
